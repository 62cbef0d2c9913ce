//! Parses arbitrary requests for a stream, and sends arbitrary events over one. `cargo bolero test -p
//! switchboard-transport-sse fuzz::whatever_is_asked_is_understood_or_refused` searches further.

use std::path::Path;

use axum::{body::Body, extract::Request, http};
use bytes::Bytes;
use switchboard_core::wire::Frame;
use switchboard_test_support::replay_damaged;

use crate::{chats::Chats, cursor::cursor_effect, request::StreamRequest};

/// The most chats of a stream.
const MOST: usize = 4;

/// The input: the first line is the request's URI, the other lines are values of `Last-Event-ID`.
fn stream(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut request = http::Request::builder().uri(lines.next().unwrap_or_default());
    for line in lines {
        request = request.header("last-event-id", line);
    }
    // The HTTP server refuses invalid HTTP before this code.
    let Ok(request) = request.body(Body::empty()) else { return };
    let request: Request = request;
    let Ok(wanted) = StreamRequest::of(&request, MOST) else { return };
    assert!(wanted.chats.len() <= MOST);
    // An event id that was parsed means the same after it was written and parsed again.
    let id: Vec<String> = wanted
        .chats
        .cursors()
        .map(|(chat, after)| match after {
            Some(after) => format!("{chat}@{}:{}", after.epoch, after.seq),
            None => chat.to_string(),
        })
        .collect();
    if !id.is_empty() {
        let again = Chats::parse(&id.join(",")).unwrap();
        assert!(again.cursors().eq(wanted.chats.cursors()), "{id:?}");
    }
}

/// Each line is an event of the core.
fn events(bytes: &[u8]) {
    let mut chats = Chats::parse("c-1,c-2").unwrap();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(frame) = Frame::new(Bytes::copy_from_slice(line)) {
            let _ = cursor_effect(&frame);
            let _ = chats.note_sent(&frame);
        }
    }
}

fn corpus(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/__fuzz__").join(name).join("corpus")
}

#[test]
fn whatever_is_asked_is_understood_or_refused() {
    bolero::check!(name = "stream")
        .with_iterations(1000)
        .with_max_len(300)
        .for_each(|bytes: &[u8]| stream(bytes));
}

#[test]
fn damaged_requests_are_understood_or_refused() {
    replay_damaged(&corpus("stream"), stream);
}

#[test]
fn whatever_is_sent_is_followed() {
    bolero::check!(name = "events")
        .with_iterations(1000)
        .with_max_len(600)
        .for_each(|bytes: &[u8]| events(bytes));
}

#[test]
fn damaged_events_are_followed() {
    replay_damaged(&corpus("events"), events);
}
