//! Server-sent events and POST for Switchboard: for scripts, and for browsers behind proxies that let no WebSocket
//! through.
//!
//! `GET /sse` is a stream of events, each with the JSON that it has over every transport; `POST /messages` takes one
//! frame. [`router`] mounts both into an axum application, whose own authentication says with an [`Admission`] in
//! the request's extensions who may connect. It carries frames and decides nothing: the protocol is in
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
//! A stream runs as long as its client takes what is sent, so a limit on the time of a response must not apply to
//! it. A client that vanishes without a word is noticed by the system alone: set `TCP_USER_TIMEOUT` on accepted
//! sockets. One that takes next to nothing is given up here, but the server holds its connection: [`Streaming`], in
//! the extensions of the response, says when to drop it.

mod answer;
mod body;
mod chats;
#[cfg(test)]
mod fuzz;
mod place;
mod post;
mod request;
mod run;
mod stream;

use std::time::Duration;

use axum::{Extension, Router, extract::Request, response::Response, routing::any};
use switchboard_runtime::{Admission, Gateway};

pub use post::STREAM_HEADER;
pub use stream::Streaming;

use stream::Streams;

/// What the transport keeps to; every duration is a limit on waiting.
#[derive(Debug, Clone)]
pub struct Options {
    /// Between comments on a stream.
    pub comment_every: Duration,
    /// For the peer to take what is in flight and the last event.
    pub close_within: Duration,
    /// The shortest and the longest wait that a client is told to keep before it connects again.
    pub retry: (Duration, Duration),
    /// Chats of one stream.
    pub chats: usize,
    /// For the body of a POST.
    pub body_within: Duration,
    /// For the gateway to take a POST's frame. It does not while the stream's client does not read.
    pub answer_within: Duration,
    /// POSTs of one stream that have no answer yet.
    pub unanswered_posts: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            comment_every: Duration::from_secs(15),
            close_within: Duration::from_secs(30),
            retry: (Duration::from_secs(1), Duration::from_secs(3)),
            chats: 32,
            body_within: Duration::from_secs(10),
            answer_within: Duration::from_secs(30),
            unanswered_posts: 8,
        }
    }
}

/// The transport of one gateway. Clones share their streams.
#[derive(Debug, Clone)]
pub struct Sse {
    gateway: Gateway,
    options: Options,
    streams: Streams,
}

impl Sse {
    /// Makes the transport. Streams and the POSTs that belong to them must come to the same one.
    pub fn new(gateway: Gateway, options: Options) -> Self {
        Self { gateway, options, streams: Streams::default() }
    }

    /// Answers `GET /sse`: with the stream, which is served in a task of its own, or a refusal. Must be called
    /// within a tokio runtime.
    ///
    /// Without a verified admission it is refused with 401: a stream has no first frame.
    pub fn stream(&self, admission: Option<Admission>, request: &Request) -> Response {
        stream::open(self, admission, request).unwrap_or_else(answer::Refusal::into_response)
    }

    /// Answers `POST /messages`: 202 when the gateway has taken the frame, or a refusal. What comes of the frame is
    /// told on the stream.
    pub async fn message(&self, admission: Option<Admission>, request: Request) -> Response {
        match post::take(self, admission, request).await {
            Ok(()) => answer::taken(),
            Err(refusal) => refusal.into_response(),
        }
    }
}

/// A router with `/sse` and `/messages`. The request's extensions must hold an [`Admission`]: without one every
/// request is refused with 401.
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
