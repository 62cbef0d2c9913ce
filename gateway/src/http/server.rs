//! TCP and Unix listeners, and HTTP/1.1 on the connections that they accept.

use std::{io, net::SocketAddr, os::fd::AsFd, sync::Arc, time::Duration};

use axum::body::Body;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::RecvFlags;
use switchboard_transport_sse::Streaming;
use switchboard_transport_unix::Listener as UnixListener;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest},
    net::{TcpListener, TcpSocket, TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::routes::Site;
use crate::{
    auth::{PeerAddress, PreAuth, PreAuthState},
    config::AccessLimits,
    failure::{Failure, Result},
};

/// Length of the listen backlog: TCP connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// After a failed accept, for example without free file descriptors, the next try comes after this delay.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// A connection that has to close has this long to finish its current response.
const GRACE: Duration = Duration::from_secs(30);

/// `TCP_USER_TIMEOUT`: a connection is closed when sent bytes stay unacknowledged for this long. An event stream
/// carries a comment every 15 s, so a vanished peer is noticed within 45 s.
const UNACKNOWLEDGED_MS: u32 = 25_000;

/// A connection over the limit of connections without credentials has this long to begin its first request, and then
/// this long again to complete the request's head.
const HURRY: Duration = Duration::from_secs(1);

/// Binds a TCP listener. An IPv6 socket accepts IPv6 only, so that `--listen` can name both families on one port.
///
/// # Errors
///
/// The address is in use, needs privileges, or is no address of this machine.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let bound = (|| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() {
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
        }
        socket.bind(address)?;
        socket.listen(BACKLOG)
    })();
    bound.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            Failure::new(
                format!("The address {address} is taken: another program listens there already."),
                format!(
                    "Stop that program, or choose another port; --listen {}:0 picks a free one.",
                    Bracketed(address)
                ),
            )
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            Failure::new(
                format!("The address {address} may not be used: {error}."),
                "Ports below 1024 need privileges; choose another with --listen.",
            )
        } else {
            Failure::new(
                format!("The address {address} cannot be listened on: {error}."),
                "Give an address of this machine with --listen, such as 127.0.0.1:8765.",
            )
        }
    })
}

struct Bracketed(SocketAddr);

impl std::fmt::Display for Bracketed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            SocketAddr::V4(address) => address.ip().fmt(f),
            SocketAddr::V6(address) => write!(f, "[{}]", address.ip()),
        }
    }
}

/// A listener: TCP or Unix.
pub trait Accept: Send + 'static {
    /// An accepted connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Accepts the next connection and returns it with the address of its peer. Cancel safe.
    ///
    /// # Errors
    ///
    /// The system could not accept a connection; a later call may succeed.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, PeerAddress)>> + Send;

    /// Waits until the peer has sent data or has closed the connection. Consumes no data.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    fn readable(stream: &Self::Stream) -> impl Future<Output = io::Result<()>> + Send;

    /// Stops listening; a Unix socket is removed.
    fn shut(self);
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, PeerAddress)> {
        let (stream, peer) = self.accept().await?;
        // Small frames should be sent at once. A failure here, as when the peer is gone, shows at the next read.
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS);
        Ok((stream, PeerAddress::From(peer.ip())))
    }

    async fn readable(stream: &TcpStream) -> io::Result<()> {
        stream.async_io(Interest::READABLE, || peek(stream)).await
    }

    fn shut(self) {}
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, PeerAddress)> {
        Ok((self.accept().await?, PeerAddress::Locally))
    }

    async fn readable(stream: &UnixStream) -> io::Result<()> {
        stream.async_io(Interest::READABLE, || peek(stream)).await
    }

    fn shut(self) {
        self.remove();
    }
}

/// Checks for data or end of stream, and consumes nothing.
fn peek(socket: impl AsFd) -> io::Result<()> {
    let mut byte = [0_u8; 1];
    rustix::net::recv(socket, &mut byte[..], RecvFlags::PEEK)?;
    Ok(())
}

/// State shared by all listeners of a gateway.
#[derive(Clone)]
pub struct Shared {
    /// The service that answers the requests.
    pub site: Arc<Site>,
    /// The limits on each connection.
    pub limits: AccessLimits,
    /// One permit per HTTP connection that may be open at once, over all listeners.
    pub room: Arc<Semaphore>,
    /// Counts connections without credentials, over all listeners.
    pub preauth: Arc<PreAuth>,
    /// Becomes true when the gateway shuts down.
    pub stop: watch::Receiver<bool>,
}

/// Serves HTTP on a listener until `stop` becomes true. Requests that are then in progress are still answered.
pub async fn serve<L: Accept>(listener: L, shared: Shared) {
    let Shared { site, limits, room, preauth, mut stop } = shared;
    let patient = http(&limits, limits.header_timeout);
    let hurried = http(&limits, limits.header_timeout.min(HURRY));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                let preauth_state = preauth.accepted(peer);
                let must_authenticate = preauth_state.must_authenticate();
                let http = if must_authenticate { hurried.clone() } else { patient.clone() };
                let (site, stop) = (Arc::clone(&site), stop.clone());
                let lifetime = limits.http_lifetime;
                connections.spawn(async move {
                    if must_authenticate && !matches!(timeout(HURRY, L::readable(&stream)).await, Ok(Ok(())))
                    {
                        site.refuse_unread(stream, peer).await;
                    } else {
                        connection(http, stream, peer, site, preauth_state, lifetime, stop).await;
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
    listener.shut();
    while connections.join_next().await.is_some() {}
}

/// Accepts a connection once a permit is free. Until then, further connections wait in the listen backlog.
async fn accept<L: Accept>(
    listener: &L,
    room: &Arc<Semaphore>,
) -> io::Result<(L::Stream, PeerAddress, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.next().await?;
    Ok((stream, peer, permit))
}

fn http(limits: &AccessLimits, header_timeout: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes)
        .half_close(false)
        .keep_alive(true);
    http
}

fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    http: http1::Builder,
    stream: S,
    peer: PeerAddress,
    site: Arc<Site>,
    preauth_state: Arc<PreAuthState>,
    lifetime: Duration,
    mut stop: watch::Receiver<bool>,
) -> impl Future<Output = ()> {
    let (began, streaming) = watch::channel(None);
    let began = Arc::new(began);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&preauth_state));
        let (site, began) = (Arc::clone(&site), Arc::clone(&began));
        async move {
            let mut response = site.respond(request.map(Body::new), peer).await;
            if let Some(streaming) = response.extensions_mut().remove::<Streaming>() {
                began.send_replace(Some(streaming));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    async move {
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => Some(ended),
            _ = stop.wait_for(|stop| *stop) => None,
            streamed = overdue(lifetime, streaming) => streamed.then_some(Ok(())),
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                timeout(GRACE, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, reason = reason(&error), "an HTTP connection ended early");
        }
    }
}

/// Waits until a connection has reached its longest lifetime, and then returns false. If the connection carries an
/// event stream, waits without limit for the end of the stream, and then returns true: unsent bytes can be dropped.
async fn overdue(lifetime: Duration, mut streaming: watch::Receiver<Option<Streaming>>) -> bool {
    let begun = async {
        let begun = streaming.wait_for(Option::is_some).await;
        begun.ok().and_then(|streaming| streaming.clone())
    };
    match timeout(lifetime, begun).await {
        Ok(Some(streaming)) => {
            streaming.over().await;
            true
        }
        // The service was dropped, so the connection ends by itself.
        Ok(None) => std::future::pending().await,
        Err(_) => false,
    }
}

/// The kind of an HTTP error, for the log. The error's own text may contain bytes from the peer.
fn reason(error: &hyper::Error) -> &'static str {
    if error.is_timeout() {
        "timeout"
    } else if error.is_parse_too_large() {
        "too_large"
    } else if error.is_parse() {
        "not_http"
    } else if error.is_incomplete_message() || error.is_closed() {
        "closed"
    } else {
        "io"
    }
}
