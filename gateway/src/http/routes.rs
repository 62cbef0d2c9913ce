//! The routes of the HTTP server. Access control checks every request before a route handles it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use switchboard_runtime::{Admission, Gateway};
use switchboard_transport_sse::{self as sse, Sse};
use switchboard_transport_ws as ws;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use tower::ServiceExt;

use super::{
    cors,
    page::{self, Asset},
};
use crate::{
    auth::{Access, AccessControl, PeerAddress},
    paths,
};

/// One route of the HTTP server; tests check access control on every route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The path of the route, below the base path.
    pub path: String,
    /// Whether a plain GET request to the route is admitted without credentials.
    pub is_page: bool,
}

/// The routes beside the files of the page. A new route needs credentials by default: [`Site::access`] alone decides
/// which requests need none.
const ENDPOINTS: [&str; 6] =
    [paths::WS, paths::WS_OLDER, paths::SSE, paths::MESSAGES, paths::HEALTH, paths::READY];

/// All routes: the files of the page and the endpoints.
pub fn routes() -> Vec<Route> {
    let pages = page::assets().into_iter().map(|asset| Route { path: asset.path, is_page: true });
    let endpoints = ENDPOINTS.into_iter().map(|path| Route { path: path.to_owned(), is_page: false });
    pages.chain(endpoints).collect()
}

/// The HTTP service: access control, the page and the endpoints.
#[derive(Debug)]
pub struct Site {
    access_control: AccessControl,
    base_path: String,
    page: Arc<Vec<Asset>>,
    router: Router,
    ready: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Shared {
    gateway: Gateway,
    options: Arc<ws::Options>,
    sse: Sse,
    ready: Arc<AtomicBool>,
}

impl Site {
    /// The HTTP service of `gateway`. `base_path` is the path under which a reverse proxy serves it, or empty.
    pub fn new(
        gateway: Gateway,
        options: ws::Options,
        access_control: AccessControl,
        base_path: &str,
    ) -> Self {
        let ready = Arc::new(AtomicBool::new(false));
        let sse = Sse::new(gateway.clone(), sse::Options::default());
        let shared = Shared { gateway, options: Arc::new(options), sse, ready: Arc::clone(&ready) };
        let mut router = Router::new()
            .route(paths::WS, any(upgrade))
            .route(paths::WS_OLDER, any(upgrade))
            .route(paths::SSE, any(stream))
            .route(paths::MESSAGES, any(message))
            .route(paths::HEALTH, get(|| async { "ok\n" }))
            .route(paths::READY, get(readiness));
        let page = Arc::new(page::assets());
        for asset in page.iter().cloned() {
            let file = |asset: Asset| move |headers: HeaderMap| async move { asset.response(&headers) };
            router = match &*asset.path {
                "/" => router.route("/", get(move |state, request| root(asset, state, request))),
                _ => router.route(&asset.path.clone(), get(file(asset))),
            };
        }
        Self {
            access_control,
            base_path: base_path.to_owned(),
            page,
            router: router.with_state(shared),
            ready,
        }
    }

    /// Sets whether `/readyz` reports that the gateway accepts new clients.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Returns the response to one request. `peer` is the peer of the request's connection.
    pub async fn respond(&self, mut request: Request, peer: PeerAddress) -> Response {
        let upgrade = ws::is_upgrade(&request);
        let redirect = self.strip_base_path(&mut request);
        let sharing = cors::PATHS
            .contains(&request.uri().path())
            .then(|| self.access_control.cross_origin(request.headers()));
        let preflight = cors::is_preflight(&request) && matches!(sharing, Some(Some(_)));
        let access = if preflight { Access::Open } else { self.access(&request) };
        let mut response = match self.access_control.admit(&request, access, peer) {
            Err(refusal) => refusal.into_response(),
            Ok(_) if preflight => cors::allow(),
            Ok(_) if redirect => self.to_base_path(),
            Ok(admission) => {
                if let Some(admission) = admission {
                    request.extensions_mut().insert(admission);
                }
                self.route(request).await
            }
        };
        if upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // After a failed upgrade, a proxy may treat the connection as a tunnel, so it must not be reused.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(origin) = sharing {
            cors::share(&mut response, origin);
        }
        secure(response)
    }

    /// Closes a connection that has sent nothing although it had to send a request with credentials at once. The peer
    /// gets a response that says why.
    pub(super) async fn refuse_unread<S: AsyncWrite + Unpin>(&self, mut stream: S, peer: PeerAddress) {
        let refusal = self.access_control.refuse_unread(peer);
        let sent = async {
            stream.write_all(refusal.as_bytes()).await?;
            stream.shutdown().await
        };
        // The response is small; if the peer does not read it, the connection is closed all the same.
        let _ = timeout(Duration::from_secs(1), sent).await;
    }

    async fn route(&self, request: Request) -> Response {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        tracing::debug!(%method, ?path, status = response.status().as_u16(), "request");
        response
    }

    /// The files of the page are public; every other path, even an unknown one, needs credentials.
    fn access(&self, request: &Request) -> Access {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let is_page = self.page.iter().any(|asset| asset.path == request.uri().path());
        if reads && is_page && !ws::is_upgrade(request) { Access::Open } else { Access::Credentials }
    }

    /// Removes the base path, if a proxy has not removed it. Returns whether to redirect because the slash after the
    /// base path is missing, without which relative links in the page would be wrong.
    fn strip_base_path(&self, request: &mut Request) -> bool {
        let rest = request.uri().path().strip_prefix(&*self.base_path);
        let Some(rest) = rest.filter(|_| !self.base_path.is_empty()) else { return false };
        let redirect = rest.is_empty();
        let path = match rest {
            "" => "/",
            rest if rest.starts_with('/') => rest,
            _ => return false,
        };
        let stripped = match request.uri().query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        if let Ok(uri) = stripped.parse::<Uri>() {
            *request.uri_mut() = uri;
        }
        redirect && !ws::is_upgrade(request)
    }

    fn to_base_path(&self) -> Response {
        let target = HeaderValue::from_str(&format!("{}/", self.base_path));
        let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
        if let Ok(target) = target {
            response.headers_mut().insert(header::LOCATION, target);
        }
        response
    }
}

async fn root(asset: Asset, state: State<Shared>, request: Request) -> Response {
    if ws::is_upgrade(&request) { upgrade(state, request).await } else { asset.response(request.headers()) }
}

async fn upgrade(State(shared): State<Shared>, mut request: Request) -> Response {
    let admission = request.extensions_mut().remove::<Admission>();
    ws::upgrade(&shared.gateway, &shared.options, admission, request)
}

async fn stream(State(shared): State<Shared>, mut request: Request) -> Response {
    let admission = request.extensions_mut().remove::<Admission>();
    let mut response = shared.sse.stream(admission, &request);
    // A connection is not reused after an event stream: its lifetime is not limited like that of other connections.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn message(State(shared): State<Shared>, mut request: Request) -> Response {
    let admission = request.extensions_mut().remove::<Admission>();
    shared.sse.message(admission, request).await
}

async fn readiness(State(shared): State<Shared>) -> Response {
    let unready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    match shared.gateway.degraded() {
        _ if !shared.ready.load(Ordering::Relaxed) => unready("not ready\n".into()),
        Some(why) => unready(format!("not ready: {why}\n")),
        None => "ready\n".into_response(),
    }
}

/// Restricts what the page may load and which pages may embed it. Fonts come from the bundle, and Trusted Types keep
/// scripts from turning foreign text into markup.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; \
    connect-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

fn secure(mut response: Response<Body>) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = response.headers_mut();
        for (name, value) in SECURITY_HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}
