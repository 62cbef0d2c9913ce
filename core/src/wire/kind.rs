//! The kinds of events.

use super::{control::ControlEvent, event::ChatBody};

/// Declares the kinds of an event type, with their names on the wire.
macro_rules! kinds {
    ($(#[$doc:meta])* $kinds:ident of $event:ident { $($variant:ident = $name:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kinds {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                $variant,
            )*
        }

        impl $kinds {
            /// The value of the event's `event` field.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($name),)*
                }
            }

            fn of_name(name: &[u8]) -> Option<Self> {
                $(
                    if name == stringify!($name).as_bytes() {
                        return Some(Self::$variant);
                    }
                )*
                None
            }
        }

        impl $event {
            /// The event's kind.
            pub fn kind(&self) -> $kinds {
                match self {
                    $(Self::$variant { .. } => $kinds::$variant,)*
                }
            }
        }
    };
}

kinds! {
    /// The kinds of chat events. They are numbered, stored and replayed.
    ChatKind of ChatBody {
        // Most events are deltas, so they are compared first.
        Delta = delta,
        ReasoningDelta = reasoning_delta,
        StreamEnd = stream_end,
        ReasoningEnd = reasoning_end,
        UserMessage = user_message,
        TurnStarted = turn_started,
        TurnEnd = turn_end,
        Message = message,
        ToolEvent = tool_event,
        FileEdit = file_edit,
        Task = task,
        Notice = notice,
        PermissionRequest = permission_request,
        Question = question,
        RequestResolved = request_resolved,
        GoalState = goal_state,
    }
}

kinds! {
    /// The kinds of control events. They concern one connection or the present moment and are not replayed.
    ControlKind of ControlEvent {
        Ready = ready,
        Attached = attached,
        AgentState = agent_state,
        Snapshot = snapshot,
        ReplayEnd = replay_end,
        MessageAccepted = message_accepted,
        TurnStalled = turn_stalled,
        GoalStatus = goal_status,
        GoalState = goal_state,
        Notice = notice,
        SessionUpdated = session_updated,
        RuntimeModelUpdated = runtime_model_updated,
        Chats = chats,
        ChatsChanged = chats_changed,
        History = history,
        RequestInput = request_input,
        Pong = pong,
        Error = error,
    }
}

/// The kind of an encoded event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameKind {
    /// A chat event.
    Chat(ChatKind),
    /// A control event.
    Control(ControlKind),
    /// An event of a kind that this version does not know.
    Unknown,
}

impl FrameKind {
    /// Reads the kind of an event that was encoded before, whose first field is `event`. A name that chat events and
    /// control events share is that of a chat event, because control events are never stored.
    pub(super) fn of_json(json: &[u8]) -> Self {
        let named = json.strip_prefix(b"{\"event\":\"").unwrap_or_default();
        let end = named.iter().position(|byte| *byte == b'"').unwrap_or_default();
        let name = &named[..end];
        if let Some(kind) = ChatKind::of_name(name) {
            return Self::Chat(kind);
        }
        ControlKind::of_name(name).map_or(Self::Unknown, Self::Control)
    }

    /// Whether the event is a piece of an answer or of reasoning.
    pub fn is_delta(self) -> bool {
        matches!(self, Self::Chat(ChatKind::Delta | ChatKind::ReasoningDelta))
    }
}
