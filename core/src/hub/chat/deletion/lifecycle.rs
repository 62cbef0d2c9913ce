//! How a chat is deleted: its turns end, its agent is killed, the journal removes the chat, and clients are notified.

use super::state::Deletion;
use crate::{
    agent::AgentInstanceId,
    hub::{
        chat::{
            Chat, Phase,
            log::{Draft, Effect},
            turns::Ending,
        },
        context::Context,
        io::Output,
        refusals::{Refusal, shutting_down},
    },
    ids::ConnId,
    journal::Change,
    wire::{ControlEvent, Outcome, UpdateScope},
};

impl Chat {
    /// Ends all turns and kills the agent. The deletion is appended once the agent has exited, or after a time
    /// limit. Further requests wait for the outcome.
    ///
    /// # Errors
    /// If the gateway is shutting down or the chat's last append failed.
    pub(in crate::hub::chat) fn delete(&mut self, cx: &mut Context, conn: ConnId) -> Result<(), Refusal> {
        if cx.shutting_down {
            return Err(shutting_down());
        }
        self.log.writable()?;
        self.phase = Phase::Deleting;
        let due_ms = cx.now.ticks_ms + cx.limits.cancel_grace_ms;
        self.deletion = Some(Deletion::new(conn, due_ms));
        self.stop_agent(cx, true, Ending::new(Outcome::Cancelled, None));
        self.end_turns(cx, Outcome::Cancelled, None);
        self.go_on_deleting(cx);
        self.rearm(cx);
        Ok(())
    }

    /// Appends the deletion, unless the agent has yet to exit.
    pub(in crate::hub::chat) fn go_on_deleting(&mut self, cx: &mut Context) {
        if self.log.is_recovering() {
            return;
        }
        let (now_ms, agent_is_gone) = (cx.now.ticks_ms, self.agent.is_gone());
        if !self.deletion.as_mut().is_some_and(|deletion| deletion.stage(now_ms, agent_is_gone)) {
            return;
        }
        let mut draft = Draft::new();
        draft.changes.push(Change::Deleted);
        draft.effects.push(Effect::Deleted);
        self.stage(cx, draft);
    }

    /// The agent exited. Returns whether the exit is not logged, because the chat is deleted or being deleted.
    pub(in crate::hub::chat) fn ends_unlogged(
        &mut self,
        cx: &mut Context,
        instance: AgentInstanceId,
    ) -> bool {
        if self.phase == Phase::Deleted {
            // The agent exited after the deletion, and may have written files until then.
            cx.output(Output::ForgetChat { chat: self.key().clone() });
        }
        let staged = self.deletion.as_mut().is_some_and(|deletion| deletion.agent_exited(instance));
        staged || self.phase == Phase::Deleted
    }

    /// The journal refused an append and still has the chat: the deletion is refused.
    pub(in crate::hub::chat) fn give_up_deleting(&mut self, cx: &mut Context, refusal: &Refusal) {
        if let Some(deletion) = self.deletion.take() {
            self.phase = Phase::Ready;
            cx.refuse(deletion.by(), refusal.clone().chat(self.log.chat_id()));
            if let Some(instance) = deletion.unlogged_exit() {
                self.stage_changes(cx, [Change::AgentEnded { instance }]);
            }
        }
    }

    /// The resync after a refused append found the chat deleted.
    pub(in crate::hub) fn resync_deleted(&mut self, cx: &mut Context) {
        for pending in self.log.found_deleted() {
            self.publish(cx, pending);
        }
        if self.phase != Phase::Deleted {
            self.deleted(cx);
        }
    }

    /// The journal has removed the chat.
    pub(in crate::hub::chat) fn deleted(&mut self, cx: &mut Context) {
        self.phase = Phase::Deleted;
        let by = self.deletion.take().map(|deletion| deletion.by());
        let event = ControlEvent::SessionUpdated {
            chat_id: self.log.chat_id().clone(),
            scope: UpdateScope::Deleted,
            title: None,
        };
        self.readers.announce(cx, &self.log, by, &event);
        for conn in self.readers.connections() {
            self.unsubscribe(cx, conn);
        }
        cx.output(Output::ForgetChat { chat: self.key().clone() });
        self.rearm(cx);
        self.take_intake(cx);
    }
}
