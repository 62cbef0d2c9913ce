//! Sharing with pages elsewhere (the Fetch standard, "CORS protocol"): those that `--allow-origin` names may stream and
//! post. WebSocket needs none of this.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};

/// What such pages may use.
pub(super) const PATHS: [&str; 2] = ["/sse", "/messages"];

const ALLOWED: [(HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
    (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, last-event-id, switchboard-stream"),
    (header::ACCESS_CONTROL_MAX_AGE, "600"),
];

/// Whether a browser asks what a page may ask.
pub(super) fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to that, for an origin that is allowed.
pub(super) fn allow() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allowed = ALLOWED.map(|(name, value)| (name, HeaderValue::from_static(value)));
    response.headers_mut().extend(allowed);
    response
}

/// Lets a page of this origin see the response, whatever it says. Credentials of the browser's own are never
/// allowed: there are none.
pub(super) fn share(response: &mut Response, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    }
}
