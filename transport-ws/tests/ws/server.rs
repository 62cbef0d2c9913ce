//! A gateway with scripted agents, served over loopback.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension,
    http::{StatusCode, request::Parts},
};
use switchboard_conformance::{TestGateway, WAIT, generous_limits};
use switchboard_core::{Limits, ids::Principal};
use switchboard_runtime::{Admission, Verifier};
use switchboard_transport_ws::{AccessPolicy, Options, router, serve};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

/// The token that [`OneToken`] accepts.
pub(crate) const TOKEN: &str = "0123456789abcdef";

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

struct OneToken;

impl Verifier for OneToken {
    fn verify(&self, token: &str) -> Option<Principal> {
        (token == TOKEN).then(Principal::owner)
    }
}

/// For connections that have to authenticate in their first frame.
pub(crate) fn first_frame() -> Admission {
    Admission::FirstFrame(Arc::new(OneToken))
}

/// For connections that authenticated in the handshake.
pub(crate) fn verified() -> Admission {
    Admission::Verified(Principal::owner())
}

struct Fixed(Admission);

impl AccessPolicy for Fixed {
    fn admit(&self, _: &Parts, _: SocketAddr) -> Result<Admission, StatusCode> {
        Ok(self.0.clone())
    }
}

struct Shut;

impl AccessPolicy for Shut {
    fn admit(&self, _: &Parts, _: SocketAddr) -> Result<Admission, StatusCode> {
        Err(StatusCode::FORBIDDEN)
    }
}

impl Server {
    /// A server with a listener of its own, whose clients authenticated in the handshake.
    pub(crate) async fn new() -> Self {
        Self::with(generous_limits(), Options::default(), verified()).await
    }

    pub(crate) async fn with(limits: Limits, options: Options, admission: Admission) -> Self {
        Self::behind(limits, options, Arc::new(Fixed(admission))).await
    }

    /// A server that refuses every client.
    pub(crate) async fn shut() -> Self {
        Self::behind(generous_limits(), Options::default(), Arc::new(Shut)).await
    }

    async fn behind(limits: Limits, options: Options, policy: Arc<dyn AccessPolicy>) -> Self {
        let gateway = TestGateway::new(limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = serve(listener, gateway.handle().clone(), options, policy);
        let served = tokio::spawn(async move { serving.await.unwrap() });
        Self { gateway, address, served }
    }

    /// A server within an axum application.
    pub(crate) async fn mounted(admission: Option<Admission>) -> Self {
        let gateway = TestGateway::new(generous_limits());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = router(gateway.handle().clone(), Options::default());
        let app = match admission {
            Some(admission) => app.layer(Extension(admission)),
            None => app,
        };
        let served = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { gateway, address, served }
    }
}

/// Polls until the condition is true.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(WAIT, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}
