//! The application's own authentication: a login that gives a cookie, and a layer that knows the cookie again.
//!
//! Stands for what an application has already. The gateway sees no password and no cookie, only an [`Admission`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{AsHeaderName, COOKIE, HOST, ORIGIN, SET_COOKIE},
    },
    middleware::Next,
    response::{AppendHeaders, IntoResponse, Response},
};
use switchboard_core::ids::Principal;
use switchboard_runtime::{Admission, entropy};

/// Who is logged in.
pub(crate) struct Sessions {
    /// The application's own name: the only `Host`, and the only `Origin`.
    host: String,
    by_cookie: Mutex<BTreeMap<String, Principal>>,
}

impl Sessions {
    pub(crate) fn new(host: String) -> Self {
        Self { host, by_cookie: Mutex::default() }
    }

    fn begin(&self, user: &str) -> Option<String> {
        let principal = Principal::parse(user).ok()?;
        // 256 random bits: looking them up gives nothing away that could be guessed at.
        let cookie: String = entropy().ok()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut sessions = self.by_cookie.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(cookie.clone(), principal);
        Some(cookie)
    }

    fn find(&self, cookie: &str) -> Option<Principal> {
        self.by_cookie.lock().unwrap_or_else(PoisonError::into_inner).get(cookie).cloned()
    }

    /// Cookies come along from anywhere, so whatever they open must be asked for by our own pages: without this, any
    /// page that a user visits could talk to the user's agents.
    fn is_ours(&self, headers: &HeaderMap) -> bool {
        let origin = format!("http://{}", self.host);
        let is_own_page = text(headers, ORIGIN).is_none_or(|given| given == origin);
        is_own_page && text(headers, HOST) == Some(&self.host)
    }
}

/// A header's value; of one that is no text, or that comes twice, something that is equal to nothing.
fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next()?;
    Some(if values.next().is_some() { "" } else { value.to_str().unwrap_or_default() })
}

/// `POST /login` with `user password` as its body.
pub(crate) async fn login(
    State(sessions): State<Arc<Sessions>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    if !sessions.is_ours(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    // Stands for a table of hashed passwords, or an identity provider.
    let user = match body.as_str() {
        "alice wonderland" => "alice",
        "bob builder" => "bob",
        _ => return StatusCode::UNAUTHORIZED.into_response(),
    };
    let Some(cookie) = sessions.begin(user) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let cookie = format!("session={cookie}; HttpOnly; SameSite=Strict; Path=/");
    (StatusCode::NO_CONTENT, AppendHeaders([(SET_COOKIE, cookie)])).into_response()
}

/// Lets those pass who are logged in, as who they are. What the gateway keeps for one user is unknown to all others.
pub(crate) async fn admit(
    State(sessions): State<Arc<Sessions>>,
    mut request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    if !sessions.is_ours(request.headers()) {
        return Err(StatusCode::FORBIDDEN);
    }
    let cookies = text(request.headers(), COOKIE).unwrap_or_default();
    let cookie = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("session="));
    let principal = cookie.and_then(|cookie| sessions.find(cookie)).ok_or(StatusCode::UNAUTHORIZED)?;
    request.extensions_mut().insert(Admission::Verified(principal));
    Ok(next.run(request).await)
}
