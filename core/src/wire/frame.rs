//! Encoding: once per event, the bytes shared by every recipient over every transport.

use alloc::{string::String, vec::Vec};
use core::fmt;

use bytes::Bytes;
use serde::Serialize;

use super::{
    control::ControlEvent,
    event::{ChatBody, Place},
};

/// One encoded frame: a JSON object without a raw line break, so that the same bytes serve a
/// WebSocket text frame, an SSE `data:` line and a line of a Unix socket.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// Takes encoded JSON, for instance from a journal. `None` if it is not UTF-8, is not an object
    /// or holds a raw line break.
    pub fn new(json: Bytes) -> Option<Self> {
        let whole = json.first() == Some(&b'{') && json.last() == Some(&b'}');
        let one_line = !json.iter().any(|&b| b == b'\n' || b == b'\r');
        (whole && one_line && core::str::from_utf8(&json).is_ok()).then_some(Self(json))
    }

    /// Compact JSON escapes every control character, so it is one line by construction.
    fn from_compact(json: Vec<u8>) -> Self {
        assert!(!json.contains(&b'\n'), "compact JSON has no raw line break");
        Self(json.into())
    }

    /// The bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The frame as text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("both constructors take UTF-8 only")
    }

    /// Its length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Shows the length only: frames hold what people and agents write.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.0.len())
    }
}

/// Encodes a chat event: its body with its place appended.
pub fn encode_chat(place: &Place, body: &ChatBody) -> Frame {
    let mut json = to_json(body);
    assert_eq!(json.pop(), Some(b'}'), "a body is an object");
    json.extend_from_slice(b",\"chat_id\":\"");
    json.extend_from_slice(place.chat_id.as_str().as_bytes());
    json.extend_from_slice(b"\",\"epoch\":\"");
    json.extend_from_slice(place.epoch.as_str().as_bytes());
    json.push(b'"');
    if let Some(first) = place.first_seq {
        json.extend_from_slice(b",\"first_seq\":");
        push_number(&mut json, first);
    }
    json.extend_from_slice(b",\"seq\":");
    push_number(&mut json, place.seq);
    if let Some(turn_id) = &place.turn_id {
        json.extend_from_slice(b",\"turn_id\":");
        json.append(&mut to_json(turn_id));
    }
    json.push(b'}');
    Frame::from_compact(json)
}

/// Encodes a control event.
pub fn encode_control(event: &ControlEvent) -> Frame {
    Frame::from_compact(to_json(event))
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("wire types have string keys and cannot fail to encode")
}

fn push_number(json: &mut Vec<u8>, number: u64) {
    let mut text = String::new();
    fmt::write(&mut text, format_args!("{number}")).expect("a String takes any text");
    json.extend_from_slice(text.as_bytes());
}
