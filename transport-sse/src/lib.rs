//! Server-sent events and POST for Switchboard: for scripts, and for browsers behind proxies that let no WebSocket
//! through.
//!
//! `GET /sse` is a stream of events, whose JSON is the same as on every other transport; `POST /messages` takes one
//! frame. [`router`] mounts both into an axum application, which authenticates each request and puts the result into
//! the request's extensions as an [`Admission`]. The transport carries frames and decides nothing: the protocol is in
//! `switchboard-core`.
//!
//! ```no_run
//! # async fn example(gateway: switchboard_runtime::Gateway) -> std::io::Result<()> {
//! use axum::{Extension, Router};
//! use switchboard_core::ids::Principal;
//! use switchboard_runtime::Admission;
//! use switchboard_transport_sse::{Options, router};
//!
//! // Whoever reaches this router was authenticated by a layer further out, which also checks `Origin`.
//! let admitted = Extension(Admission::Verified(Principal::owner()));
//! // GET /chat/sse, POST /chat/messages.
//! let app: Router = Router::new().nest("/chat", router(gateway, Options::default()).layer(admitted));
//! # Ok(())
//! # }
//! ```
//!
//! # What the server must do
//!
//! A stream runs for as long as its client accepts bytes, so the server must not limit the duration of a response.
//! Only the system notices a client that disappears without closing its connection: set `TCP_USER_TIMEOUT` on
//! accepted sockets. This crate gives up a client that reads almost nothing, but the server owns that client's
//! connection: [`Streaming`], in the extensions of the response, says when to drop the connection.

mod answer;
mod body;
mod chats;
mod cursor;
#[cfg(test)]
#[path = "../fuzz/mod.rs"]
mod fuzz;
mod options;
mod post;
mod request;
mod run;
mod stream;

use axum::{Extension, Router, extract::Request, response::Response, routing::any};
use switchboard_runtime::{Admission, Gateway};

pub use options::Options;
pub use post::STREAM_HEADER;
pub use stream::Streaming;

use stream::Streams;

/// The transport of one gateway. Clones share the same streams.
#[derive(Debug, Clone)]
pub struct Sse {
    gateway: Gateway,
    options: Options,
    streams: Streams,
}

impl Sse {
    /// Creates the transport. A stream and its POSTs must use the same instance or a clone of it.
    pub fn new(gateway: Gateway, options: Options) -> Self {
        Self { gateway, options, streams: Streams::default() }
    }

    /// Answers `GET /sse` with a stream, which a new task serves, or with a refusal. Must be called within a tokio
    /// runtime.
    ///
    /// Without a verified admission the request is refused with 401: a stream has no first frame that could carry
    /// credentials.
    pub fn stream(&self, admission: Option<Admission>, request: &Request) -> Response {
        let opened = stream::open(&self.gateway, &self.options, &self.streams, admission, request);
        opened.unwrap_or_else(answer::Refusal::into_response)
    }

    /// Answers `POST /messages` with 202 when the gateway has accepted the frame, or with a refusal. The gateway's
    /// reply to the frame goes to the stream.
    pub async fn message(&self, admission: Option<Admission>, request: Request) -> Response {
        let accepted = post::accept(&self.gateway, &self.options, &self.streams, admission, request);
        match accepted.await {
            Ok(()) => answer::accepted(),
            Err(refusal) => refusal.into_response(),
        }
    }
}

/// A router with `/sse` and `/messages`. The extensions of a request must contain an [`Admission`]: a request without
/// one is refused with 401.
pub fn router(gateway: Gateway, options: Options) -> Router {
    let streams = Sse::new(gateway, options);
    let messages = streams.clone();
    let stream = move |admission: Option<Extension<Admission>>, request: Request| {
        let sse = streams.clone();
        async move { sse.stream(admission.map(|Extension(admission)| admission), &request) }
    };
    let message = move |admission: Option<Extension<Admission>>, request: Request| {
        let sse = messages.clone();
        async move { sse.message(admission.map(|Extension(admission)| admission), request).await }
    };
    Router::new().route("/sse", any(stream)).route("/messages", any(message))
}
