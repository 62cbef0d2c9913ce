//! When the journal's grants of chats end.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::io::{ChatRef, Deadline, DeadlineReason};
use crate::time::Moment;

/// When the grants of chats end. Grants that never end are not in it.
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// The chats by the end of their grant, on the clock of `Moment::boot_ms`.
    ends: BTreeSet<(u64, ChatRef)>,
    until_ms: BTreeMap<ChatRef, u64>,
}

impl Grants {
    /// Sets when the grant of a chat ends; `None`: never, or it has none.
    pub(super) fn set(&mut self, chat: ChatRef, until_ms: Option<u64>) {
        let earlier = match until_ms {
            Some(until_ms) => self.until_ms.insert(chat, until_ms),
            None => self.until_ms.remove(&chat),
        };
        if let Some(earlier) = earlier {
            self.ends.remove(&(earlier, chat));
        }
        self.ends.extend(until_ms.map(|until_ms| (until_ms, chat)));
    }

    /// The chats whose grants have ended.
    pub(super) fn ended(&self, now: Moment) -> Vec<ChatRef> {
        self.ends.iter().take_while(|(until_ms, _)| *until_ms <= now.boot_ms).map(|(_, chat)| *chat).collect()
    }

    /// When the next grant ends.
    pub(super) fn next_end(&self, now: Moment) -> Option<Deadline> {
        let left_ms = self.ends.first()?.0.saturating_sub(now.boot_ms);
        Some(Deadline { at_ms: now.ticks_ms + left_ms, why: DeadlineReason::Grant })
    }
}
