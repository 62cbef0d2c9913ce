//! Fills pages of history, in the same way for every journal.

use alloc::{string::String, vec::Vec};

use crate::wire::{ChatBody, ChatEvent, Frame, encode_chat, json_bytes};

/// Maximum size of the text of merged deltas in a page of history, in bytes of JSON.
const JOINED_BYTES: usize = 64 * 1024;

/// Fills a page of history from its newest event backwards, and merges adjacent deltas of one stream.
///
/// Offer it events, newest first, until it refuses one: the next page begins with the refused event.
#[derive(Debug)]
pub struct PageBuilder {
    most_events: usize,
    most_bytes: usize,
    /// Newest first.
    frames: Vec<Frame>,
    bytes: usize,
    joining: Option<Joining>,
}

/// Adjacent deltas that are being merged into one event.
#[derive(Debug)]
struct Joining {
    /// The newest delta. Its sequence numbers grow to cover all merged deltas.
    event: ChatEvent,
    /// The texts of the earlier deltas, newest first.
    earlier: Vec<String>,
    text_bytes: usize,
}

impl PageBuilder {
    /// Creates an empty page for at most `events` events, after merging, and about `bytes` bytes. One event always
    /// fits.
    pub fn new(events: u32, bytes: usize) -> Self {
        Self {
            most_events: usize::try_from(events).unwrap_or(usize::MAX),
            most_bytes: bytes,
            frames: Vec::new(),
            bytes: 0,
            joining: None,
        }
    }

    /// Adds the event just before the page's oldest one. `false`: the page is full and the event is not added.
    pub fn takes(&mut self, frame: &Frame) -> bool {
        let delta = as_delta(frame);
        if let (Some(joining), Some(earlier)) = (&mut self.joining, &delta)
            && joining.precedes(earlier)
        {
            let more = parts(&earlier.body).map_or(0, |(_, _, text)| json_bytes(text));
            if self.bytes + more > self.most_bytes {
                return false;
            }
            joining.put_before(delta.expect("it was just looked at"));
            self.bytes += more;
            return true;
        }
        let count = self.frames.len() + usize::from(self.joining.is_some());
        if count >= self.most_events || (count > 0 && self.bytes + frame.len() > self.most_bytes) {
            return false;
        }
        self.settle();
        self.bytes += frame.len();
        match delta {
            Some(delta) => self.joining = Some(Joining::new(delta)),
            None => self.frames.push(frame.clone()),
        }
        true
    }

    /// The page's events, oldest first.
    pub fn finish(mut self) -> Vec<Frame> {
        self.settle();
        self.frames.reverse();
        self.frames
    }

    fn settle(&mut self) {
        if let Some(joined) = self.joining.take() {
            let event = joined.whole();
            self.frames.push(encode_chat(&event.place, &event.body));
        }
    }
}

impl Joining {
    fn new(event: ChatEvent) -> Self {
        let text_bytes = parts(&event.body).map_or(0, |(_, _, text)| json_bytes(text));
        Self { event, earlier: Vec::new(), text_bytes }
    }

    /// Whether an earlier delta can be merged: same stream, turn and epoch, and not too long together.
    fn precedes(&self, earlier: &ChatEvent) -> bool {
        let (Some((kind, stream, text)), Some((later_kind, later_stream, _))) =
            (parts(&earlier.body), parts(&self.event.body))
        else {
            return false;
        };
        kind == later_kind
            && stream == later_stream
            && earlier.place.turn_id == self.event.place.turn_id
            && earlier.place.epoch == self.event.place.epoch
            && json_bytes(text) + self.text_bytes <= JOINED_BYTES
    }

    fn put_before(&mut self, earlier: ChatEvent) {
        self.event.place.first_seq = Some(earlier.place.first());
        if let Some(text) = text_of(earlier.body) {
            self.text_bytes += json_bytes(&text);
            self.earlier.push(text);
        }
    }

    fn whole(mut self) -> ChatEvent {
        if let ChatBody::Delta { text, .. } | ChatBody::ReasoningDelta { text, .. } = &mut self.event.body {
            let mut whole = String::with_capacity(self.text_bytes);
            self.earlier.iter().rev().for_each(|part| whole.push_str(part));
            whole.push_str(text);
            *text = whole;
        }
        self.event
    }
}

pub(super) fn as_delta(frame: &Frame) -> Option<ChatEvent> {
    frame.kind().is_delta().then(|| serde_json::from_slice(frame.bytes()).ok()).flatten()
}

/// Whether the delta is thinking, then its stream and its text.
fn parts(body: &ChatBody) -> Option<(bool, &str, &str)> {
    if let ChatBody::Delta { stream_id, text } = body {
        Some((false, stream_id, text))
    } else if let ChatBody::ReasoningDelta { stream_id, text } = body {
        Some((true, stream_id, text))
    } else {
        None
    }
}

fn text_of(body: ChatBody) -> Option<String> {
    if let ChatBody::Delta { text, .. } | ChatBody::ReasoningDelta { text, .. } = body {
        Some(text)
    } else {
        None
    }
}
