//! The trace files over every transport. `TRACE=name` runs those whose names contain it.

use switchboard_conformance::{Transport, traces::check};

use crate::{
    memory::Memory,
    sse::Sse,
    unix::Unix,
    websocket::{OlderWebSocket, WebSocket},
};

async fn agree(transport: &dyn Transport) {
    let only = std::env::var("TRACE").ok();
    let report = check(transport, only.as_deref()).await;
    println!("{}: {} traces agree", transport.name(), report.agree);
    for cannot in &report.cannot {
        println!("{}: cannot run {cannot}", transport.name());
    }
    assert!(report.failed.is_empty(), "{}:\n{}", transport.name(), report.failed.join("\n"));
    assert!(only.is_some() || report.agree > 0, "no trace ran");
}

#[tokio::test]
async fn over_memory() {
    agree(&Memory).await;
}

#[tokio::test]
async fn over_websocket() {
    agree(&WebSocket).await;
}

#[tokio::test]
async fn over_websocket_without_a_subprotocol() {
    agree(&OlderWebSocket).await;
}

#[tokio::test]
async fn over_sse() {
    agree(&Sse).await;
}

#[tokio::test]
async fn over_unix() {
    agree(&Unix).await;
}
