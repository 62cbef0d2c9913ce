//! How drafts are appended, and what follows once the journal has them.

use alloc::{collections::BTreeSet, vec::Vec};

use super::{
    Chat, Phase,
    log::{Draft, Effect, Pending},
};
use crate::{
    hub::context::{Context, DeferredAction},
    ids::ConnId,
    journal::{AppendId, Change},
    wire::{ControlEvent, MessageAccepted, UpdateScope, encode_control},
};

impl Chat {
    /// Numbers, encodes and appends a draft. Effects without an append follow the pending appends.
    pub(super) fn stage(&mut self, cx: &mut Context, draft: Draft) {
        if draft.has_effects_only() {
            for effect in draft.effects {
                if let Some(effect) = self.log.after_pending(effect) {
                    self.effect(cx, effect);
                }
            }
            return;
        }
        self.log.stage(cx, &self.requests, draft);
        self.pause_or_resume(cx);
    }

    /// Shows the pieces of a draft to readers before the journal has them, if that may be. Otherwise appends the draft.
    pub(super) fn show_or_stage(&mut self, cx: &mut Context, draft: Draft) {
        if !self.log.may_show(&draft, cx.limits.ring_bytes) {
            return self.stage(cx, draft);
        }
        let events = self.log.number_shown(draft.events);
        for event in &events {
            self.log.publish(event, cx.limits.ring_bytes);
            self.readers.publish(cx, &self.log, event, None);
        }
        self.log.hold(cx, &self.requests, events, draft.changes.into_iter().next_back());
        self.pause_or_resume(cx);
        self.rearm(cx);
    }

    /// Appends what was shown and is not appended yet.
    pub(in crate::hub) fn flush(&mut self, cx: &mut Context) {
        self.log.flush(cx, &self.requests);
    }

    /// Appends changes without events.
    pub(super) fn stage_changes(&mut self, cx: &mut Context, changes: impl IntoIterator<Item = Change>) {
        let mut draft = Draft::new();
        draft.changes.extend(changes);
        self.stage(cx, draft);
    }

    /// The journal has the oldest pending append: publishes its events.
    pub(in crate::hub) fn committed(&mut self, cx: &mut Context, id: AppendId) {
        if self.log.is_recovering() {
            return self.refused(cx);
        }
        let Some(pending) = self.log.committed(id) else { return self.refused(cx) };
        let created = pending.create;
        self.publish(cx, pending);
        self.pause_or_resume(cx);
        self.go_on_renewing(cx);
        cx.defer(DeferredAction::Settle(self.log.reference()));
        if created {
            self.take_intake(cx);
        }
    }

    /// Publishes the events of a committed append to readers and carries out its effects.
    pub(super) fn publish(&mut self, cx: &mut Context, pending: Pending) {
        // A chat that the journal lost and that is created again existed all the time, and may be `Deleting`.
        if pending.create && self.phase == Phase::Creating {
            self.phase = Phase::Ready;
        }
        let sender = pending.origin.as_ref().map(|origin| origin.conn);
        if let Some(conn) = sender.filter(|_| pending.origin.as_ref().is_some_and(|origin| origin.attach)) {
            self.attach_sender(cx, conn);
        }
        for event in pending.events.iter().filter(|_| !pending.shown) {
            self.log.publish(event, cx.limits.ring_bytes);
            self.readers.publish(cx, &self.log, event, sender);
        }
        if let Some(last) = pending.events.last() {
            self.log.note_journalled(last.seq);
        }
        self.note_named(cx, &pending.changes);
        self.agent.note_received(&pending.changes);
        for effect in pending.effects {
            self.effect(cx, effect);
        }
        self.announce_activity(cx);
    }

    /// Tells the connections that list chats if the chat began or ceased to run or to wait. Connections that are attached
    /// to the chat see that in its events.
    fn announce_activity(&mut self, cx: &mut Context) {
        let activity = self.log.durable().activity();
        if core::mem::replace(&mut self.listed, activity) == activity {
            return;
        }
        let listing: Vec<ConnId> =
            cx.lists.get(&self.key().principal).into_iter().flatten().copied().collect();
        for conn in listing {
            let Some(state) = cx.conns.get_mut(&conn) else { continue };
            if !state.chats().contains(&self.log.reference()) && state.take_change() {
                cx.deliver(conn, &ControlEvent::ChatsChanged {});
            }
        }
    }

    /// Attaches the sender of a committed frame that attaches.
    pub(super) fn attach_sender(&mut self, cx: &mut Context, conn: ConnId) {
        cx.stop_expecting(self.log.reference(), conn);
        if cx.conns.contains_key(&conn) && !self.readers.contains(conn) {
            self.readers.subscribe(cx, &self.log, &self.profile, conn, None);
        }
    }

    /// Carries out an effect of a committed append.
    pub(super) fn effect(&mut self, cx: &mut Context, effect: Effect) {
        match effect {
            Effect::SendCommand(command) => self.send_command(cx, command),
            Effect::Fan(event) => self.readers.deliver_live(cx, &event),
            Effect::Announce { by, event } => self.readers.announce(cx, &self.log, Some(by), &event),
            Effect::AnnounceNew { by } => self.announce_new(cx, by),
            Effect::Stopped { conn, accepted } => self.deliver_accepted(cx, conn, accepted),
            Effect::Deleted => self.deleted(cx),
            Effect::Repeat { conn, accepted } => {
                self.attach_sender(cx, conn);
                self.deliver_accepted(cx, conn, accepted);
            }
        }
    }

    fn deliver_accepted(&mut self, cx: &mut Context, conn: ConnId, accepted: MessageAccepted) {
        let frame = encode_control(&ControlEvent::MessageAccepted(accepted));
        self.readers.deliver_after_replay(cx, conn, frame);
    }

    /// Announces a new chat to the connections that list chats.
    fn announce_new(&self, cx: &mut Context, by: ConnId) {
        let frame = encode_control(&self.profile.updated(self.log.chat_id(), UpdateScope::Metadata));
        let listing = cx.lists.get(&self.key().principal).into_iter().flatten().copied();
        let to: BTreeSet<ConnId> = listing.filter(|conn| *conn != by).collect();
        for conn in to {
            cx.deliver_frame(conn, frame.clone());
        }
    }
}
