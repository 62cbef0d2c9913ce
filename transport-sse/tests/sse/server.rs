//! A gateway with scripted agents, served over loopback as a server should.

use std::{convert::Infallible, net::SocketAddr, sync::Mutex, time::Duration};

use axum::body::Body;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use switchboard_conformance::{TestGateway, generous_limits};
use switchboard_core::{Limits, ids::Principal};
use switchboard_runtime::Admission;
use switchboard_transport_sse::{Options, Sse, Streaming};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

pub(crate) struct Server {
    pub(crate) gateway: TestGateway,
    pub(crate) address: SocketAddr,
    served: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Server {
    pub(crate) async fn new() -> Self {
        Self::with(generous_limits(), Options::default()).await
    }

    pub(crate) async fn with(limits: Limits, options: Options) -> Self {
        Self::noticing(limits, options, Duration::from_secs(30)).await
    }

    /// A server whose system ends connections in which sent bytes stay unacknowledged for this long.
    pub(crate) async fn noticing(limits: Limits, options: Options, unacknowledged: Duration) -> Self {
        let gateway = TestGateway::new(limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sse = Sse::new(gateway.handle().clone(), options);
        let served = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(socket, sse.clone(), unacknowledged));
            }
        });
        Self { gateway, address, served }
    }
}

/// Believes the principal that a request names, because access control is not tested here.
fn admission(request: &Request<Body>) -> Option<Admission> {
    match request.headers().get("authorization").map(|value| value.to_str().unwrap()) {
        None => Some(Admission::Verified(Principal::owner())),
        Some("nobody") => None,
        Some(name) => Some(Admission::Verified(Principal::parse(name).unwrap())),
    }
}

async fn serve(socket: TcpStream, sse: Sse, unacknowledged: Duration) {
    let unacknowledged = u32::try_from(unacknowledged.as_millis()).unwrap();
    rustix::net::sockopt::set_tcp_user_timeout(&socket, unacknowledged).unwrap();
    let (began, streaming) = oneshot::channel();
    let began = Mutex::new(Some(began));
    let service = service_fn(|request: Request<Incoming>| {
        let (sse, began) = (sse.clone(), &began);
        async move {
            let request = request.map(Body::new);
            let admission = admission(&request);
            let mut response = match request.uri().path() {
                "/sse" => sse.stream(admission, &request),
                _ => sse.message(admission, request).await,
            };
            if let Some(streaming) = response.extensions_mut().remove::<Streaming>() {
                // Only the first stream on a connection ends it; a second one is served like any other.
                let began = began.lock().unwrap().take();
                let _ = began.map(|began| began.send(streaming));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(1))
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(socket), service);
    let over = async {
        match streaming.await {
            Ok(streaming) => streaming.over().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        // Clients of these tests end connections in every way, so an error is no failure.
        _ = connection => {}
        () = over => {}
    }
}
