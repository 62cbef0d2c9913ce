//! How a chat is claimed, released, and lost to another gateway.

use alloc::collections::BTreeSet;

use super::{
    Chat, Phase,
    log::{Draft, Effect, Origin},
};
use crate::{
    hub::{
        context::Context,
        io::Output,
        refusals::{elsewhere, moved},
    },
    ids::ConnId,
    journal::{Grant, Term},
    wire::CloseCode,
};

impl Chat {
    /// Claims the chat, to load it.
    pub(super) fn claim(&mut self, cx: &mut Context) {
        self.phase = Phase::Claiming { creator: None };
        cx.output(Output::Claim { chat: self.key().clone() });
    }

    /// Claims a new chat for `new_chat`. The client is attached once the journal has the chat.
    pub(in crate::hub) fn claim_new(&mut self, cx: &mut Context, creator: ConnId) {
        self.readers.expect(cx, self.log.reference(), creator);
        self.phase = Phase::Claiming { creator: Some(creator) };
        cx.output(Output::Claim { chat: self.key().clone() });
    }

    /// The journal has granted the chat, or renewed the grant. Returns whether that is of use: the chat was claimed, or
    /// has the same term or a newer one.
    pub(in crate::hub) fn owned(&mut self, cx: &mut Context, grant: Grant) -> bool {
        let Phase::Claiming { creator } = self.phase else {
            if self.log.term() == Some(grant.term) {
                cx.grants.set(self.log.reference(), grant.until_ms);
            }
            return self.log.term() >= Some(grant.term);
        };
        self.log.set_term(Some(grant.term));
        cx.grants.set(self.log.reference(), grant.until_ms);
        match creator {
            Some(conn) => self.create_empty(cx, conn),
            None => self.load(cx),
        }
        true
    }

    /// Creates the chat for `new_chat`. The client is attached once the journal has the chat.
    fn create_empty(&mut self, cx: &mut Context, conn: ConnId) {
        self.phase = Phase::Creating;
        let mut draft = Draft::new();
        draft.create = true;
        draft.origin = Some(Origin { conn, turn_id: None, attach: true });
        draft.effects.push(Effect::AnnounceNew { by: conn });
        self.stage(cx, draft);
    }

    /// Releases the chat, if the journal has granted it.
    pub(in crate::hub) fn release(&mut self, cx: &mut Context) {
        if let Some(term) = self.end_grant(cx) {
            cx.output(Output::Release { chat: self.key().clone(), term });
        }
    }

    /// The chat belongs to another gateway. What was staged is dropped without an answer, the agent is left to the next
    /// owner, and the connections that read the chat or wait for an answer are hung up. Returns whether to unload the
    /// chat.
    pub(in crate::hub) fn lose(&mut self, cx: &mut Context) -> bool {
        if self.phase == Phase::Deleted {
            // Nothing follows but the exit of the agent, which was killed.
            return false;
        }
        self.agent.leave(cx);
        if let Phase::Claiming { creator } = self.phase {
            self.refuse_claim(cx, creator);
            return true;
        }
        let deleter = self.deletion.as_ref().map(|deletion| deletion.by());
        let mut conns: BTreeSet<ConnId> = self.readers.connections().into_iter().chain(deleter).collect();
        conns.extend(self.log.clients());
        conns.extend(self.intake.take_all().into_iter().map(|(conn, _)| conn));
        for conn in conns {
            cx.hang_up(conn, CloseCode::ServiceRestart, moved().chat(self.log.chat_id()));
        }
        true
    }

    /// The journal does not grant the chat: the waiting requests are refused.
    fn refuse_claim(&mut self, cx: &mut Context, creator: Option<ConnId>) {
        for (conn, request) in self.intake.take_all() {
            cx.refuse(conn, elsewhere().chat(self.log.chat_id()).turn(request.turn_id()));
        }
        if let Some(conn) = creator {
            cx.stop_expecting(self.log.reference(), conn);
            cx.refuse(conn, elsewhere());
        }
    }

    /// The journal has ended the grant, or is about to hear of its end. Returns the term.
    pub(in crate::hub) fn end_grant(&mut self, cx: &mut Context) -> Option<Term> {
        cx.grants.set(self.log.reference(), None);
        self.log.set_term(None)
    }
}
