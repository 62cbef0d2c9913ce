//! HTTP responses other than streams, and the head of a stream.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};

/// The response to a refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    text: &'static str,
    header: Option<(HeaderName, &'static str)>,
}

macro_rules! refusals {
    ($($name:ident = $status:ident, $text:literal $(, $header:ident: $value:literal)?;)*) => {
        impl Refusal {
            $(pub(crate) const $name: Self = Self {
                status: StatusCode::$status,
                text: concat!($text, "\n"),
                header: refusals!(@header $($header: $value)?),
            };)*
        }
    };
    (@header) => { None };
    (@header $header:ident: $value:literal) => { Some((header::$header, $value)) };
}

refusals! {
    UNAUTHORIZED = UNAUTHORIZED, "credentials are needed: a bearer token", WWW_AUTHENTICATE: "Bearer";
    ONLY_GET = METHOD_NOT_ALLOWED, "a stream is had with GET", ALLOW: "GET";
    ONLY_POST = METHOD_NOT_ALLOWED, "a frame is sent with POST", ALLOW: "POST";
    CURSORS = BAD_REQUEST, "the cursors must be chat@epoch:seq, with commas between them";
    REPEATED = BAD_REQUEST, "Last-Event-ID must be one value";
    CHATS = BAD_REQUEST, "chat must be the id of a chat";
    TOO_MANY_CHATS = BAD_REQUEST, "too many chats for one stream";
    NO_STREAM = BAD_REQUEST, "Switchboard-Stream must name the stream as ready did";
    GONE = GONE, "there is no such stream: open one, and name it as its ready does";
    MEDIA_TYPE = UNSUPPORTED_MEDIA_TYPE, "a frame is application/json";
    TOO_LARGE = PAYLOAD_TOO_LARGE, "the frame is over the limit that ready names";
    BODY = BAD_REQUEST, "the body did not come whole";
    BODY_LATE = REQUEST_TIMEOUT, "the body did not come in time";
    TOO_MANY_POSTS = TOO_MANY_REQUESTS, "too many frames of this stream wait for their answer", RETRY_AFTER: "1";
    BUSY = SERVICE_UNAVAILABLE, "the frame was not accepted in time: is the stream read?", RETRY_AFTER: "1";
    ENTROPY = SERVICE_UNAVAILABLE, "no stream can be opened at the moment", RETRY_AFTER: "1";
}

impl Refusal {
    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // The connection may contain a body that was not read.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.extend(self.header.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }
}

/// The response to a frame that the gateway has accepted.
pub(crate) fn accepted() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The head of a stream. No proxy may cache, change or buffer the stream (`X-Accel-Buffering` is for nginx).
pub(crate) fn stream(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}
