//! What readers get at once: published events, and events that are not logged.

use alloc::{collections::BTreeSet, sync::Arc};

use super::Readers;
use crate::{
    hub::{
        chat::log::{Log, Staged},
        context::Context,
        io::Recipients,
    },
    ids::ConnId,
    time::Moment,
    wire::{ChatBody, ControlEvent, MessageAccepted, encode_control},
};

impl Readers {
    /// Offers a published event to all live readers. The sender of a message gets `message_accepted` instead.
    pub(in crate::hub::chat) fn publish(
        &mut self,
        cx: &mut Context,
        log: &Log,
        event: &Staged,
        sender: Option<ConnId>,
    ) {
        match (sender, &event.owner.turn_id, event.body()) {
            (
                Some(sender),
                Some(turn_id),
                Some(ChatBody::UserMessage { starts_turn, active_turn_id, created_at_ms, .. }),
            ) => {
                let accepted = MessageAccepted {
                    chat_id: log.chat_id().clone(),
                    turn_id: turn_id.clone(),
                    starts_turn: *starts_turn,
                    active_turn_id: active_turn_id.clone(),
                    started_at: starts_turn.then(|| Moment::unix_seconds(*created_at_ms)),
                    duplicate: false,
                    epoch: log.epoch().clone(),
                    seq: event.seq,
                };
                self.offer_live(cx, log, event, Some(sender));
                self.answer_message(cx, log, sender, accepted);
            }
            _ => self.offer_live(cx, log, event, None),
        }
    }

    fn answer_message(&mut self, cx: &mut Context, log: &Log, sender: ConnId, accepted: MessageAccepted) {
        let live = self.is_live(sender);
        let Some(reader) = self.subscriptions.get_mut(&sender) else {
            // The sender has detached: it gets an answer that moves no cursor.
            let accepted = MessageAccepted { duplicate: true, ..accepted };
            cx.deliver(sender, &ControlEvent::MessageAccepted(accepted));
            return;
        };
        let seq = accepted.seq;
        if live {
            let frame = encode_control(&ControlEvent::MessageAccepted(accepted.clone()));
            cx.offer(log.reference(), seq, frame, Recipients::One(sender));
        }
        // The outbox of a live reader may refuse the event too.
        reader.remember_own(seq, accepted, live, cx.inputs);
    }

    /// Offers an event to all live readers except one.
    fn offer_live(&self, cx: &mut Context, log: &Log, event: &Staged, except: Option<ConnId>) {
        if self.live.is_empty() {
            return;
        }
        let to = match except {
            Some(one) if self.live.binary_search(&one).is_ok() => {
                Arc::new(self.live.iter().copied().filter(|conn| *conn != one).collect())
            }
            _ => self.live.clone(),
        };
        let frame = event.frame().clone();
        match to.as_slice() {
            [] => {}
            [one] => cx.offer(log.reference(), event.seq, frame, Recipients::One(*one)),
            _ => cx.offer(log.reference(), event.seq, frame, Recipients::Many(to)),
        }
    }

    /// Delivers an event that is not logged to all live readers.
    pub(in crate::hub::chat) fn deliver_live(&self, cx: &mut Context, event: &ControlEvent) {
        let frame = encode_control(event);
        for conn in self.live.iter() {
            cx.deliver_frame(*conn, frame.clone());
        }
    }

    /// Delivers an event to all readers, to the connections that list the principal's chats, and to one connection
    /// more.
    pub(in crate::hub::chat) fn announce(
        &self,
        cx: &mut Context,
        log: &Log,
        more: Option<ConnId>,
        event: &ControlEvent,
    ) {
        let frame = encode_control(event);
        let listing = cx.lists.get(&log.key().principal).into_iter().flatten().copied();
        let to: BTreeSet<ConnId> = self.connections().into_iter().chain(listing).chain(more).collect();
        for conn in to {
            cx.deliver_frame(conn, frame.clone());
        }
    }
}
