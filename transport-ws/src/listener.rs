//! A listener for programs that have no HTTP server.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use switchboard_runtime::{Admission, Gateway};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{Options, upgrade};

/// Decides whether a request may connect, and as which principal.
pub trait AccessPolicy: Send + Sync + 'static {
    /// Decides from the head of the request and the address of the peer.
    ///
    /// # Errors
    /// The status code with which the request is refused.
    fn admit(&self, head: &Parts, peer: SocketAddr) -> Result<Admission, StatusCode>;
}

/// Serves WebSocket at every path until the future is dropped. Connections that were accepted before go on.
///
/// # Errors
/// If `accept` fails for a reason that does not concern a single connection, such as too many open files.
pub async fn serve(
    listener: TcpListener,
    gateway: Gateway,
    options: Options,
    policy: Arc<dyn AccessPolicy>,
) -> std::io::Result<()> {
    let permits = Arc::new(Semaphore::new(options.connections));
    let options = Arc::new(options);
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return Ok(()) };
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => return Err(error),
        };
        let (gateway, options, policy) = (gateway.clone(), Arc::clone(&options), Arc::clone(&policy));
        tokio::spawn(async move {
            serve_one(socket, peer, gateway, options, policy).await;
            drop(permit);
        });
    }
}

/// Whether an error of `accept` concerns only the connection that it would have returned (accept(2)).
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

async fn serve_one(
    socket: TcpStream,
    peer: SocketAddr,
    gateway: Gateway,
    options: Arc<Options>,
    policy: Arc<dyn AccessPolicy>,
) {
    let header_within = options.header_within;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (head, body) = request.into_parts();
        let response = match policy.admit(&head, peer) {
            Ok(admission) => {
                let request = axum::http::Request::from_parts(head, Body::new(body));
                upgrade(&gateway, &options, Some(admission), request)
            }
            Err(status) => refusal(status),
        };
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_within)
        .max_headers(64)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended before its upgrade");
    }
}

/// A refusal that closes the connection. hyper's own way of turning keep-alive off would also add `Connection: close`
/// to accepted upgrades.
fn refusal(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
