//! How a chat is deleted: its turns end, its agent goes, the journal removes it, whoever has it in sight is told.

use alloc::collections::BTreeSet;

use super::{
    chat::{Chat, Phase},
    connection::shutting_down,
    context::{Context, Refusal},
    io::Output,
    log::{Draft, Effect},
    slot::SlotState,
};
use crate::{
    agent::AgentInstanceId,
    ids::ConnId,
    journal::Change,
    wire::{ControlEvent, Outcome, UpdateScope, encode_control},
};

/// A deletion on its way.
#[derive(Debug)]
pub(super) struct Deletion {
    by: ConnId,
    /// When the agent is waited for no longer.
    due_ms: u64,
    /// The journal was told: nothing may follow in its log.
    staged: bool,
    /// The agent that went since then.
    ended: Option<AgentInstanceId>,
}

impl Deletion {
    /// When to go on without the agent; nothing once that is settled.
    pub(super) fn due_ms(&self) -> Option<u64> {
        (!self.staged).then_some(self.due_ms)
    }
}

impl Chat {
    /// Ends everything that runs; the rest follows once the agent has gone. Whatever else is wanted of the chat
    /// waits for the outcome.
    pub(super) fn delete(&mut self, cx: &mut Context, conn: ConnId) -> Result<(), Refusal> {
        if cx.shutting_down {
            return Err(shutting_down());
        }
        self.refuse_while_broken()?;
        self.phase = Phase::Deleting;
        let due_ms = cx.now.ticks_ms + cx.limits.cancel_grace_ms;
        self.deletion = Some(Deletion { by: conn, due_ms, staged: false, ended: None });
        self.stop_agent(cx, true);
        self.end_turns(cx, Outcome::Cancelled, None);
        self.go_on_deleting(cx);
        self.rearm(cx);
        Ok(())
    }

    /// Has the journal remove the chat, unless its agent still has to go.
    pub(super) fn go_on_deleting(&mut self, cx: &mut Context) {
        let Some(deletion) = &mut self.deletion else { return };
        let agent_gone = matches!(self.slot, SlotState::Empty) || deletion.due_ms <= cx.now.ticks_ms;
        if deletion.staged || !agent_gone || self.append_failed.is_some() {
            return;
        }
        deletion.staged = true;
        let mut draft = Draft::new();
        draft.changes.push(Change::Deleted);
        draft.effects.push(Effect::Deleted);
        self.stage(cx, draft);
    }

    /// The agent went. Gives whether the log is to hear nothing of that, because it ends or has ended.
    pub(super) fn ends_unlogged(&mut self, cx: &mut Context, instance: AgentInstanceId) -> bool {
        if self.phase == Phase::Deleted {
            // It took its time, and may have written to the last.
            cx.output(Output::ForgetChat { chat: self.key.clone() });
        }
        let staged = self.deletion.as_mut().filter(|deletion| deletion.staged);
        let ending = staged.is_some();
        if let Some(deletion) = staged {
            deletion.ended = Some(instance);
        }
        ending || self.phase == Phase::Deleted
    }

    /// The journal could not keep something and its state is known now: the chat is still there.
    pub(super) fn give_up_deleting(&mut self, cx: &mut Context, refusal: &Refusal) {
        if let Some(deletion) = self.deletion.take() {
            self.phase = Phase::Ready;
            cx.refuse(deletion.by, refusal.clone().chat(&self.key.chat));
            if let Some(instance) = deletion.ended {
                self.stage_changes(cx, [Change::AgentEnded { instance }]);
            }
        }
    }

    /// After the outcome of an append was unknown: the journal has no such chat any more.
    pub(super) fn resync_deleted(&mut self, cx: &mut Context) {
        self.append_failed = None;
        for pending in core::mem::take(&mut self.pending) {
            self.publish(cx, pending);
        }
        if self.phase != Phase::Deleted {
            self.deleted(cx);
        }
    }

    /// The journal has removed it.
    pub(super) fn deleted(&mut self, cx: &mut Context) {
        self.phase = Phase::Deleted;
        let by = self.deletion.take().map(|deletion| deletion.by);
        let event = ControlEvent::SessionUpdated {
            chat_id: self.key.chat.clone(),
            scope: UpdateScope::Deleted,
            title: None,
        };
        self.announce(cx, by, &event);
        for conn in self.subs.connections() {
            self.unsubscribe(cx, conn);
        }
        cx.output(Output::ForgetChat { chat: self.key.clone() });
        self.rearm(cx);
        self.take_intake(cx);
    }

    /// Announces a new chat to the connections that list chats.
    pub(super) fn announce_made(&self, cx: &mut Context, by: ConnId) {
        let event = ControlEvent::SessionUpdated {
            chat_id: self.key.chat.clone(),
            scope: UpdateScope::Metadata,
            title: self.title.clone(),
        };
        let frame = encode_control(&event);
        let listing = cx.lists.get(&self.key.principal).into_iter().flatten().copied();
        let to: BTreeSet<ConnId> = listing.filter(|conn| *conn != by).collect();
        for conn in to {
            cx.deliver_frame(conn, frame.clone());
        }
    }

    /// Tells whoever has the chat in sight: who is attached, who lists chats, and who wanted it.
    pub(super) fn announce(&self, cx: &mut Context, by: Option<ConnId>, event: &ControlEvent) {
        let frame = encode_control(event);
        let listing = cx.lists.get(&self.key.principal).into_iter().flatten().copied();
        let to: BTreeSet<ConnId> = self.subs.connections().into_iter().chain(listing).chain(by).collect();
        for conn in to {
            cx.deliver_frame(conn, frame.clone());
        }
    }
}
