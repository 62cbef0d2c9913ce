//! The HTTP responses to requests that access control refuses.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};

use super::tally::Kind;

/// A refusal of a request: a status and a code for programs, a sentence for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    kind: Kind,
    status: StatusCode,
    code: &'static str,
    detail: &'static str,
}

impl Refusal {
    pub(crate) const VERSION: Self = Self::new(
        Kind::Version,
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        "http_version",
        "HTTP/1.1 is spoken here.",
    );
    pub(crate) const FORM: Self = Self::new(
        Kind::Form,
        StatusCode::BAD_REQUEST,
        "request_form",
        "The request's target must be a path.",
    );
    pub(crate) const HOST_MISSING: Self = Self::new(
        Kind::HostMissing,
        StatusCode::BAD_REQUEST,
        "host_missing",
        "The request needs a Host header.",
    );
    pub(crate) const HOST_REPEATED: Self = Self::new(
        Kind::HostRepeated,
        StatusCode::BAD_REQUEST,
        "host_repeated",
        "The request needs exactly one Host header.",
    );
    pub(crate) const HOST_FOREIGN: Self = Self::new(
        Kind::HostForeign,
        StatusCode::FORBIDDEN,
        "host_foreign",
        "The gateway does not answer to this host name. It can be told to with --allow-host.",
    );
    pub(crate) const ORIGIN_FOREIGN: Self = Self::new(
        Kind::OriginForeign,
        StatusCode::FORBIDDEN,
        "origin_foreign",
        "Pages of this origin may not use the gateway. They can be allowed with --allow-origin.",
    );
    pub(crate) const FOREIGN_SITE: Self = Self::new(
        Kind::SiteForeign,
        StatusCode::FORBIDDEN,
        "site_foreign",
        "Without authentication, requests from other sites are refused. Type the address instead.",
    );
    pub(crate) const NO_CREDENTIALS: Self = Self::new(
        Kind::NoCredentials,
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "Credentials are needed: send Authorization: Bearer with the gateway's token.",
    );
    pub(crate) const WRONG_TOKEN: Self = Self::new(
        Kind::WrongToken,
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "The token is not right, or has ended.",
    );
    pub(crate) const DISAGREEING: Self = Self::new(
        Kind::Disagreeing,
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "The request carries credentials that disagree.",
    );
    pub(crate) const TOO_MANY_WRONG: Self = Self::new(
        Kind::TooManyWrong,
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limited",
        "Too many wrong tokens came from this address.",
    );

    pub(crate) const UNAUTHENTICATED_FULL: Self = Self::new(
        Kind::UnauthenticatedFull,
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "Too many connections have yet to authenticate. Try again, or send the token with the request.",
    );

    pub(crate) const PREAUTH_FULL: Self = Self::new(
        Kind::PreAuthFull,
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "Too many connections from this address have shown no credentials. Close some, or send the token with the request.",
    );

    const fn new(kind: Kind, status: StatusCode, code: &'static str, detail: &'static str) -> Self {
        Self { kind, status, code, detail }
    }

    /// The kind under which the log counts this refusal.
    pub(super) fn kind(self) -> Kind {
        self.kind
    }

    /// The stable code in the response body, for programs.
    #[cfg(test)]
    pub(crate) fn code(self) -> &'static str {
        self.code
    }

    fn body(self) -> String {
        serde_json::json!({ "code": self.code, "detail": self.detail }).to_string()
    }

    /// The response as raw bytes, for a connection that is refused before the HTTP server takes it over.
    pub(super) fn to_http(self) -> String {
        let (body, status) = (self.body(), self.status);
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Retry-After: 5\r\n\r\n{body}",
            body.len()
        )
    }

    /// The response. It closes the connection, since further requests on the connection assume that this one passed.
    pub(crate) fn into_response(self) -> Response {
        let body = self.body();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"switchboard\""));
        }
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
