//! Compaction: a journal merges the deltas of an ended stream into fewer records. Each record remembers the length of
//! every delta's text, so that a reader can still resume at any cursor.

use alloc::{string::String, vec::Vec};

use super::{LogEvent, page::as_delta};
use crate::wire::{ChatBody, ChatEvent, encode_chat};

/// Maximum size of a merged record, in bytes of the deltas' frames.
const RECORD_BYTES: usize = 64 * 1024;

/// A run of adjacent deltas of one stream that is being merged into one record.
#[derive(Debug)]
pub struct DeltaRun {
    /// The newest delta. Its text is replaced by the text of the whole run at the end.
    event: ChatEvent,
    first_seq: u64,
    text: String,
    lengths: Vec<u32>,
    bytes: usize,
    records: usize,
}

/// The record that a run was merged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactedDelta {
    /// The merged event.
    pub event: LogEvent,
    /// The length of the text of each sequence number, in bytes.
    pub lengths: Vec<u32>,
}

impl DeltaRun {
    /// Begins a run with this event; `lengths` if the event is a merged record itself. `None`: the event is no delta,
    /// or the lengths do not match its sequence numbers.
    pub fn begin(event: &LogEvent, lengths: Option<&[u32]>) -> Option<Self> {
        let mut parsed = as_delta(&event.frame)?;
        let text = core::mem::take(text_of(&mut parsed.body)?);
        let numbers = event.seq - event.first_seq + 1;
        let lengths: Vec<u32> = match lengths {
            Some(lengths) => lengths.into(),
            None => alloc::vec![u32::try_from(text.len()).ok()?],
        };
        let whole = usize::try_from(numbers).ok() == Some(lengths.len());
        let bytes = event.frame.len();
        whole.then_some(Self { event: parsed, first_seq: event.first_seq, text, lengths, bytes, records: 1 })
    }

    /// Adds the next event, if it belongs to the run and the record has room. `false`: the run ends before the event.
    pub fn takes(&mut self, event: &LogEvent, lengths: Option<&[u32]>) -> bool {
        let Some(next) = Self::begin(event, lengths) else { return false };
        let (mine, other) = (&self.event.place, &next.event.place);
        let joins = stream_of(&self.event.body) == stream_of(&next.event.body)
            && mine.turn_id == other.turn_id
            && mine.parent_call_id == other.parent_call_id
            && mine.epoch == other.epoch
            && mine.seq + 1 == next.first_seq
            && self.bytes + next.bytes <= RECORD_BYTES;
        if joins {
            self.text.push_str(&next.text);
            self.lengths.extend(next.lengths);
            self.bytes += next.bytes;
            self.records += 1;
            self.event = next.event;
        }
        joins
    }

    /// The number of records merged so far.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Ends the run and returns the merged record.
    pub fn finish(mut self) -> CompactedDelta {
        if let Some(text) = text_of(&mut self.event.body) {
            *text = self.text;
        }
        let seq = self.event.place.seq;
        self.event.place.first_seq = (self.first_seq < seq).then_some(self.first_seq);
        let frame = encode_chat(&self.event.place, &self.event.body);
        CompactedDelta { event: LogEvent { first_seq: self.first_seq, seq, frame }, lengths: self.lengths }
    }
}

impl CompactedDelta {
    /// The part of the record with the sequence numbers `from` to `to`, both included, which the record must cover.
    /// `None`: the lengths do not match the text.
    pub fn slice(&self, from: u64, to: u64) -> Option<LogEvent> {
        let mut parsed = as_delta(&self.event.frame)?;
        let skipped = usize::try_from(from.checked_sub(self.event.first_seq)?).ok()?;
        let taken = usize::try_from(to.checked_sub(from)?).ok()? + 1;
        let sum = |lengths: &[u32]| lengths.iter().map(|length| *length as usize).sum::<usize>();
        let start = sum(self.lengths.get(..skipped)?);
        let end = start + sum(self.lengths.get(skipped..skipped + taken)?);
        let text = text_of(&mut parsed.body)?;
        *text = text.get(start..end)?.into();
        parsed.place.seq = to;
        parsed.place.first_seq = (from < to).then_some(from);
        let frame = encode_chat(&parsed.place, &parsed.body);
        Some(LogEvent { first_seq: from, seq: to, frame })
    }
}

/// Whether the delta is thinking, then its stream.
fn stream_of(body: &ChatBody) -> Option<(bool, &str)> {
    if let ChatBody::Delta { stream_id, .. } = body {
        Some((false, stream_id))
    } else if let ChatBody::ReasoningDelta { stream_id, .. } = body {
        Some((true, stream_id))
    } else {
        None
    }
}

fn text_of(body: &mut ChatBody) -> Option<&mut String> {
    if let ChatBody::Delta { text, .. } | ChatBody::ReasoningDelta { text, .. } = body {
        Some(text)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{string::ToString as _, vec};

    use super::*;
    use crate::{
        ids::{ChatId, Epoch, TurnId},
        wire::EventPosition,
    };

    fn delta(seq: u64, stream: &str, text: &str) -> LogEvent {
        let place = EventPosition {
            chat_id: ChatId::parse("c").expect("a chat id"),
            epoch: Epoch::parse("e").expect("an epoch"),
            first_seq: None,
            seq,
            turn_id: TurnId::parse("t").ok(),
            parent_call_id: None,
        };
        let body = ChatBody::Delta { stream_id: stream.into(), text: text.into() };
        LogEvent { first_seq: seq, seq, frame: encode_chat(&place, &body) }
    }

    fn text(event: &LogEvent) -> String {
        let mut parsed = as_delta(&event.frame).expect("a delta");
        assert_eq!((parsed.place.first(), parsed.place.seq), (event.first_seq, event.seq));
        text_of(&mut parsed.body).expect("a text").to_string()
    }

    #[test]
    fn a_run_of_deltas_is_joined_and_split_at_every_place() {
        let texts = ["one", "ü", "\n", "漢字", "x"];
        let mut run = DeltaRun::begin(&delta(3, "s", texts[0]), None).expect("a delta");
        for (seq, more) in (4..).zip(&texts[1..]) {
            assert!(run.takes(&delta(seq, "s", more), None));
        }
        assert!(!run.takes(&delta(8, "other", "x"), None), "another stream");
        assert!(!run.takes(&delta(9, "s", "x"), None), "not the next one");
        assert_eq!(run.records(), 5);
        let joined = run.finish();
        assert_eq!(joined.lengths, [3, 2, 1, 6, 1]);
        for from in 3..=7_u64 {
            for to in from..=7 {
                let part = joined.slice(from, to).expect("it can be taken apart");
                let (first, last) = (from as usize - 3, to as usize - 3);
                assert_eq!(text(&part), texts[first..=last].concat());
            }
        }
        assert_eq!(joined.slice(3, 7), Some(joined.event.clone()));
        assert_eq!(joined.slice(2, 7), None);
        assert_eq!(joined.slice(7, 8), None);
        // Merge the record again, with later deltas.
        let mut run = DeltaRun::begin(&joined.event, Some(&joined.lengths)).expect("a delta");
        assert!(run.takes(&delta(8, "s", "!"), None));
        let more = run.finish();
        assert_eq!(text(&more.slice(7, 8).expect("a part")), "x!");
        assert!(DeltaRun::begin(&joined.event, None).is_none(), "it could not be taken apart again");
    }

    #[test]
    fn a_record_is_bounded() {
        let long = "x".repeat(20_000);
        let mut run = DeltaRun::begin(&delta(1, "s", &long), None).expect("a delta");
        let taken = (2..9).take_while(|seq| run.takes(&delta(*seq, "s", &long), None)).count();
        assert_eq!(taken, 2);
        assert!(run.finish().event.frame.len() <= RECORD_BYTES);
    }

    #[test]
    fn lengths_that_do_not_fit_give_nothing() {
        let mut run = DeltaRun::begin(&delta(1, "s", "äö"), None).expect("a delta");
        assert!(run.takes(&delta(2, "s", "x"), None));
        let good = run.finish();
        for lengths in [vec![3, 2], vec![9, 1], vec![4], vec![u32::MAX, u32::MAX]] {
            let bad = CompactedDelta { lengths, ..good.clone() };
            assert!(bad.slice(2, 2).is_none_or(|part| text(&part) != "x"), "{bad:?}");
        }
    }
}
