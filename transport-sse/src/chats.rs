//! The chats of a stream and their cursors, as written in event ids: `chat@epoch:seq`, separated by commas.

use std::io::Write as _;

use switchboard_core::{
    ids::{ChatId, Cursor, Epoch},
    wire::Frame,
};

use crate::cursor::{CursorEffect, cursor_effect};

/// The chats that a stream is subscribed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chats(Vec<Chat>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Chat {
    id: ChatId,
    /// The cursor that the client gave.
    after: Option<Cursor>,
    /// The cursor of the newest event that was sent; `None`: no event yet.
    sent: Option<Cursor>,
}

impl Chat {
    fn advance_to(&mut self, epoch: &str, seq: u64) -> bool {
        match &mut self.sent {
            Some(sent) if sent.epoch.as_str() == epoch => sent.seq = seq,
            sent => {
                let Ok(epoch) = Epoch::parse(epoch) else { return false };
                *sent = Some(Cursor { epoch, seq });
            }
        }
        true
    }
}

impl Chats {
    /// Parses an event id. A chat without a cursor is one of which no event was sent yet.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut chats = Self::default();
        for entry in text.split(',') {
            let (id, after) = match entry.split_once('@') {
                Some((id, cursor)) => {
                    let (epoch, seq) = cursor.split_once(':')?;
                    let plain = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
                    let seq = plain.then(|| seq.parse().ok())??;
                    (id, Some(Cursor { epoch: Epoch::parse(epoch).ok()?, seq }))
                }
                None => (entry, None),
            };
            chats.attach(ChatId::parse(id).ok()?, after);
        }
        Some(chats)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The chats, each with the cursor that the client gave.
    pub(crate) fn cursors(&self) -> impl Iterator<Item = (ChatId, Option<Cursor>)> {
        self.0.iter().map(|chat| (chat.id.clone(), chat.after.clone()))
    }

    pub(crate) fn has(&self, id: &ChatId) -> bool {
        self.0.iter().any(|chat| chat.id == *id)
    }

    /// Subscribes to a chat, from the cursor that the client gave.
    pub(crate) fn attach(&mut self, id: ChatId, after: Option<Cursor>) {
        match self.0.iter_mut().find(|chat| chat.id == id) {
            Some(chat) => chat.after = after,
            None => self.0.push(Chat { id, after, sent: None }),
        }
    }

    /// Unsubscribes from a chat.
    pub(crate) fn detach(&mut self, id: &ChatId) {
        self.0.retain(|chat| chat.id != *id);
    }

    /// Records an event that is being sent. Returns true if event ids change from this event on.
    pub(crate) fn note_sent(&mut self, frame: &Frame) -> bool {
        match cursor_effect(frame) {
            CursorEffect::Nothing => false,
            CursorEffect::At { chat: id, epoch, seq } => {
                let chat = self.0.iter_mut().find(|chat| chat.id.as_str() == id);
                chat.is_some_and(|chat| chat.advance_to(epoch, seq))
            }
            CursorEffect::UpTo(id, cursor) => match self.0.iter_mut().find(|chat| chat.id == id) {
                Some(chat) => {
                    chat.sent = Some(cursor);
                    true
                }
                // The chat was detached while the event was on its way.
                None => false,
            },
            CursorEffect::Attached { chat: id, epoch, head, recovered } => {
                if !self.has(&id) {
                    self.attach(id.clone(), None);
                }
                let chat = self.0.iter_mut().find(|chat| chat.id == id);
                let Some(chat) = chat else { return false };
                let kept = chat.after.clone().filter(|after| after.epoch == epoch);
                // An empty chat has no event to send.
                let empty = || (head == 0).then_some(Cursor { epoch, seq: 0 });
                chat.sent = if recovered { kept.or_else(empty) } else { None };
                true
            }
            CursorEffect::Gone(id) => {
                let known = self.has(&id);
                self.detach(&id);
                known
            }
        }
    }

    /// Moves the cursor of the only chat to `seq`, in the same epoch.
    pub(crate) fn advance(&mut self, seq: u64) {
        if let Some(Chat { sent: Some(cursor), .. }) = self.0.first_mut() {
            cursor.seq = seq;
        }
    }

    /// Appends the id of an event: the cursors of all chats after this event.
    pub(crate) fn put_id(&self, out: &mut Vec<u8>) {
        for (at, Chat { id, sent, .. }) in self.0.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(id.as_str().as_bytes());
            if let Some(Cursor { epoch, seq }) = sent {
                // Writing to memory does not fail.
                let _ = write!(out, "@{epoch}:{seq}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn id(chats: &Chats) -> String {
        let mut out = Vec::new();
        chats.put_id(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn frame(json: &str) -> Frame {
        Frame::new(Bytes::copy_from_slice(json.as_bytes())).unwrap()
    }

    #[test]
    fn ids_are_parsed_as_they_are_written() {
        let text = "c-1@e0a1:17,a:b,x@-_:0,y@e:18446744073709551615";
        let chats = Chats::parse(text).unwrap();
        let cursors: Vec<_> =
            chats.cursors().map(|(id, after)| (id.to_string(), after.map(|c| c.seq))).collect();
        let expected = [("c-1", Some(17)), ("a:b", None), ("x", Some(0)), ("y", Some(u64::MAX))];
        assert_eq!(cursors, expected.map(|(id, seq)| (id.to_owned(), seq)));
        for bad in [
            "",
            ",",
            "a,",
            "a@",
            "a@e",
            "a@e:",
            "a@e:+1",
            "a@e:1.0",
            "a@:1",
            "@e:1",
            "a b",
            "a@e:99999999999999999999",
        ] {
            assert_eq!(Chats::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_event_id_has_the_positions_of_the_events_that_were_sent() {
        let mut chats = Chats::parse("a@e:5,b").unwrap();
        assert_eq!(id(&chats), "a,b");
        let attached = |chat: &str, head: u64, recovered: bool| {
            frame(&format!(
                r#"{{"event":"attached","chat_id":"{chat}","epoch":"e","head":{head},"recovered":{recovered}}}"#
            ))
        };
        let delta = |chat: &str, seq: u64| {
            frame(&format!(r#"{{"event":"delta","text":"x","chat_id":"{chat}","epoch":"e","seq":{seq}}}"#))
        };
        assert!(chats.note_sent(&attached("a", 9, true)));
        assert_eq!(id(&chats), "a@e:5,b", "it has what it says");
        assert!(chats.note_sent(&attached("b", 3, false)));
        assert_eq!(id(&chats), "a@e:5,b", "a snapshot is still to come");
        assert!(chats.note_sent(&delta("a", 6)));
        assert!(chats.note_sent(&attached("c", 0, true)));
        assert_eq!(id(&chats), "a@e:6,b,c@e:0", "what is made joins in");
        chats.attach(ChatId::parse("a").unwrap(), Some(Cursor { epoch: Epoch::parse("e").unwrap(), seq: 2 }));
        assert!(chats.note_sent(&attached("a", 9, true)));
        assert_eq!(id(&chats), "a@e:2,b,c@e:0", "an earlier cursor replaces a later one");
        chats.detach(&ChatId::parse("a").unwrap());
        assert!(!chats.note_sent(&delta("a", 3)), "it was on its way");
        let unknown =
            r#"{"event":"error","code":"unknown_chat","detail":"","retryable":false,"chat_id":"b"}"#;
        assert!(chats.note_sent(&frame(unknown)));
        assert!(!chats.note_sent(&frame(unknown)), "it was none of these");
        assert_eq!(id(&chats), "c@e:0");
    }
}
