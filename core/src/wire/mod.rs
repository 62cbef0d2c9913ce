//! The vocabulary of the wire: typed frames, their decoding and their encoding.
//!
//! Source: `docs/protocol.md`. Unknown fields are ignored in both directions.

mod client;
mod decode;
mod frame;
mod server;

pub use client::{Answer, ClientEnvelope, Message};
pub use decode::{DecodeError, decode, decode_binary};
pub use frame::{Frame, encode_chat, encode_control};
pub use server::{
    ChatBody, ChatEvent, ChatState, ChatSummary, ControlEvent, Cost, ErrorCode, ErrorEvent, FileEdit,
    GoalState, MessageAccepted, MessageKind, Outcome, PermissionRequest, Place, Question, QuestionItem,
    QuestionOption, Resolution, RunStatus, RunningTurn, ToolHint, ToolPhase, TurnError, UpdateScope, Usage,
    WireLimits,
};

/// The version of the protocol, and the WebSocket subprotocol that offers it.
pub const PROTOCOL: &str = "switchboard.v1";
