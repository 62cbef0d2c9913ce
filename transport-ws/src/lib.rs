//! WebSocket transport for Switchboard (RFC 6455).
//!
//! [`router`] mounts the transport into an axum application, which authenticates each request and puts the result
//! into the request's extensions as an [`Admission`]; [`serve`] runs a listener of its own. Both carry frames and
//! decide nothing: the protocol is in `switchboard-core`.
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
#[path = "../fuzz/mod.rs"]
mod fuzz;
mod handshake;
mod listener;
mod options;
mod read;
mod session;
mod write;

use std::sync::Arc;

use axum::{Extension, Router, extract::Request, response::Response, routing::any};
use switchboard_runtime::{Admission, Gateway};

pub use handshake::{is_upgrade, offers_protocol};
pub use listener::{AccessPolicy, serve};
pub use options::Options;

/// A router that accepts upgrades at `/`. The extensions of a request must contain an [`Admission`]: an upgrade
/// without one is refused with 401.
pub fn router(gateway: Gateway, options: Options) -> Router {
    let options = Arc::new(options);
    let handler = move |admission: Option<Extension<Admission>>, request: Request| {
        let (gateway, options) = (gateway.clone(), Arc::clone(&options));
        async move { upgrade(&gateway, &options, admission.map(|Extension(admission)| admission), request) }
    };
    Router::new().route("/", any(handler))
}

/// Answers an upgrade request. If it is accepted, a new task serves the connection; must be called within a tokio
/// runtime.
///
/// The response to a refused upgrade closes the connection, so that no proxy leaves a tunnel open behind it.
pub fn upgrade(
    gateway: &Gateway,
    options: &Arc<Options>,
    admission: Option<Admission>,
    mut request: Request,
) -> Response {
    let accepted = match handshake::check(&request, admission) {
        Ok(accepted) => accepted,
        Err(refusal) => return refusal.into_response(),
    };
    let response = accepted.response();
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(session::run(upgraded, accepted, gateway.clone(), Arc::clone(options)));
    response
}
