//! Framing of sent frames (RFC 6455 section 5.2).
//!
//! Server frames are not masked (section 5.1), so header and payload have the same bytes for every recipient.

use bytes::Bytes;
use switchboard_core::wire::{CloseCode, Frame};
use switchboard_runtime::Framing;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

/// A ping without payload.
pub(crate) const PING_FRAME: Bytes = Bytes::from_static(&[PING, 0]);

/// A close frame. The reason is cut to the length that fits into a control frame.
pub(crate) fn close_frame(code: CloseCode, reason: &str) -> Bytes {
    let end = (0..=123.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    let mut frame = Vec::with_capacity(4 + end);
    put_header(&mut frame, CLOSE, 2 + end);
    frame.extend_from_slice(&code.number().to_be_bytes());
    frame.extend_from_slice(&reason.as_bytes()[..end]);
    frame.into()
}

/// Appends a frame's header: its first byte, and the length of its payload.
pub(crate) fn put_header(out: &mut Vec<u8>, first: u8, length: usize) {
    let bytes = (length as u64).to_be_bytes();
    match length {
        0..126 => out.extend_from_slice(&[first, bytes[7]]),
        126..0x1_0000 => out.extend_from_slice(&[first, 126, bytes[6], bytes[7]]),
        _ => {
            out.extend_from_slice(&[first, 127]);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Writes one text frame for each event.
#[derive(Debug)]
pub(crate) struct TextFrames;

impl Framing for TextFrames {
    const OVERHEAD: usize = 10;

    fn before(&mut self, out: &mut Vec<u8>, frame: &Frame) {
        put_header(out, TEXT, frame.len());
    }

    fn after(&mut self, _: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_shortest_form() {
        for (length, header) in [
            (125, vec![TEXT, 125]),
            (126, vec![TEXT, 126, 0, 126]),
            (0xffff, vec![TEXT, 126, 0xff, 0xff]),
            (0x1_0000, vec![TEXT, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut written = Vec::new();
            put_header(&mut written, TEXT, length);
            assert_eq!(written[..], header[..]);
        }
    }

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let close = close_frame(CloseCode::TooSlow, &"é".repeat(100));
        assert_eq!(close.len(), 2 + 2 + 122);
        assert_eq!(close_frame(CloseCode::Normal, "")[..], [CLOSE, 2, 0x03, 0xe8]);
    }
}
