//! CORS (the Fetch standard, "CORS protocol"): pages of the origins that `--allow-origin` names may use SSE and post
//! messages. WebSocket needs no CORS headers.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};

use crate::paths;

/// The paths that pages of allowed origins may use.
pub(super) const PATHS: [&str; 2] = [paths::SSE, paths::MESSAGES];

const ALLOWED: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, last-event-id, switchboard-stream"),
    (header::ACCESS_CONTROL_MAX_AGE, "600"),
];

/// Whether the request is a CORS preflight.
pub(super) fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The response to a preflight from an allowed origin.
pub(super) fn allow() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allowed = ALLOWED.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(allowed);
    response
}

/// Adds the headers that let pages of `origin` read the response. `Access-Control-Allow-Credentials` is never set,
/// since the gateway uses neither cookies nor other credentials that a browser adds by itself.
pub(super) fn share(response: &mut Response, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    }
}
