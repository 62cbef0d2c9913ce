//! Runs of deltas of one turn: their positions differ only in `seq`, so only the first delta needs parsing.

use switchboard_core::wire::Frame;

use crate::cursor::{CursorEffect, cursor_effect};

/// What all deltas of a run have in common.
#[derive(Debug)]
pub(crate) struct Run {
    /// The event's position, up to the digits of `seq`.
    position: Vec<u8>,
    /// The event id line, up to the digits of `seq`.
    id: Vec<u8>,
    /// The number of bytes from the start of `position` to the end of the event.
    tail: usize,
}

impl Run {
    /// Begins a run, if the event is a delta.
    pub(crate) fn begin(frame: &Frame) -> Option<Self> {
        let json = frame.bytes();
        if !frame.kind().is_delta() {
            return None;
        }
        let CursorEffect::At { chat, epoch, .. } = cursor_effect(frame) else { return None };
        let position = format!(r#","chat_id":"{chat}","epoch":"{epoch}","seq":"#).into_bytes();
        let at = memchr::memmem::rfind(json, &position)?;
        Some(Self { position, id: format!("id: {chat}@{epoch}:").into_bytes(), tail: json.len() - at })
    }

    /// Appends the id line of a further delta, and returns its `seq`; `None` if the event does not belong to the run.
    pub(crate) fn put_id(&mut self, frame: &Frame, out: &mut Vec<u8>) -> Option<u64> {
        if !frame.kind().is_delta() {
            return None;
        }
        let json = frame.bytes();
        let begins_at = |tail: usize| {
            let at = json.len().checked_sub(tail)?;
            json[at..].starts_with(&self.position).then_some(at)
        };
        // `seq` sometimes has one digit more than in the event before.
        let at = begins_at(self.tail).or_else(|| begins_at(self.tail + 1))?;
        let rest = &json[at + self.position.len()..];
        let digits = &rest[..rest.iter().take_while(|byte| byte.is_ascii_digit()).count()];
        let seq = digits
            .iter()
            .try_fold(0_u64, |seq, digit| seq.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
        self.tail = json.len() - at;
        out.extend_from_slice(&self.id);
        out.extend_from_slice(digits);
        out.push(b'\n');
        Some(seq)
    }
}

#[cfg(test)]
mod tests {
    use switchboard_core::{
        ids::{ChatId, Epoch, TurnId},
        wire::{ChatBody, EventPosition, encode_chat},
    };

    use super::*;

    fn delta(chat: &str, turn: &str, seq: u64, text: &str) -> Frame {
        let position = EventPosition {
            chat_id: ChatId::parse(chat).unwrap(),
            epoch: Epoch::parse("e1").unwrap(),
            first_seq: None,
            seq,
            turn_id: Some(TurnId::parse(turn).unwrap()),
            parent_call_id: None,
        };
        encode_chat(&position, &ChatBody::Delta { stream_id: "s".into(), text: text.into() })
    }

    fn id(run: &mut Run, frame: &Frame) -> Option<(u64, String)> {
        let mut out = Vec::new();
        let seq = run.put_id(frame, &mut out)?;
        Some((seq, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn ids_of_a_run_count_on() {
        let mut run = Run::begin(&delta("c", "t", 8, "a")).unwrap();
        for seq in [9, 10, 11, 99, 100, 101] {
            let text = r#"x","chat_id":"c","epoch":"e1","seq":5"#;
            assert_eq!(id(&mut run, &delta("c", "t", seq, text)), Some((seq, format!("id: c@e1:{seq}\n"))));
        }
    }

    #[test]
    fn what_is_of_another_chat_turn_or_kind_is_not_of_the_run() {
        let mut run = Run::begin(&delta("c", "t", 8, "a")).unwrap();
        assert_eq!(id(&mut run, &delta("d", "t", 9, "a")), None);
        assert_eq!(id(&mut run, &delta("c", "longer", 9, "a")), None);
        let position = EventPosition {
            chat_id: ChatId::parse("c").unwrap(),
            epoch: Epoch::parse("e1").unwrap(),
            first_seq: None,
            seq: 9,
            turn_id: None,
            parent_call_id: None,
        };
        let end = encode_chat(
            &position,
            &ChatBody::StreamEnd { stream_id: "s".into(), text: None, void: false, sources: Vec::new() },
        );
        assert_eq!(id(&mut run, &end), None);
        assert!(Run::begin(&end).is_none());
        assert!(id(&mut run, &delta("c", "t", 9, "a")).is_some());
    }
}
