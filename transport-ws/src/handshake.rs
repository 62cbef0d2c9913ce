//! The opening handshake (RFC 6455 section 4.2), and which credentials it must carry.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header},
    response::Response,
};
use switchboard_core::wire::PROTOCOL;
use switchboard_runtime::Admission;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// An accepted upgrade.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) admission: Admission,
    /// The client's name for itself, from the query parameter `client_id`.
    pub(crate) client_id: Option<String>,
    accept_key: String,
    /// Whether the client offered the subprotocol.
    pub(crate) with_protocol: bool,
}

/// A refused upgrade.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    text: &'static str,
}

impl Refusal {
    const fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, text }
    }

    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self.status {
            StatusCode::UPGRADE_REQUIRED => {
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

/// Whether a request asks for an upgrade to WebSocket.
pub fn is_upgrade<B>(request: &axum::http::Request<B>) -> bool {
    has_token(request.headers(), header::UPGRADE, "websocket")
}

/// Whether a request offers the subprotocol `switchboard.v1`, and so may authenticate in its first frame.
pub fn offers_protocol(headers: &HeaderMap) -> bool {
    offered(headers).any(|offer| offer == PROTOCOL)
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|offer| !offer.is_empty())
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

pub(crate) fn check(request: &Request, admission: Option<Admission>) -> Result<Accepted, Refusal> {
    let headers = request.headers();
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "an upgrade is a GET over HTTP/1.1\n"));
    }
    if !has_token(headers, header::CONNECTION, "upgrade") || !is_upgrade(request) {
        return Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, "this address speaks WebSocket\n"));
    }
    if has_body(headers) {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "an upgrade has no body\n"));
    }
    if single(headers, &header::SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, "WebSocket version 13 is spoken here\n"));
    }
    let key = single(headers, &header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key)).ok_or(Refusal::new(
        StatusCode::BAD_REQUEST,
        "Sec-WebSocket-Key must be one value of 16 bytes in base64\n",
    ))?;
    let with_protocol = offers_protocol(headers);
    if !with_protocol && offered(headers).next().is_some() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "the subprotocol here is switchboard.v1\n"));
    }
    let unauthorized = Refusal::new(
        StatusCode::UNAUTHORIZED,
        "credentials are needed: a bearer token, or the subprotocol switchboard.v1 and a first frame\n",
    );
    let admission = match admission {
        Some(Admission::FirstFrame(_)) if !with_protocol => return Err(unauthorized),
        Some(admission) => admission,
        None => return Err(unauthorized),
    };
    let client_id = request.uri().query().and_then(client_id);
    Ok(Accepted { admission, client_id, accept_key: derive_accept_key(key.as_bytes()), with_protocol })
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

/// 16 bytes in base64 are 22 characters and two of padding.
fn is_key(key: &str) -> bool {
    let bytes = key.as_bytes();
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    bytes.len() == 24 && bytes.ends_with(b"==") && bytes[..22].iter().all(base64)
}

fn client_id(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "client_id").map(|(_, value)| value.into_owned())
}

impl Accepted {
    pub(crate) fn response(&self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::from_str(&self.accept_key).expect("base64 is a header value");
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if self.with_protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
        }
        response
    }
}
