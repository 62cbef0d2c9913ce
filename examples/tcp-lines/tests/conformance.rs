//! The suite over this transport: three small traits, and a call.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]
#![allow(clippy::print_stdout, reason = "what does not run is said")]

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use switchboard_conformance::{Client, Endpoint, Need, Received, Transport, WAIT, traces};
use switchboard_core::ids::Principal;
use switchboard_example_tcp_lines::serve;
use switchboard_runtime::{Gateway, Verifier};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
    time::timeout,
};

struct Tcp;

struct TcpEndpoint {
    address: SocketAddr,
    served: JoinHandle<()>,
}

struct TcpClient {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

/// A token is the name of its principal: who may connect is not what is tested here.
struct Names;

impl Verifier for Names {
    fn verify(&self, token: &str) -> Option<Principal> {
        Principal::parse(token).ok()
    }
}

#[async_trait]
impl Transport for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn cannot(&self, need: Need) -> Option<&'static str> {
        match need {
            Need::Legacy => Some("frames of the older vocabulary exist on WebSocket only"),
            Need::Names => Some("a peer has no name of its own, and the one it gets is longer"),
            Need::Strict | Need::Principals | Need::Clock | Need::Outbox | Need::Ownership => None,
        }
    }

    async fn serve(&self, gateway: Gateway) -> Box<dyn Endpoint> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move { serve(listener, gateway, Arc::new(Names)).await.unwrap() });
        Box::new(TcpEndpoint { address, served })
    }
}

impl Drop for TcpEndpoint {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn connect(address: SocketAddr, first: &str) -> TcpClient {
    let (reader, writer) = TcpStream::connect(address).await.unwrap().into_split();
    let mut client = TcpClient { lines: BufReader::new(reader).lines(), writer };
    client.send(first).await;
    client
}

#[async_trait]
impl Endpoint for TcpEndpoint {
    async fn open(&self, principal: &Principal, _: &str) -> Box<dyn Client> {
        let first = format!(r#"{{"type":"authenticate","token":"{principal}"}}"#);
        Box::new(connect(self.address, &first).await)
    }
}

#[async_trait]
impl Client for TcpClient {
    async fn send(&mut self, frame: &str) {
        self.send_bytes(frame.as_bytes()).await;
    }

    async fn send_bytes(&mut self, frame: &[u8]) {
        // One that is closed does not take it; what it was closed for is what comes next.
        let _ = self.writer.write_all(&[frame, b"\n"].concat()).await;
    }

    async fn next(&mut self) -> Received {
        let Ok(Some(line)) = self.lines.next_line().await else { return Received::Gone };
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        match event["close"].as_u64().and_then(|code| u16::try_from(code).ok()) {
            Some(code) => Received::Closed { code, frame: Some(line) },
            None => Received::Frame(line),
        }
    }

    async fn close(self: Box<Self>) {}

    async fn abort(self: Box<Self>) {}
}

#[tokio::test]
async fn it_carries_every_conversation_like_the_others() {
    let report = traces::check(&Tcp, None).await;
    println!("{} traces agree", report.agree);
    for cannot in &report.cannot {
        println!("not run: {cannot}");
    }
    assert!(report.failed.is_empty(), "{}", report.failed.join("\n"));
    assert!(report.agree > 20, "{}", report.agree);
}

/// What the suite takes for granted: without credentials, there is nothing.
#[tokio::test]
async fn nobody_passes_without_a_token() {
    let gateway = switchboard_conformance::TestGateway::new(switchboard_core::Limits::default());
    for first in [r#"{"type":"new_chat"}"#, r#"{"type":"authenticate","token":"no token"}"#, "", "\u{0}"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(serve(listener, gateway.handle().clone(), Arc::new(Names)));
        let mut client = connect(address, first).await;
        let received = timeout(WAIT, client.next()).await.unwrap();
        assert!(matches!(received, Received::Closed { code: 4401, .. }), "{first}: {received:?}");
        assert_eq!(gateway.handle().counts().await.unwrap().connections, 0);
        served.abort();
    }
}

/// A line without end costs no more than the limit.
#[tokio::test]
async fn a_line_without_end_is_refused() {
    let limits = switchboard_core::Limits { frame_bytes: 1000, ..switchboard_core::Limits::default() };
    let gateway = switchboard_conformance::TestGateway::new(limits);
    let endpoint = Tcp.serve(gateway.handle().clone()).await;
    let mut client = endpoint.open(&Principal::owner(), "").await;
    client.send(&"x".repeat(2000)).await;
    let closed = async {
        loop {
            if let Received::Closed { code, .. } = client.next().await {
                return code;
            }
        }
    };
    assert_eq!(timeout(WAIT, closed).await.unwrap(), 1009);
}
