//! Real streams and POSTs over loopback, in an axum application.

use std::net::SocketAddr;

use async_trait::async_trait;
use axum::{
    extract::Request,
    http::header::AUTHORIZATION,
    middleware::{Next, from_fn},
};
use switchboard_conformance::{
    Client, Endpoint, Need, Received, Transport,
    sse_client::{RawClient, post_with},
};
use switchboard_core::ids::Principal;
use switchboard_runtime::{Admission, Gateway};
use switchboard_transport_sse::{Options, router};
use tokio::net::TcpListener;

use crate::Served;

pub(crate) struct Sse;

struct SseEndpoint {
    address: SocketAddr,
    _served: Served,
}

struct SseClient {
    raw: RawClient,
    address: SocketAddr,
    /// Where it posts, and as whom; none if it was refused.
    stream: Option<String>,
    principal: String,
    first: Option<Received>,
}

#[async_trait]
impl Transport for Sse {
    fn name(&self) -> &'static str {
        "sse"
    }

    fn cannot(&self, need: Need) -> Option<&'static str> {
        match need {
            Need::Legacy => {
                Some("frames of the older vocabulary exist on WebSocket only, without a subprotocol")
            }
            Need::Clock | Need::Outbox | Need::Ownership | Need::Strict | Need::Principals | Need::Names => {
                None
            }
        }
    }

    async fn serve(&self, gateway: Gateway) -> Box<dyn Endpoint> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        // Believes whoever says who it is: who may connect is not what is tested here.
        let believe = from_fn(|mut request: Request, next: Next| async move {
            let name = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let principal = name.and_then(|name| Principal::parse(name).ok()).expect("it says who it is");
            request.extensions_mut().insert(Admission::Verified(principal));
            next.run(request).await
        });
        // The limit that the traces are about is the gateway's.
        let options = Options { chats: usize::MAX, ..Options::default() };
        let app = router(gateway, options).layer(believe);
        let served = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("connections can be accepted");
        });
        Box::new(SseEndpoint { address, _served: Served(served) })
    }
}

#[async_trait]
impl Endpoint for SseEndpoint {
    async fn open(&self, principal: &Principal, client_id: &str) -> Box<dyn Client> {
        let mut raw = RawClient::connect(self.address).await;
        let principal = format!("Authorization: {principal}");
        raw.get(&format!("/sse?client_id={client_id}"), &[&principal]).await;
        let mut client = SseClient { raw, address: self.address, stream: None, principal, first: None };
        let first = client.next().await;
        client.first = Some(client.without_stream(first));
        Box::new(client)
    }
}

impl SseClient {
    /// Takes the stream's name out of `ready`: it is all that is not the same everywhere.
    fn without_stream(&mut self, first: Received) -> Received {
        let Received::Frame(frame) = first else { return first };
        let ready: serde_json::Value = serde_json::from_str(&frame).expect("an event is JSON");
        let name = ready["stream"].as_str().expect("it has a name");
        self.stream = Some(format!("Switchboard-Stream: {name}"));
        Received::Frame(frame.replace(&format!(r#","stream":"{name}""#), ""))
    }
}

#[async_trait]
impl Client for SseClient {
    async fn send(&mut self, frame: &str) {
        self.send_bytes(frame.as_bytes()).await;
    }

    async fn send_bytes(&mut self, frame: &[u8]) {
        let Some(stream) = &self.stream else { return };
        let headers = [&*self.principal, &**stream, "Content-Type: application/json"];
        let status = post_with(self.address, &headers, frame).await;
        // One that is closed does not take it; what it was closed for is what comes next.
        assert!(matches!(status, 202 | 410), "{status}");
    }

    async fn next(&mut self) -> Received {
        if let Some(first) = self.first.take() {
            return first;
        }
        loop {
            let Some(block) = self.raw.next().await else { return Received::Gone };
            let Some(data) = block.data else { continue };
            let event: serde_json::Value = serde_json::from_str(&data).expect("an event is JSON");
            return match event["close"].as_u64().and_then(|code| u16::try_from(code).ok()) {
                Some(code) => Received::Closed { code, frame: Some(data) },
                None => Received::Frame(data),
            };
        }
    }

    async fn close(self: Box<Self>) {}

    async fn abort(self: Box<Self>) {}
}
