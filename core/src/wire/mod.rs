//! The vocabulary of the wire: typed frames, their decoding and their encoding.
//!
//! Source: `docs/protocol.md`. Unknown fields are ignored in both directions.

mod absent;
mod client;
mod close;
mod control;
mod decode;
mod event;
mod exact;
mod frame;
mod kind;
mod request;
mod state;
mod task;
mod tool;
mod unserved;

pub use client::{Answer, ClientEnvelope, Message};
pub use close::CloseCode;
pub use control::{
    ChatSummary, ControlEvent, ErrorCode, ErrorEvent, MessageAccepted, RunStatus, UpdateScope, WireLimits,
};
pub use decode::{DecodeError, decode, decode_binary};
pub use event::{
    ChatBody, ChatEvent, Cost, EventPosition, GoalState, MessageKind, NoticeLevel, Outcome, TurnError,
    TurnOrigin, TurnReason, Usage,
};
pub use exact::{input_sha256, is_exact};
pub(crate) use frame::{DeltaBatch, json_bytes, json_length};
pub use frame::{Frame, encode_chat, encode_control};
pub use kind::{ChatKind, ControlKind, FrameKind};
pub use request::{AnswerFormat, PermissionRequest, Question, QuestionItem, QuestionOption, Resolution};
pub use state::{AgentState, AgentTurn, ChatState, RunningTurn};
pub use task::{Task, TaskKind, TaskStatus};
pub use tool::{FileEdit, Source, ToolHint, ToolLocation, ToolMedia, ToolPhase};

/// The version of the protocol, and the WebSocket subprotocol that offers it.
pub const PROTOCOL: &str = "switchboard.v1";
