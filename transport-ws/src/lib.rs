//! WebSocket transport for Switchboard (RFC 6455).
//!
//! [`router`] mounts it into an axum application, whose own authentication says with an [`Admission`] in the
//! request's extensions who may connect; [`serve`] is a listener of its own. Both carry frames and decide
//! nothing: the protocol is in `switchboard-core`.
//!
//! ```no_run
//! # async fn example(gateway: switchboard_runtime::Gateway) -> std::io::Result<()> {
//! use axum::Extension;
//! use switchboard_core::ids::Principal;
//! use switchboard_runtime::Admission;
//! use switchboard_transport_ws::{Options, router};
//!
//! // Whoever reaches this router was authenticated by a layer further out.
//! let admitted = Extension(Admission::Verified(Principal::owner()));
//! let app: axum::Router = axum::Router::new().nest("/chat", router(gateway, Options::default()).layer(admitted));
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod autobahn;
#[cfg(test)]
mod fuzz;
mod handshake;
mod listener;
mod read;
mod session;
mod write;

use std::time::Duration;

use axum::{Extension, Router, extract::Request, response::Response, routing::any};
use switchboard_runtime::{Admission, Gateway};

pub use handshake::{is_upgrade, offers_protocol};
pub use listener::{AccessPolicy, serve};

/// What the transport keeps to; every duration is a limit on waiting.
#[derive(Debug, Clone)]
pub struct Options {
    /// Between pings to a peer.
    pub ping_every: Duration,
    /// For a sign of life after a ping.
    pub pong_within: Duration,
    /// For the first frame, where the handshake carried no credentials.
    pub authenticate_within: Duration,
    /// Bytes read before authentication.
    pub unauthenticated_bytes: u64,
    /// For a message's remaining fragments, once its first has come.
    pub message_within: Duration,
    /// Fragments of one message.
    pub fragments: u32,
    /// For the peer to take what is in flight and the close frame.
    pub close_within: Duration,
    /// For the request's header, on a listener of its own.
    pub header_within: Duration,
    /// Connections at once, on a listener of its own.
    pub connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_secs(20),
            pong_within: Duration::from_secs(20),
            authenticate_within: Duration::from_secs(5),
            unauthenticated_bytes: 4 * 1024,
            message_within: Duration::from_secs(30),
            fragments: 1024,
            close_within: Duration::from_secs(30),
            header_within: Duration::from_secs(10),
            connections: 10_240,
        }
    }
}

/// A router whose root accepts upgrades. The request's extensions must hold an [`Admission`]: without one
/// every upgrade is refused with 401.
pub fn router(gateway: Gateway, options: Options) -> Router {
    let handler = move |admission: Option<Extension<Admission>>, request: Request| {
        let (gateway, options) = (gateway.clone(), options.clone());
        async move { upgrade(&gateway, &options, admission.map(|Extension(admission)| admission), request) }
    };
    Router::new().route("/", any(handler))
}

/// Answers an upgrade request, and serves the connection in a task of its own if it was accepted.
///
/// A refusal closes the connection, so that no proxy keeps a tunnel open behind it.
pub fn upgrade(
    gateway: &Gateway,
    options: &Options,
    admission: Option<Admission>,
    mut request: Request,
) -> Response {
    let accepted = match handshake::check(&request, admission) {
        Ok(accepted) => accepted,
        Err(refusal) => return refusal.into_response(),
    };
    let response = accepted.response();
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(session::run(upgraded, accepted, gateway.clone(), options.clone()));
    response
}
