//! The gateway's frames, as far as this client uses them.

use serde::Deserialize;
use serde_json::value::RawValue;
use switchboard_core::{
    ids::{ChatId, Epoch, TurnId},
    wire::{AgentTurn, ChatBody, ChatEvent, ErrorEvent, MessageAccepted, Task},
};

use super::requests::{InputPage, Request};

/// A frame from the gateway.
#[derive(Debug)]
pub(super) enum Frame {
    Ready {
        chat_id: ChatId,
        agent: Option<Agent>,
    },
    /// The state of the agent, of a chat or in general.
    Agent(Agent),
    /// A notice about the gateway as a whole.
    Notice {
        text: String,
    },
    InputPage(InputPage),
    Attached(Attached),
    Snapshot(Snapshot),
    ReplayEnd {
        chat_id: ChatId,
    },
    Accepted(MessageAccepted),
    Event(Box<Event>),
    Stalled {
        chat_id: ChatId,
        idle_ms: u64,
    },
    Chats {
        chats: Vec<Summary>,
        before: Option<String>,
    },
    /// A change of a chat's title, or its deletion.
    Updated {
        chat_id: ChatId,
        deleted: bool,
        title: Option<String>,
    },
    Error(ErrorEvent),
    /// A frame that this client does not use or does not know.
    Other,
}

/// A chat event, and the request in it, if it has one.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) chat: ChatEvent,
    pub(super) request: Option<Request>,
}

/// The agent of a chat, its workspace and its sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Agent {
    #[serde(default)]
    pub(super) chat_id: Option<ChatId>,
    pub(super) agent: String,
    #[serde(default)]
    pub(super) workspace: Option<String>,
    #[serde(default)]
    pub(super) sandbox: Option<String>,
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
    pub(super) events: Vec<Box<RawValue>>,
    #[serde(default)]
    pub(super) state: Option<State>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct State {
    #[serde(default)]
    pub(super) turn: Option<Running>,
    #[serde(default)]
    pub(super) agent_turn: Option<AgentTurn>,
    #[serde(default)]
    pub(super) tasks: Vec<Task>,
    #[serde(default)]
    pub(super) requests: Vec<Box<RawValue>>,
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
    #[serde(default)]
    pub(super) waiting: bool,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    event: Option<String>,
    #[serde(default)]
    seq: Option<u64>,
}

#[derive(Deserialize)]
struct Chat {
    chat_id: ChatId,
}

#[derive(Deserialize)]
struct First {
    chat_id: ChatId,
    #[serde(default)]
    agent: Option<Agent>,
}

#[derive(Deserialize)]
struct Notice {
    text: String,
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
    /// Parses a frame. Unknown and malformed frames become [`Frame::Other`], since clients must ignore them.
    pub(super) fn read(text: &str) -> Self {
        let Ok(head) = serde_json::from_str::<Head>(text) else { return Self::Other };
        let read = match head.event.as_deref().unwrap_or_default() {
            "ready" => of(text, |First { chat_id, agent }| Self::Ready { chat_id, agent }),
            "agent_state" => of(text, Self::Agent),
            "request_input" => of(text, Self::InputPage),
            "attached" => of(text, Self::Attached),
            "snapshot" => of(text, Self::Snapshot),
            "replay_end" => of(text, |Chat { chat_id }| Self::ReplayEnd { chat_id }),
            "message_accepted" => of(text, Self::Accepted),
            "turn_stalled" => of(text, |Idle { chat_id, idle_ms }| Self::Stalled { chat_id, idle_ms }),
            "chats" => of(text, |Page { chats, before }| Self::Chats { chats, before }),
            "session_updated" => of(text, |Update { chat_id, scope, title }| Self::Updated {
                chat_id,
                deleted: scope == "deleted",
                title,
            }),
            "error" => of(text, Self::Error),
            "notice" if head.seq.is_none() => of(text, |Notice { text }| Self::Notice { text }),
            _ if head.seq.is_some() => event(text).map(|event| Self::Event(Box::new(event))),
            _ => None,
        };
        read.unwrap_or(Self::Other)
    }
}

fn of<T: for<'de> Deserialize<'de>>(text: &str, frame: impl FnOnce(T) -> Frame) -> Option<Frame> {
    serde_json::from_str(text).ok().map(frame)
}

/// Parses a chat event from a frame or from a snapshot.
pub(super) fn event(text: &str) -> Option<Event> {
    let chat: ChatEvent = serde_json::from_str(text).ok()?;
    // Parsed from the text, which preserves the order of an input's fields.
    let request = if matches!(chat.body, ChatBody::PermissionRequest(_)) {
        serde_json::from_str(text).ok().map(Request::Permission)
    } else if matches!(chat.body, ChatBody::Question(_)) {
        serde_json::from_str(text).ok().map(Request::Question)
    } else {
        None
    };
    Some(Event { chat, request })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_frames_are_no_error() {
        for text in ["", "{", "[]", "{\"event\":\"weather\"}", "{\"event\":\"ready\"}", "{\"seq\":1}"] {
            assert!(matches!(Frame::read(text), Frame::Other), "{text}");
        }
    }

    #[test]
    fn events_and_answers_are_told_apart() {
        let delta = "{\"event\":\"delta\",\"chat_id\":\"c\",\"epoch\":\"e\",\"seq\":3,\"turn_id\":\"t\",\
                     \"stream_id\":\"s\",\"text\":\"x\",\"new\":1}";
        assert!(matches!(Frame::read(delta), Frame::Event(event) if event.chat.place.seq == 3));
        let accepted = "{\"event\":\"message_accepted\",\"chat_id\":\"c\",\"epoch\":\"e\",\"seq\":3,\
                        \"turn_id\":\"t\",\"starts_turn\":true}";
        assert!(matches!(Frame::read(accepted), Frame::Accepted(accepted) if accepted.starts_turn));
    }
}
