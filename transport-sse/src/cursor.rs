//! Reads off an encoded event how it moves the cursor of its chat.

use serde::Deserialize;
use switchboard_core::{
    ids::{ChatId, Cursor, Epoch},
    wire::{ControlKind, Frame, FrameKind},
};

/// An event's position is at the end of its JSON and shorter than this many bytes: the longest `turn_id` has 128
/// bytes, which may be escaped, and the longest `parent_call_id` 256 bytes of JSON.
const POSITION_BYTES: usize = 1024;

/// How an event changes the cursors of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CursorEffect<'a> {
    /// The event changes no cursor.
    Nothing,
    /// A chat event: the chat's cursor is now here. Nearly every event is a chat event, so its fields are borrowed,
    /// not parsed into ids.
    At { chat: &'a str, epoch: &'a str, seq: u64 },
    /// A control event that moves the chat's cursor.
    UpTo(ChatId, Cursor),
    /// A subscription begins, from the client's cursor (`recovered`) or with a full snapshot.
    Attached { chat: ChatId, epoch: Epoch, head: u64, recovered: bool },
    /// The chat does not exist, or was deleted.
    Gone(ChatId),
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Control {
    Attached {
        chat_id: ChatId,
        epoch: Epoch,
        head: u64,
        recovered: bool,
    },
    MessageAccepted {
        chat_id: ChatId,
        epoch: Epoch,
        seq: u64,
        #[serde(default)]
        duplicate: bool,
    },
    Snapshot {
        chat_id: ChatId,
        epoch: Epoch,
        seq: u64,
        more: bool,
    },
    Error {
        code: String,
        chat_id: Option<ChatId>,
    },
    SessionUpdated {
        chat_id: ChatId,
        scope: String,
    },
}

/// Reads the effect of an encoded event.
pub(crate) fn cursor_effect(frame: &Frame) -> CursorEffect<'_> {
    let json = frame.bytes();
    match frame.kind() {
        FrameKind::Control(
            ControlKind::Attached
            | ControlKind::MessageAccepted
            | ControlKind::Snapshot
            | ControlKind::SessionUpdated
            | ControlKind::Error,
        ) => control(json),
        FrameKind::Chat(_) | FrameKind::Control(ControlKind::ReplayEnd) | FrameKind::Unknown => {
            match position(&json[json.len().saturating_sub(POSITION_BYTES)..]) {
                Some((chat, epoch, seq)) => CursorEffect::At { chat, epoch, seq },
                None => CursorEffect::Nothing,
            }
        }
        FrameKind::Control(
            // The events inside a page have positions of their own.
            ControlKind::History
            | ControlKind::Chats
            | ControlKind::ChatsChanged
            | ControlKind::Ready
            | ControlKind::AgentState
            | ControlKind::TurnStalled
            | ControlKind::GoalStatus
            | ControlKind::GoalState
            | ControlKind::Notice
            | ControlKind::RuntimeModelUpdated
            | ControlKind::RequestInput
            | ControlKind::Pong,
        ) => CursorEffect::Nothing,
    }
}

fn control(json: &[u8]) -> CursorEffect<'static> {
    match serde_json::from_slice(json) {
        Ok(Control::Attached { chat_id: chat, epoch, head, recovered }) => {
            CursorEffect::Attached { chat, epoch, head, recovered }
        }
        Ok(Control::MessageAccepted { chat_id, epoch, seq, duplicate: false })
        | Ok(Control::Snapshot { chat_id, epoch, seq, more: false }) => {
            CursorEffect::UpTo(chat_id, Cursor { epoch, seq })
        }
        Ok(Control::Error { code, chat_id: Some(chat) }) if code == "unknown_chat" => {
            CursorEffect::Gone(chat)
        }
        Ok(Control::SessionUpdated { chat_id, scope }) if scope == "deleted" => CursorEffect::Gone(chat_id),
        Ok(_) | Err(_) => CursorEffect::Nothing,
    }
}

/// Parses `,"chat_id":"C","epoch":"E","first_seq":1,"seq":2,"turn_id":"T","parent_call_id":"K"}`, which the core
/// appends to each chat event.
///
/// No text inside a JSON string can look like this: there, every quotation mark has a backslash before it.
fn position(end: &[u8]) -> Option<(&str, &str, u64)> {
    const CHAT: &[u8] = br#","chat_id":""#;
    let rest = &end[memchr::memmem::rfind(end, CHAT)? + CHAT.len()..];
    let (chat, rest) = quoted(rest)?;
    let (epoch, rest) = quoted(rest.strip_prefix(br#","epoch":""#)?)?;
    let rest = match rest.strip_prefix(br#","first_seq":"#) {
        Some(rest) => number(rest)?.1,
        None => rest,
    };
    let (seq, rest) = number(rest.strip_prefix(br#","seq":"#)?)?;
    let more: [&[u8]; 2] = [br#","turn_id":""#, br#","parent_call_id":""#];
    let complete = rest == b"}" || more.iter().any(|more| rest.starts_with(more));
    complete.then_some((chat, epoch, seq))
}

/// Splits at the next quotation mark: the text before it and the rest after it.
fn quoted(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memchr(b'"', text)?;
    Some((std::str::from_utf8(&text[..end]).ok()?, &text[end + 1..]))
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    Some((number, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;
    use switchboard_core::{
        ids::TurnId,
        wire::{ChatBody, ChatEvent, ControlEvent, EventPosition, encode_chat, encode_control},
    };

    use super::*;

    fn cursor(value: &Value) -> Cursor {
        let epoch = Epoch::parse(value["epoch"].as_str().unwrap()).unwrap();
        Cursor { epoch, seq: value["seq"].as_u64().unwrap() }
    }

    fn owned(effect: CursorEffect<'_>) -> CursorEffect<'static> {
        match effect {
            CursorEffect::At { chat, epoch, seq } => {
                let epoch = Epoch::parse(epoch).unwrap();
                CursorEffect::UpTo(ChatId::parse(chat).unwrap(), Cursor { epoch, seq })
            }
            CursorEffect::UpTo(chat, cursor) => CursorEffect::UpTo(chat, cursor),
            CursorEffect::Attached { chat, epoch, head, recovered } => {
                CursorEffect::Attached { chat, epoch, head, recovered }
            }
            CursorEffect::Gone(chat) => CursorEffect::Gone(chat),
            CursorEffect::Nothing => CursorEffect::Nothing,
        }
    }

    /// The effect that the protocol gives this event.
    fn expected(value: &Value) -> CursorEffect<'static> {
        let chat = || ChatId::parse(value["chat_id"].as_str().unwrap()).unwrap();
        match value["event"].as_str().unwrap() {
            "attached" => CursorEffect::Attached {
                chat: chat(),
                epoch: Epoch::parse(value["epoch"].as_str().unwrap()).unwrap(),
                head: value["head"].as_u64().unwrap(),
                recovered: value["recovered"].as_bool().unwrap(),
            },
            "message_accepted" if value["duplicate"] == true => CursorEffect::Nothing,
            "snapshot" if value["more"] == true => CursorEffect::Nothing,
            _ if value.get("seq").is_some() => CursorEffect::UpTo(chat(), cursor(value)),
            "error" if value["code"] == "unknown_chat" => CursorEffect::Gone(chat()),
            "session_updated" if value["scope"] == "deleted" => CursorEffect::Gone(chat()),
            _ => CursorEffect::Nothing,
        }
    }

    #[test]
    fn every_kind_of_event_says_where_its_chat_stands() {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/fixtures/server");
        let mut moving = 0;
        for file in fs::read_dir(fixtures).unwrap() {
            let path = file.unwrap().path();
            let value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let frame = match serde_json::from_value::<ChatEvent>(value.clone()) {
                Ok(event) => encode_chat(&event.place, &event.body),
                Err(_) => encode_control(&serde_json::from_value::<ControlEvent>(value.clone()).unwrap()),
            };
            assert_eq!(owned(cursor_effect(&frame)), expected(&value), "{}", path.display());
            moving += u32::from(matches!(expected(&value), CursorEffect::UpTo(..)));
        }
        assert!(moving > 20);
    }

    #[test]
    fn texts_that_look_like_a_place_are_none() {
        let text = r#"","chat_id":"c-2","epoch":"e2","seq":9,"turn_id":"x"}"#.to_owned();
        let body = ChatBody::Delta { stream_id: text.clone(), text };
        let turn_ids =
            [None, TurnId::parse(&r#"",\"seq\":1"#.repeat(11)).ok(), TurnId::parse(&"\"".repeat(128)).ok()];
        for turn_id in turn_ids {
            for parent_call_id in [None, Some(r#"",\"seq\":1"#.to_owned()), Some("\"".repeat(128))] {
                let position = EventPosition {
                    chat_id: ChatId::parse("c-1").unwrap(),
                    epoch: Epoch::parse("e1").unwrap(),
                    first_seq: Some(3),
                    seq: u64::MAX,
                    turn_id: turn_id.clone(),
                    parent_call_id,
                };
                let expected = Cursor { epoch: position.epoch.clone(), seq: u64::MAX };
                assert_eq!(
                    owned(cursor_effect(&encode_chat(&position, &body))),
                    CursorEffect::UpTo(position.chat_id.clone(), expected)
                );
            }
        }
    }
}
