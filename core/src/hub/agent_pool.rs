//! The process's agent slots.

use alloc::collections::{BTreeMap, BTreeSet};

use super::io::ChatRef;

/// The process's agent slots. A chat uses a slot from its reservation until the agent exits. Adopted agents can exceed
/// the limit: then idle agents are stopped, and no new agent starts before the number is below the limit again.
#[derive(Debug, Default)]
pub(super) struct AgentPool {
    /// Slots in use, those of stopping agents included.
    in_use: usize,
    /// Slots reserved for chats with open turns from an earlier gateway process, until the journal says whether they
    /// have an agent.
    expected: usize,
    /// How many of the slots `in_use` belong to agents that are stopping and so will be free soon.
    stopping: usize,
    /// Chats whose agent has no turn, with the time in milliseconds since when, longest idle first.
    idle: BTreeSet<(u64, ChatRef)>,
    /// Chats with a turn but no slot, by their waiting number, first come first served.
    waiting: BTreeMap<u64, ChatRef>,
    last_waiter: u64,
}

impl AgentPool {
    /// The number of slots in use, those of stopping agents included.
    pub(super) fn in_use(&self) -> usize {
        self.in_use
    }

    /// The number of slots reserved for agents that may have survived an earlier gateway process.
    pub(super) fn expected(&self) -> usize {
        self.expected
    }

    /// Takes a slot, if one is free.
    pub(super) fn acquire(&mut self, limit: usize) -> bool {
        let free = self.has_free_slot(limit);
        self.in_use += usize::from(free);
        free
    }

    /// Takes a slot for an agent that runs already, even if none is free.
    pub(super) fn acquire_over_limit(&mut self) {
        self.in_use += 1;
    }

    /// Frees a slot. `stopping`: that of a stopping agent.
    pub(super) fn release(&mut self, stopping: bool) {
        self.in_use -= 1;
        self.stopping -= usize::from(stopping);
    }

    /// The agent of a slot was asked to stop.
    pub(super) fn stopping(&mut self) {
        self.stopping += 1;
    }

    /// Reserves a slot for an agent that may have survived an earlier gateway process.
    pub(super) fn expect(&mut self) {
        self.expected += 1;
    }

    /// Ends a reservation of [`expect`](Self::expect).
    pub(super) fn stop_expecting(&mut self) {
        self.expected -= 1;
    }

    /// Adds a chat to those that wait for a slot, and returns its waiting number.
    pub(super) fn wait(&mut self, chat: ChatRef) -> u64 {
        self.last_waiter += 1;
        self.waiting.insert(self.last_waiter, chat);
        self.last_waiter
    }

    pub(super) fn stop_waiting(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    /// The agent of the chat has been without a turn since this time.
    pub(super) fn idle(&mut self, since_ms: u64, chat: ChatRef) {
        self.idle.insert((since_ms, chat));
    }

    pub(super) fn busy(&mut self, since_ms: u64, chat: ChatRef) {
        self.idle.remove(&(since_ms, chat));
    }

    /// The chat that has waited longest, if a slot is free. It does not wait any more.
    pub(super) fn next_to_serve(&mut self, limit: usize) -> Option<ChatRef> {
        if !self.has_free_slot(limit) {
            return None;
        }
        self.waiting.pop_first().map(|(_, chat)| chat)
    }

    /// The chat whose agent has been idle longest, if an agent must stop: the slots in use and the waiting chats exceed
    /// the limit, even when all stopping agents are gone.
    pub(super) fn next_to_stop(&mut self, limit: usize) -> Option<ChatRef> {
        if self.in_use + self.waiting.len() <= limit + self.stopping {
            return None;
        }
        self.idle.pop_first().map(|(_, chat)| chat)
    }

    fn has_free_slot(&self, limit: usize) -> bool {
        self.in_use + self.expected < limit
    }
}
