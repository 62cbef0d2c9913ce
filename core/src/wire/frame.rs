//! Encoding of events. Each event is encoded once, and all recipients on all transports share its bytes.

use alloc::{boxed::Box, string::ToString as _, vec::Vec};
use core::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    control::ControlEvent,
    event::{ChatBody, EventPosition},
    kind::{ChatKind, FrameKind},
};

/// The approximate size of a delta's fields around its text, in bytes.
const PLACE_BYTES: usize = 160;

/// One encoded frame: a JSON object without a raw line break, so that the same bytes serve a
/// WebSocket text frame, an SSE `data:` line and a line of a Unix socket.
#[derive(Clone)]
pub struct Frame {
    json: Bytes,
    kind: FrameKind,
}

impl Frame {
    /// Makes a frame of encoded JSON, for instance from a journal. `None` if the bytes are not UTF-8, are not an object
    /// or contain a raw line break.
    pub fn new(json: Bytes) -> Option<Self> {
        let whole = json.first() == Some(&b'{') && json.last() == Some(&b'}');
        let one_line = !json.iter().any(|&b| b == b'\n' || b == b'\r');
        let valid = whole && one_line && core::str::from_utf8(&json).is_ok();
        valid.then(|| Self { kind: FrameKind::of_json(&json), json })
    }

    /// The kind of the frame's event.
    pub fn kind(&self) -> FrameKind {
        self.kind
    }

    /// The frame's shared bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.json
    }

    /// The frame as text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.json).expect("a frame is made of UTF-8 only")
    }

    /// The frame as raw JSON, to be put inside another frame.
    pub(crate) fn to_raw(&self) -> Box<RawValue> {
        RawValue::from_string(self.as_str().to_string()).expect("a frame is JSON")
    }

    /// The frame's length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        self.json.len()
    }
}

/// Two frames are equal if their bytes are.
impl PartialEq for Frame {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Frame {}

/// Prints the length only: messages and agents' output do not belong in the gateway's own log.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.len())
    }
}

/// Encodes a chat event: its body, followed by its position in the log.
pub fn encode_chat(place: &EventPosition, body: &ChatBody) -> Frame {
    // Nearly every event is a delta, so deltas have a fast path.
    let mut json = Vec::new();
    if !put_delta(&mut json, body) {
        json = to_json(body);
        assert_eq!(json.pop(), Some(b'}'), "a body is an object");
    }
    // A task has a field of this name itself: the tool use that began it.
    let has_own = matches!(body, ChatBody::Task(task) if task.parent_call_id.is_some());
    let parent_call_id = place.parent_call_id.as_deref().filter(|_| !has_own);
    put_place(&mut json, place, parent_call_id);
    Frame { json: one_line(json), kind: FrameKind::Chat(body.kind()) }
}

/// Encodes the deltas of one append into one buffer, which their frames share.
#[derive(Debug, Default)]
pub(crate) struct DeltaBatch {
    json: Vec<u8>,
    ends: Vec<(usize, ChatKind)>,
}

impl DeltaBatch {
    /// Encodes a delta. `false`: the body is no delta, and nothing is encoded.
    pub(crate) fn push(&mut self, place: &EventPosition, body: &ChatBody) -> bool {
        if !put_delta(&mut self.json, body) {
            return false;
        }
        put_place(&mut self.json, place, place.parent_call_id.as_deref());
        self.ends.push((self.json.len(), body.kind()));
        true
    }

    /// The frames of the deltas, in order.
    pub(crate) fn finish(self) -> impl Iterator<Item = Frame> {
        let whole = one_line(self.json);
        let mut begin = 0;
        self.ends.into_iter().map(move |(end, kind)| {
            let json = whole.slice(core::mem::replace(&mut begin, end)..end);
            Frame { json, kind: FrameKind::Chat(kind) }
        })
    }
}

/// Writes a delta without its closing brace. `false`: the body is no delta.
fn put_delta(json: &mut Vec<u8>, body: &ChatBody) -> bool {
    let (ChatBody::Delta { stream_id, text } | ChatBody::ReasoningDelta { stream_id, text }) = body else {
        return false;
    };
    json.reserve(PLACE_BYTES + stream_id.len() + text.len());
    json.extend_from_slice(b"{\"event\":\"");
    json.extend_from_slice(body.kind().name().as_bytes());
    json.extend_from_slice(b"\",\"stream_id\":");
    push_string(json, stream_id);
    json.extend_from_slice(b",\"text\":");
    push_string(json, text);
    true
}

fn put_place(json: &mut Vec<u8>, place: &EventPosition, parent_call_id: Option<&str>) {
    json.extend_from_slice(b",\"chat_id\":\"");
    json.extend_from_slice(place.chat_id.as_str().as_bytes());
    json.extend_from_slice(b"\",\"epoch\":\"");
    json.extend_from_slice(place.epoch.as_str().as_bytes());
    json.push(b'"');
    if let Some(first) = place.first_seq {
        json.extend_from_slice(b",\"first_seq\":");
        push_number(json, first);
    }
    json.extend_from_slice(b",\"seq\":");
    push_number(json, place.seq);
    if let Some(turn_id) = &place.turn_id {
        json.extend_from_slice(b",\"turn_id\":");
        push_string(json, turn_id.as_str());
    }
    if let Some(parent_call_id) = parent_call_id {
        json.extend_from_slice(b",\"parent_call_id\":");
        push_string(json, parent_call_id);
    }
    json.push(b'}');
}

/// Encodes a control event.
pub fn encode_control(event: &ControlEvent) -> Frame {
    Frame { json: one_line(to_json(event)), kind: FrameKind::Control(event.kind()) }
}

/// Compact JSON escapes every control character, so it is one line by construction.
fn one_line(json: Vec<u8>) -> Bytes {
    assert!(!json.contains(&b'\n'), "compact JSON has no raw line break");
    json.into()
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("wire types have string keys and cannot fail to encode")
}

/// The length of a text in JSON without its quotation marks, in bytes.
pub(crate) fn json_bytes(text: &str) -> usize {
    text.chars().map(json_length).sum()
}

/// The length of one character in JSON, in bytes.
pub(crate) fn json_length(letter: char) -> usize {
    match letter {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => letter.len_utf8(),
    }
}

/// Appends a JSON string (RFC 8259 section 7), escaped exactly as `serde_json` does.
fn push_string(json: &mut Vec<u8>, text: &str) {
    json.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    while let Some(found) = bytes[plain..].iter().position(|byte| ESCAPED[usize::from(*byte)]) {
        let at = plain + found;
        json.extend_from_slice(&bytes[plain..at]);
        put_escape(json, bytes[at]);
        plain = at + 1;
    }
    json.extend_from_slice(&bytes[plain..]);
    json.push(b'"');
}

/// Whether a byte must be escaped in a JSON string.
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        escaped[byte] = true;
        byte += 1;
    }
    escaped[b'"' as usize] = true;
    escaped[b'\\' as usize] = true;
    escaped
};

fn put_escape(json: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            json.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0xf)]);
            return;
        }
    };
    json.extend_from_slice(&[b'\\', short]);
}

fn push_number(json: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    json.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use std::string::{String, ToString as _};

    use super::*;

    #[test]
    fn strings_are_escaped_as_the_library_does() {
        let mut text = String::new();
        for code in (0..0x300).chain([0x2028, 0x2029, 0xfeff, 0x1_f600]) {
            text.extend(char::from_u32(code));
        }
        let mut json = Vec::new();
        push_string(&mut json, &text);
        assert_eq!(json, to_json(&text));
    }

    #[test]
    fn numbers_are_written_whole() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            let mut json = Vec::new();
            push_number(&mut json, number);
            assert_eq!(json, number.to_string().into_bytes());
        }
    }
}
