//! The trace files over every transport. `TRACE=name` runs those whose names contain it.

use switchboard_conformance::{Lab, traces::check};

use crate::{
    memory::Memory,
    sse::Sse,
    unix::Unix,
    websocket::{OlderWebSocket, WebSocket},
};

async fn agree(lab: &dyn Lab) {
    let only = std::env::var("TRACE").ok();
    let report = check(lab, only.as_deref()).await;
    println!("{}: {} traces agree", lab.name(), report.agree);
    for cannot in &report.cannot {
        println!("{}: cannot run {cannot}", lab.name());
    }
    assert!(report.failed.is_empty(), "{}:\n{}", lab.name(), report.failed.join("\n"));
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
