//! Reads arbitrary bytes as a peer's request and as its frames. `cargo bolero test -p switchboard-transport-ws
//! fuzz::whatever_frames_arrive_are_read_or_refused` searches further.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{body::Body, extract::Request, http};
use bytes::Bytes;
use futures::StreamExt as _;
use switchboard_core::{Limits, ids::Principal};
use switchboard_runtime::Admission;
use switchboard_test_support::replay_damaged;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use crate::{
    handshake::check,
    read::{ReadSide, Shared},
    session::config,
};

/// The longest message, and the most fragments of one.
const LONGEST: usize = 256;
const FRAGMENTS: u32 = 8;

/// A peer whose bytes arrive in pieces.
struct Pieces<'a>(&'a [u8], usize);

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.1.min(self.0.len()).min(buf.remaining());
        let (now, later) = self.0.split_at(length);
        buf.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

/// Reads until the end of the stream, or until the connection is to be closed.
async fn read(bytes: &[u8], size: usize) -> Vec<Message> {
    let shared = Arc::new(Shared::default());
    // The first byte arrived with the request.
    let (early, rest) = bytes.split_at(bytes.len().min(1));
    let early = Bytes::copy_from_slice(early);
    let side = ReadSide::new(Pieces(rest, size), early, FRAGMENTS, u64::MAX, Arc::clone(&shared));
    let limits = Limits { frame_bytes: LONGEST, ..Limits::default() };
    let mut socket = WebSocketStream::from_raw_socket(side, Role::Server, Some(config(&limits))).await;
    let mut messages = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        assert!(message.len() <= LONGEST, "{} bytes", message.len());
        messages.push(message);
    }
    // Replies are bounded: pongs and a close frame.
    assert!(shared.replies.try_take().len() <= 4 * 1024);
    messages
}

fn frames(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let one_by_one = runtime.block_on(read(bytes, 1));
    for size in [3, 4096] {
        let messages = runtime.block_on(read(bytes, size));
        // A limit that is exceeded later in the same piece is noticed before the earlier messages are read.
        assert!(one_by_one.starts_with(&messages), "in pieces of {size}: {messages:?}, not {one_by_one:?}");
    }
}

/// The input is lines: the request target, then headers.
fn upgrade(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut request = http::Request::builder().uri(lines.next().unwrap_or_default());
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        request = request.header(name, value.get(1..).unwrap_or_default().trim_ascii());
    }
    // The HTTP server refuses invalid HTTP before this code.
    let Ok(request) = request.body(Body::empty()) else { return };
    let request: Request = request;
    let admission = Some(Admission::Verified(Principal::owner()));
    if let Ok(accepted) = check(&request, admission) {
        let response = accepted.response();
        assert_eq!(response.status(), http::StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(request.headers()["sec-websocket-version"], "13");
        assert_eq!(response.headers()["sec-websocket-accept"].len(), 28);
    }
    assert!(check(&request, None).is_err(), "without credentials");
}

#[test]
fn whatever_frames_arrive_are_read_or_refused() {
    bolero::check!(name = "websocket")
        .with_iterations(1000)
        .with_max_len(600)
        .for_each(|bytes: &[u8]| frames(bytes));
}

#[test]
fn damaged_frames_are_read_or_refused() {
    replay_damaged(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/__fuzz__/websocket/corpus"), frames);
}

#[test]
fn whatever_is_asked_is_upgraded_or_refused() {
    bolero::check!(name = "upgrade")
        .with_iterations(1000)
        .with_max_len(600)
        .for_each(|bytes: &[u8]| upgrade(bytes));
}

#[test]
fn damaged_requests_are_upgraded_or_refused() {
    replay_damaged(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/__fuzz__/upgrade/corpus"), upgrade);
}
