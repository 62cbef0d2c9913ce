//! The refusals of requests.

use alloc::format;

use crate::{
    ids::{ChatId, RequestId, TurnId},
    wire::{ErrorCode, ErrorEvent},
};

/// A refusal of a request, sent as an `error` event.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    event: ErrorEvent,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, detail: &str) -> Self {
        Self {
            event: ErrorEvent {
                code,
                detail: detail.into(),
                retryable: code.is_retryable(),
                chat_id: None,
                turn_id: None,
                request_id: None,
                retry_after_ms: None,
                close: None,
            },
        }
    }

    /// A refusal that names the rate limit, such as `600` `messages a minute`, and when to try again.
    pub(super) fn rate(retry_after_ms: u64, count: u32, of: &str) -> Self {
        let seconds = retry_after_ms.div_ceil(1000);
        let detail = format!("the limit is {count} {of}; try again in {seconds} s");
        let mut refusal = Self::new(ErrorCode::RateLimited, &detail);
        refusal.event.retry_after_ms = Some(retry_after_ms);
        refusal
    }

    pub(super) fn chat(mut self, chat_id: &ChatId) -> Self {
        self.event.chat_id = Some(chat_id.clone());
        self
    }

    pub(super) fn turn(mut self, turn_id: Option<&TurnId>) -> Self {
        self.event.turn_id = turn_id.cloned();
        self
    }

    pub(super) fn request(mut self, request_id: &RequestId) -> Self {
        self.event.request_id = Some(request_id.clone());
        self
    }

    pub(super) fn is_retryable(&self) -> bool {
        self.event.retryable
    }

    pub(super) fn event(self) -> ErrorEvent {
        self.event
    }
}

pub(super) fn shutting_down() -> Refusal {
    Refusal::new(ErrorCode::ShuttingDown, "the gateway is stopping; connect again shortly")
}

pub(super) fn too_many_chats() -> Refusal {
    Refusal::new(ErrorCode::LimitReached, "attached to too many chats; detach from one first")
}

pub(super) fn unknown_chat() -> Refusal {
    Refusal::new(ErrorCode::UnknownChat, "no such chat")
}

pub(super) fn unavailable() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "the gateway cannot store this at the moment; try again shortly")
}

/// For a request to a chat that the journal does not grant to this gateway.
pub(super) fn elsewhere() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "another gateway has this chat at the moment; try again shortly")
}

/// For a connection that is hung up, because another gateway has a chat of it.
pub(super) fn moved() -> Refusal {
    let detail = "this gateway does not have this chat any more; connect again and resume with your cursor";
    Refusal::new(ErrorCode::Unavailable, detail)
}

pub(super) fn unreadable() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "the gateway cannot read this at the moment; try again shortly")
}

pub(super) fn damaged() -> Refusal {
    let detail = "what was stored of this is damaged on the gateway's disk and cannot be used; other chats are not \
                  affected; there, `switchboard doctor` says what is damaged, and a backup can be restored";
    Refusal::new(ErrorCode::Damaged, detail)
}
