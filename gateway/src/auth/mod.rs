//! Access control: whether a request is admitted, on every route, before any handler sees the request.
//!
//! The checks in their order: the request's form, `Host`, `Origin`, credentials. A peer address never gives authority.

mod names;
mod peer;
mod preauth;
mod refusal;
mod tally;
mod throttle;

use std::{sync::Arc, time::Instant};

use axum::http::{HeaderMap, HeaderValue, Request, Version, header};
use switchboard_core::ids::Principal;
use switchboard_runtime::{Admission, Verifier};
use switchboard_transport_ws::is_upgrade;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::{paths, token::Tokens};
use tally::Refusals;
use throttle::WrongToken;

pub use names::{Authority, Host, Names, Origin};
pub(crate) use peer::AuthMethod;
pub use peer::PeerAddress;
pub use preauth::PreAuth;
pub(crate) use preauth::PreAuthState;
pub(crate) use refusal::Refusal;
pub use throttle::Throttle;

/// What a request must show before it is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No credentials: the request is for a file of the static page or is a CORS preflight, neither of which is secret.
    Open,
    /// Credentials: the request is for anything else.
    Credentials,
}

/// Admits or refuses every HTTP request.
#[derive(Debug)]
pub struct AccessControl {
    names: Names,
    /// `None` with `--no-auth`: every request that passes the other checks acts as the owner.
    authenticator: Option<Arc<Authenticator>>,
    tally: Arc<Refusals>,
}

/// Checks tokens, counts wrong tokens per address, and limits connections that have yet to send a token.
#[derive(Debug)]
pub struct Authenticator {
    tokens: Tokens,
    throttle: Throttle,
    preauth_permits: Arc<Semaphore>,
}

impl Authenticator {
    /// Accepts `tokens` and counts other tokens in `throttle`. At most `preauth_permits` WebSocket connections may
    /// wait for their first frame, which carries the token, at the same time.
    pub fn new(tokens: Tokens, throttle: Throttle, preauth_permits: usize) -> Self {
        Self { tokens, throttle, preauth_permits: Arc::new(Semaphore::new(preauth_permits)) }
    }

    /// The principal of a token. A valid token passes, however many wrong tokens came from the same address.
    fn check(&self, token: &str, peer: PeerAddress) -> Result<Principal, Refusal> {
        if let Some(principal) = self.tokens.verify(token) {
            return Ok(principal);
        }
        Err(match self.throttle.wrong(peer.counted_as(), Instant::now()) {
            WrongToken::Wrong => Refusal::WRONG_TOKEN,
            WrongToken::TooMany => Refusal::TOO_MANY_WRONG,
        })
    }
}

/// Checks the token in the first frame of a WebSocket connection.
struct FirstFrame {
    authenticator: Arc<Authenticator>,
    tally: Arc<Refusals>,
    peer: PeerAddress,
    /// Released when the transport drops this verifier: after the check, or when the transport gives up waiting.
    _permit: OwnedSemaphorePermit,
    /// Counts the connection among those without credentials for as long as this verifier lives.
    _preauth_state: Option<Arc<PreAuthState>>,
}

impl Verifier for FirstFrame {
    fn verify(&self, token: &str) -> Option<Principal> {
        let checked = self.authenticator.check(token, self.peer);
        let refused =
            |refusal: Refusal| self.tally.refused(refusal.kind(), self.peer, Some(AuthMethod::FirstFrame));
        let principal = checked.map_err(refused).ok()?;
        tracing::info!(peer = %self.peer, method = %AuthMethod::FirstFrame, principal = %principal, "authenticated");
        Some(principal)
    }
}

impl AccessControl {
    /// Access control for a gateway that answers to `names`. Without an authenticator, no credentials are required.
    pub fn new(names: Names, authenticator: Option<Arc<Authenticator>>) -> Self {
        Self { names, authenticator, tally: Arc::default() }
    }

    /// The counts of refused requests.
    pub(crate) fn tally(&self) -> Arc<Refusals> {
        Arc::clone(&self.tally)
    }

    /// Checks a request that needs `access`. Returns `None` if the request needs no credentials.
    ///
    /// # Errors
    ///
    /// Returns the refusal to answer with; the refusal is already counted.
    pub(crate) fn admit<B>(
        &self,
        request: &Request<B>,
        access: Access,
        peer: PeerAddress,
    ) -> Result<Option<Admission>, Refusal> {
        let refused = |refusal: Refusal| {
            self.tally.refused(refusal.kind(), peer, None);
            refusal
        };
        self.check_form(request).map_err(refused)?;
        let headers = request.headers();
        self.check_host(headers, peer).map_err(refused)?;
        let has_origin = self.check_origin(headers).map_err(refused)?;
        if self.authenticator.is_none() && !has_origin && !is_own_or_direct(headers) {
            return Err(refused(Refusal::FOREIGN_SITE));
        }
        match access {
            Access::Open if preauth_state(request).is_some_and(|state| state.must_authenticate()) => {
                Err(refused(Refusal::PREAUTH_FULL))
            }
            Access::Open => Ok(None),
            Access::Credentials => self.check_credentials(request, peer).map(Some),
        }
    }

    /// Refuses a connection before its first request was read. Returns a whole HTTP response to write to the peer.
    pub(crate) fn refuse_unread(&self, peer: PeerAddress) -> String {
        self.tally.refused(Refusal::PREAUTH_FULL.kind(), peer, None);
        Refusal::PREAUTH_FULL.to_http()
    }

    /// The `Origin` header if `--allow-origin` names it. Pages of the gateway itself need no CORS headers.
    pub(crate) fn cross_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = only(headers, &header::ORIGIN).ok()??;
        self.names.is_allowed_elsewhere(origin).then(|| headers.get(header::ORIGIN).cloned())?
    }

    fn check_form<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        if request.version() != Version::HTTP_11 {
            return Err(Refusal::VERSION);
        }
        // The absolute form, which clients send to forward proxies, carries a second host name beside `Host`.
        if request.uri().authority().is_some() || request.uri().scheme().is_some() {
            return Err(Refusal::FORM);
        }
        Ok(())
    }

    /// Over a Unix socket, plain `localhost` is accepted too: no web page reaches the socket, and programs other than
    /// proxies send that name.
    fn check_host(&self, headers: &HeaderMap, peer: PeerAddress) -> Result<(), Refusal> {
        let host =
            only(headers, &header::HOST).map_err(|_| Refusal::HOST_REPEATED)?.ok_or(Refusal::HOST_MISSING)?;
        let is_plain = peer == PeerAddress::Locally && host.eq_ignore_ascii_case("localhost");
        if is_plain || self.names.is_own(host) { Ok(()) } else { Err(Refusal::HOST_FOREIGN) }
    }

    /// Returns whether the request has an `Origin` header; an origin that is not allowed is an error.
    fn check_origin(&self, headers: &HeaderMap) -> Result<bool, Refusal> {
        match only(headers, &header::ORIGIN) {
            Ok(None) => Ok(false),
            Ok(Some(origin)) if self.names.is_welcome(origin) => Ok(true),
            Ok(Some(_)) | Err(_) => Err(Refusal::ORIGIN_FOREIGN),
        }
    }

    fn check_credentials<B>(&self, request: &Request<B>, peer: PeerAddress) -> Result<Admission, Refusal> {
        let upgrade = is_upgrade(request);
        let lasts = upgrade || request.uri().path() == paths::SSE;
        let Some(authenticator) = &self.authenticator else {
            log_success(lasts, peer, AuthMethod::NoAuth, &Principal::owner());
            mark_authenticated(request);
            return Ok(Admission::Verified(Principal::owner()));
        };
        let refused = |refusal: Refusal, method: Option<AuthMethod>| {
            self.tally.refused(refusal.kind(), peer, method);
            refusal
        };
        let (token, method) = match credential(request).map_err(|refusal| refused(refusal, None))? {
            Some(found) => found,
            None if upgrade && switchboard_transport_ws::offers_protocol(request.headers()) => {
                let preauth_state = preauth_state(request).cloned();
                if preauth_state.as_ref().is_some_and(|state| state.must_authenticate()) {
                    return Err(refused(Refusal::PREAUTH_FULL, None));
                }
                let permit = Arc::clone(&authenticator.preauth_permits).try_acquire_owned();
                let permit = permit.map_err(|_| refused(Refusal::UNAUTHENTICATED_FULL, None))?;
                let (authenticator, tally) = (Arc::clone(authenticator), Arc::clone(&self.tally));
                let verifier =
                    FirstFrame { authenticator, tally, peer, _permit: permit, _preauth_state: preauth_state };
                return Ok(Admission::FirstFrame(Arc::new(verifier)));
            }
            None => return Err(refused(Refusal::NO_CREDENTIALS, None)),
        };
        let principal =
            authenticator.check(&token, peer).map_err(|refusal| refused(refusal, Some(method)))?;
        log_success(lasts, peer, method, &principal);
        mark_authenticated(request);
        Ok(Admission::Verified(principal))
    }
}

/// The pre-auth state of the request's connection; `http::server` attaches it to every request.
fn preauth_state<B>(request: &Request<B>) -> Option<&Arc<PreAuthState>> {
    request.extensions().get::<Arc<PreAuthState>>()
}

fn mark_authenticated<B>(request: &Request<B>) {
    if let Some(preauth_state) = preauth_state(request) {
        preauth_state.mark_authenticated();
    }
}

/// Logs long-lived connections at `info`, and single requests, of which there are many, at `debug`.
fn log_success(lasts: bool, peer: PeerAddress, method: AuthMethod, principal: &Principal) {
    if lasts {
        tracing::info!(peer = %peer, %method, %principal, "authenticated");
    } else {
        tracing::debug!(peer = %peer, %method, %principal, "authenticated");
    }
}

/// Whether `Sec-Fetch-Site`, if present, says that the request comes from a page of this gateway or from no page. For
/// browser requests without `Origin`.
fn is_own_or_direct(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// The value of a header that must be text and must not be repeated.
fn only<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        (Ok(_) | Err(_), _) => Err(()),
    }
}

/// The token that a request carries, and where it was found. Several tokens in one request must be equal.
fn credential<B>(request: &Request<B>) -> Result<Option<(Zeroizing<String>, AuthMethod)>, Refusal> {
    let mut found: Option<(Zeroizing<String>, AuthMethod)> = None;
    let mut offer = |token: Zeroizing<String>, method: AuthMethod| match &found {
        Some((other, _)) if **other != *token => Err(Refusal::DISAGREEING),
        Some(_) => Ok(()),
        None => {
            found = Some((token, method));
            Ok(())
        }
    };
    for value in request.headers().get_all(header::AUTHORIZATION) {
        let Ok(text) = value.to_str() else { return Err(Refusal::WRONG_TOKEN) };
        // Other schemes are for a proxy in front of the gateway.
        if let Some((scheme, token)) = text.trim().split_once(' ')
            && scheme.eq_ignore_ascii_case("bearer")
        {
            offer(Zeroizing::new(token.trim().to_owned()), AuthMethod::Bearer)?;
        }
    }
    let query = request.uri().query().unwrap_or_default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name == "token" && !value.is_empty() {
            offer(Zeroizing::new(value.into_owned()), AuthMethod::Query)?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
