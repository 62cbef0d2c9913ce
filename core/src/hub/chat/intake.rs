//! A client's request to a chat, and the queue of the requests that wait.

use alloc::{collections::VecDeque, string::String};

use crate::{
    ids::{ConnId, Cursor, RequestId, TurnId},
    wire::{Answer, GoalState},
};

/// Maximum number of requests that wait for one chat. Each of them has passed its connection's rate limit.
const WAITING: usize = 1024;

/// A client's request that concerns one chat.
#[derive(Debug)]
pub(in crate::hub) enum ChatRequest {
    Attach {
        after: Option<Cursor>,
    },
    Detach,
    Message {
        content: String,
        turn_id: Option<TurnId>,
    },
    Cancel {
        turn_id: Option<TurnId>,
    },
    /// A `/stop` message. The id is that of the message, not of the turn to stop.
    Stop {
        turn_id: Option<TurnId>,
    },
    Respond {
        request_id: RequestId,
        answer: Answer,
    },
    RequestInput {
        request_id: RequestId,
        offset: u64,
    },
    SetGoal {
        goal_state: GoalState,
    },
    History {
        before: Option<String>,
        limit: Option<u32>,
    },
    Rename {
        title: String,
    },
    Delete,
}

impl ChatRequest {
    pub(in crate::hub) fn turn_id(&self) -> Option<&TurnId> {
        match self {
            Self::Message { turn_id, .. } | Self::Cancel { turn_id } | Self::Stop { turn_id } => {
                turn_id.as_ref()
            }
            Self::Attach { .. }
            | Self::Detach
            | Self::Respond { .. }
            | Self::RequestInput { .. }
            | Self::SetGoal { .. }
            | Self::History { .. }
            | Self::Rename { .. }
            | Self::Delete => None,
        }
    }
}

/// The requests that wait for the journal, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Intake {
    waiting: VecDeque<(ConnId, ChatRequest)>,
    /// The journal was asked whether it knows the `turn_id` of the first message.
    looking_up: bool,
}

impl Intake {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING
    }

    pub(super) fn is_looking_up(&self) -> bool {
        self.looking_up
    }

    pub(super) fn push(&mut self, conn: ConnId, request: ChatRequest) {
        self.waiting.push_back((conn, request));
    }

    /// The next request. `None`: there is none, or the first one waits for the journal.
    pub(super) fn pop(&mut self) -> Option<(ConnId, ChatRequest)> {
        if self.looking_up { None } else { self.waiting.pop_front() }
    }

    /// Puts the first request back: its turn is looked up in the journal.
    pub(super) fn look_up(&mut self, conn: ConnId, request: ChatRequest) {
        self.waiting.push_front((conn, request));
        self.looking_up = true;
    }

    /// The journal has answered about the turn of the first request, which is taken out.
    pub(super) fn looked_up(&mut self) -> Option<(ConnId, ChatRequest)> {
        self.looking_up = false;
        self.waiting.pop_front()
    }

    /// Takes out all requests.
    pub(super) fn take_all(&mut self) -> VecDeque<(ConnId, ChatRequest)> {
        core::mem::take(&mut self.waiting)
    }
}
