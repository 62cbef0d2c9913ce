//! Real WebSocket connections over loopback, to a listener of the transport's own.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use axum::http::{
    HeaderValue, StatusCode,
    header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
    request::Parts,
};
use futures::{SinkExt as _, StreamExt as _};
use switchboard_conformance::{Client, Endpoint, Need, Received, Transport};
use switchboard_core::{ids::Principal, wire::PROTOCOL};
use switchboard_runtime::{Admission, Gateway};
use switchboard_transport_ws::{AccessPolicy, Options, serve};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::Served;

pub(crate) struct WebSocket;

/// Clients that offer no subprotocol, and so may send frames of the older vocabulary.
pub(crate) struct OlderWebSocket;

struct WebSocketEndpoint {
    offers_protocol: bool,
    address: SocketAddr,
    _served: Served,
}

struct WebSocketClient(WebSocketStream<TcpStream>);

/// Believes whoever says who it is: who may connect is not what is tested here.
struct OpenDoor;

impl AccessPolicy for OpenDoor {
    fn admit(&self, head: &Parts, _: SocketAddr) -> Result<Admission, StatusCode> {
        let name = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let principal = name.and_then(|name| Principal::parse(name).ok());
        principal.map(Admission::Verified).ok_or(StatusCode::UNAUTHORIZED)
    }
}

#[async_trait]
impl Transport for WebSocket {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn cannot(&self, need: Need) -> Option<&'static str> {
        (need == Need::Legacy).then_some("clients that offer the subprotocol send no such frames")
    }

    async fn serve(&self, gateway: Gateway) -> Box<dyn Endpoint> {
        Box::new(WebSocketEndpoint::new(gateway, true).await)
    }
}

#[async_trait]
impl Transport for OlderWebSocket {
    fn name(&self) -> &'static str {
        "websocket-older"
    }

    fn cannot(&self, need: Need) -> Option<&'static str> {
        (need == Need::Strict).then_some("it takes frames of the older vocabulary")
    }

    async fn serve(&self, gateway: Gateway) -> Box<dyn Endpoint> {
        Box::new(WebSocketEndpoint::new(gateway, false).await)
    }
}

impl WebSocketEndpoint {
    async fn new(gateway: Gateway, offers_protocol: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let served = tokio::spawn(async move {
            let served = serve(listener, gateway, Options::default(), Arc::new(OpenDoor)).await;
            served.expect("connections can be accepted");
        });
        Self { offers_protocol, address, _served: Served(served) }
    }
}

#[async_trait]
impl Endpoint for WebSocketEndpoint {
    async fn open(&self, principal: &Principal, client_id: &str) -> Box<dyn Client> {
        let url = format!("ws://{}/?client_id={client_id}", self.address);
        let mut request = url.into_client_request().expect("a URL");
        let name = principal.as_str().parse().expect("a principal is a header value");
        request.headers_mut().insert(AUTHORIZATION, name);
        if self.offers_protocol {
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
        }
        let socket = TcpStream::connect(self.address).await.expect("it listens");
        let (stream, _) = client_async(request, socket).await.expect("the upgrade is accepted");
        Box::new(WebSocketClient(stream))
    }
}

#[async_trait]
impl Client for WebSocketClient {
    async fn send(&mut self, frame: &str) {
        // One that is closed does not take it; what it was closed for is what comes next.
        let _ = self.0.send(Message::text(frame)).await;
    }

    async fn send_bytes(&mut self, frame: &[u8]) {
        let _ = self.0.send(Message::binary(frame.to_vec())).await;
    }

    async fn next(&mut self) -> Received {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Received::Frame(text.as_str().to_owned()),
                Some(Ok(Message::Close(Some(close)))) => {
                    return Received::Closed { code: close.code.into(), frame: None };
                }
                Some(Ok(Message::Binary(_))) => panic!("no binary frame is ever sent"),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Received::Gone,
            }
        }
    }

    async fn close(mut self: Box<Self>) {
        let closed = async {
            // A connection that has ended already is closed.
            let _ = self.0.close(None).await;
            while let Some(Ok(_)) = self.0.next().await {}
        };
        timeout(switchboard_conformance::WAIT, closed).await.expect("a close is answered");
    }

    async fn abort(self: Box<Self>) {}
}
