//! What a gateway sends, as far as this client cares.

use serde::Deserialize;
use serde_json::Value;
use switchboard_core::{
    ids::{ChatId, Epoch, TurnId},
    wire::{ChatEvent, ErrorEvent, MessageAccepted},
};

/// A frame.
#[derive(Debug)]
pub(super) enum Frame {
    Ready {
        chat_id: ChatId,
    },
    Attached(Attached),
    Snapshot(Snapshot),
    ReplayEnd {
        chat_id: ChatId,
    },
    Accepted(MessageAccepted),
    Event(Box<ChatEvent>),
    Stalled {
        chat_id: ChatId,
        idle_ms: u64,
    },
    Chats {
        chats: Vec<Summary>,
        before: Option<String>,
    },
    /// Something about a chat changed.
    Updated {
        chat_id: ChatId,
        deleted: bool,
        title: Option<String>,
    },
    Error(ErrorEvent),
    /// Something else, or something new.
    Other,
}

#[derive(Debug, Deserialize)]
pub(super) struct Attached {
    pub(super) chat_id: ChatId,
    pub(super) epoch: Epoch,
    pub(super) head: u64,
    pub(super) recovered: bool,
    #[serde(default)]
    pub(super) title: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Snapshot {
    pub(super) chat_id: ChatId,
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    pub(super) part: u32,
    pub(super) events: Vec<Value>,
    #[serde(default)]
    pub(super) state: Option<State>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct State {
    #[serde(default)]
    pub(super) turn: Option<Running>,
    #[serde(default)]
    pub(super) requests: Vec<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Running {
    pub(super) turn_id: TurnId,
}

#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    pub(super) chat_id: ChatId,
    #[serde(default)]
    pub(super) title: Option<String>,
    pub(super) running: bool,
}

#[derive(Deserialize)]
struct Chat {
    chat_id: ChatId,
}

#[derive(Deserialize)]
struct Idle {
    chat_id: ChatId,
    idle_ms: u64,
}

#[derive(Deserialize)]
struct Page {
    chats: Vec<Summary>,
    #[serde(default)]
    before: Option<String>,
}

#[derive(Deserialize)]
struct Update {
    chat_id: ChatId,
    scope: String,
    #[serde(default)]
    title: Option<String>,
}

impl Frame {
    /// Reads a frame. What is not understood is [`Frame::Other`], as the protocol demands of clients.
    pub(super) fn read(text: &str) -> Self {
        let Ok(value) = serde_json::from_str::<Value>(text) else { return Self::Other };
        let kind = value.get("event").and_then(Value::as_str).unwrap_or_default().to_owned();
        let read = match kind.as_str() {
            "ready" => of(value, |Chat { chat_id }| Self::Ready { chat_id }),
            "attached" => of(value, Self::Attached),
            "snapshot" => of(value, Self::Snapshot),
            "replay_end" => of(value, |Chat { chat_id }| Self::ReplayEnd { chat_id }),
            "message_accepted" => of(value, Self::Accepted),
            "turn_stalled" => of(value, |Idle { chat_id, idle_ms }| Self::Stalled { chat_id, idle_ms }),
            "chats" => of(value, |Page { chats, before }| Self::Chats { chats, before }),
            "session_updated" => of(value, |Update { chat_id, scope, title }| Self::Updated {
                chat_id,
                deleted: scope == "deleted",
                title,
            }),
            "error" => of(value, Self::Error),
            _ if value.get("seq").is_some() => event(value).map(|event| Self::Event(Box::new(event))),
            _ => None,
        };
        read.unwrap_or(Self::Other)
    }
}

fn of<T: for<'de> Deserialize<'de>>(value: Value, frame: impl FnOnce(T) -> Frame) -> Option<Frame> {
    serde_json::from_value(value).ok().map(frame)
}

/// Reads a chat event, as it stands in a frame of its own or in a snapshot.
pub(super) fn event(value: Value) -> Option<ChatEvent> {
    serde_json::from_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_no_error() {
        for text in ["", "{", "[]", "{\"event\":\"weather\"}", "{\"event\":\"ready\"}", "{\"seq\":1}"] {
            assert!(matches!(Frame::read(text), Frame::Other), "{text}");
        }
    }

    #[test]
    fn events_and_answers_are_told_apart() {
        let delta = "{\"event\":\"delta\",\"chat_id\":\"c\",\"epoch\":\"e\",\"seq\":3,\"turn_id\":\"t\",\
                     \"stream_id\":\"s\",\"text\":\"x\",\"new\":1}";
        assert!(matches!(Frame::read(delta), Frame::Event(event) if event.place.seq == 3));
        let accepted = "{\"event\":\"message_accepted\",\"chat_id\":\"c\",\"epoch\":\"e\",\"seq\":3,\
                        \"turn_id\":\"t\",\"starts_turn\":true}";
        assert!(matches!(Frame::read(accepted), Frame::Accepted(accepted) if accepted.starts_turn));
    }
}
