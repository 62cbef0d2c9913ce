//! The naive model of who owns which chat, for worlds in which two gateways share a journal.
//!
//! The journal grants a chat to a gateway for a time or for ever, and sometimes takes it from a gateway that still works
//! with it. A gateway learns of that at any time later. Whatever it does until then, the log stays one.

use std::collections::{BTreeMap, VecDeque};

use switchboard_conformance::journal_model::How;
use switchboard_core::{
    Input,
    ids::ChatKey,
    journal::{Grant, Term},
};

use super::sim::{Defect, Side, Sim};
use crate::support::world::Gateway;

/// The gateway that does not act at the moment, and what is on its way to it.
pub struct Other {
    pub gateway: Gateway,
    pub side: Side,
}

#[derive(Debug, Default)]
pub struct Owners {
    of: BTreeMap<ChatKey, Owner>,
    /// What the journal has told each gateway and has not arrived yet, in order.
    mail: [VecDeque<OwnerChange>; 2],
}

/// What the journal tells a gateway.
#[derive(Debug)]
enum OwnerChange {
    Owned(ChatKey, Grant),
    Lost(ChatKey),
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    /// `None`: the gateway has ended.
    gateway: Option<usize>,
    term: Term,
    until_ms: Option<u64>,
}

impl Owner {
    fn has_ended(self, now_ms: u64) -> bool {
        self.until_ms.is_some_and(|until_ms| until_ms <= now_ms)
    }
}

impl Sim {
    /// Lets the other gateway act.
    pub(super) fn switch(&mut self) {
        let Some(other) = &mut self.other else { return };
        self.world.swap(&mut other.gateway);
        std::mem::swap(&mut self.side, &mut other.side);
        self.agents.swap();
        self.world.journal.gateway = 1 - self.world.journal.gateway;
    }

    /// Lets this gateway act.
    pub(super) fn switch_to(&mut self, gateway: usize) {
        if self.gateway() != gateway {
            self.switch();
        }
    }

    /// The number of the gateway that acts.
    pub(super) fn gateway(&self) -> usize {
        self.world.journal.gateway
    }

    /// Something random happens to the owners.
    pub(super) fn own(&mut self) {
        self.release();
        match self.rng.below(10) {
            0..=4 => {
                if let Some(chat) = self.world.claims.pop_front() {
                    self.consider(chat);
                }
            }
            5..=7 => self.deliver_mail(),
            8 => self.renew(),
            _ => self.recover_one(),
        }
    }

    /// The journal grants a claimed chat, if it is free. Otherwise it takes the chat away from its owner, refuses the
    /// claim, or lets it wait.
    fn consider(&mut self, chat: ChatKey) {
        let (me, now_ms) = (self.gateway(), self.world.now.boot_ms);
        let holder = self.owners.of.get(&chat).copied();
        let foreign = holder.filter(|holder| holder.gateway != Some(me) && !holder.has_ended(now_ms));
        if let Some(holder) = foreign {
            match self.rng.below(10) {
                0..=3 => {}
                4 => {
                    self.owners.mail[me].push_back(OwnerChange::Lost(chat));
                    return;
                }
                _ => {
                    self.world.claims.push_back(chat);
                    return;
                }
            }
            if let Some(gateway) = holder.gateway {
                self.owners.mail[gateway].push_back(OwnerChange::Lost(chat.clone()));
            }
        }
        let lasts_ms = u64::try_from(self.rng.below(30_000)).expect("small");
        let until_ms = self.rng.chance(60).then_some(now_ms + lasts_ms);
        self.grant(chat, until_ms);
    }

    fn grant(&mut self, chat: ChatKey, until_ms: Option<u64>) {
        let (term, gateway) = (self.world.journal.memory.claim(&chat), self.gateway());
        self.owners.of.insert(chat.clone(), Owner { gateway: Some(gateway), term, until_ms });
        self.tell(chat, term, until_ms);
    }

    fn tell(&mut self, chat: ChatKey, term: Term, until_ms: Option<u64>) {
        let grant = Grant { term, until_ms };
        self.owners.mail[self.gateway()].push_back(OwnerChange::Owned(chat, grant));
    }

    /// What the journal has told the gateway arrives.
    fn deliver_mail(&mut self) {
        let Some(change) = self.owners.mail[self.gateway()].pop_front() else { return };
        let told = match change {
            OwnerChange::Owned(chat, mut grant) => {
                let newest = self.world.ends.get(&chat).is_none_or(|(term, _)| *term <= grant.term);
                if newest {
                    self.world.ends.insert(chat.clone(), (grant.term, grant.until_ms));
                }
                if self.defect == Some(Defect::HubIgnoresEnds) {
                    grant.until_ms = None;
                }
                Input::Owned { chat, grant }
            }
            OwnerChange::Lost(chat) => {
                if let Some((_, until_ms)) = self.world.ends.get_mut(&chat) {
                    *until_ms = Some(0);
                }
                Input::Lost { chat }
            }
        };
        self.world.step(told);
        self.agents.connect_feeds(&mut self.world, &mut self.rng);
    }

    /// The journal renews a grant of the gateway, which may just have ended or been taken away.
    fn renew(&mut self) {
        let (me, now_ms) = (self.gateway(), self.world.now.boot_ms);
        let mine: Vec<ChatKey> = self
            .owners
            .of
            .iter()
            .filter(|(_, owner)| {
                owner.gateway == Some(me) && owner.until_ms.is_some() && !owner.has_ended(now_ms)
            })
            .map(|(chat, _)| chat.clone())
            .collect();
        let Some(chat) = self.rng.pick(&mine).cloned() else { return };
        let until_ms = Some(now_ms + u64::try_from(self.rng.below(30_000)).expect("small"));
        let owner = self.owners.of.get_mut(&chat).expect("it is one of them");
        owner.until_ms = owner.until_ms.max(until_ms);
        let (term, until_ms) = (owner.term, owner.until_ms);
        self.tell(chat, term, until_ms);
    }

    /// The chats that the gateway has released are free, unless they were granted again since.
    fn release(&mut self) {
        for (chat, term) in std::mem::take(&mut self.world.releases) {
            if self.owners.of.get(&chat).is_some_and(|owner| owner.term == term) {
                self.owners.of.remove(&chat);
            }
        }
    }

    /// The gateway is to recover a chat that nobody owns.
    fn recover_one(&mut self) {
        let now_ms = self.world.now.boot_ms;
        let unfinished = self.world.journal.unfinished().into_iter().map(|(chat, _)| chat);
        let free: Vec<ChatKey> = unfinished
            .filter(|chat| self.owners.of.get(chat).is_none_or(|owner| owner.has_ended(now_ms)))
            .collect();
        if let Some(chat) = self.rng.pick(&free).cloned() {
            self.world.step(Input::Recover { chat });
        }
    }

    /// The gateway has ended. The journal grants its chats to others once its time is over.
    pub(super) fn owner_ended(&mut self) {
        let (me, now_ms) = (self.gateway(), self.world.now.boot_ms);
        self.owners.mail[me].clear();
        for owner in self.owners.of.values_mut().filter(|owner| owner.gateway == Some(me)) {
            owner.gateway = None;
            let ends_ms = now_ms + u64::try_from(self.rng.below(5_000)).expect("small");
            owner.until_ms = Some(owner.until_ms.map_or(ends_ms, |until_ms| until_ms.min(ends_ms)));
        }
    }

    /// All faults stop: the first gateway gets all chats for ever, and all clients.
    pub(super) fn gather(&mut self) {
        if self.other.is_none() {
            return;
        }
        self.switch_to(1);
        self.lose_all();
        for who in 0..self.readers.len() {
            if self.readers[who].gateway == 1 {
                while self.read(who, 100) {}
                self.disconnect(who);
                self.readers[who].gateway = 0;
            }
        }
        self.switch_to(1);
        assert_eq!(self.world.hub.counts().agents, 0, "the gateway has left all its agents");
        self.switch_to(0);
        while !self.owners.mail[0].is_empty() {
            self.deliver_mail();
        }
        self.release();
        let now_ms = self.world.now.boot_ms;
        for (chat, owner) in self.owners.of.clone() {
            if owner.gateway == Some(0) && !owner.has_ended(now_ms) {
                self.tell(chat, owner.term, None);
            } else {
                self.owners.of.remove(&chat);
            }
        }
        while !self.owners.mail[0].is_empty() {
            self.deliver_mail();
        }
        for (chat, _) in self.world.journal.unfinished() {
            if !self.owners.of.contains_key(&chat) {
                self.world.step(Input::Recover { chat });
            }
        }
    }

    /// The gateway loses all chats, and what is on its way comes to nothing.
    fn lose_all(&mut self) {
        let me = self.gateway();
        loop {
            while !self.world.journal.waiting.is_empty() {
                self.carry_out(0, How::Keep);
            }
            for answer in std::mem::take(&mut self.side.answers) {
                self.deliver(answer);
            }
            while !self.owners.mail[me].is_empty() {
                self.deliver_mail();
            }
            self.release();
            let claimed = std::mem::take(&mut self.world.claims);
            let owned = self.owners.of.iter().filter(|(_, owner)| owner.gateway == Some(me));
            let lost: Vec<ChatKey> = owned.map(|(chat, _)| chat.clone()).chain(claimed).collect();
            if lost.is_empty() {
                return;
            }
            for chat in lost {
                self.owners.of.remove(&chat);
                self.world.journal.memory.claim(&chat);
                self.owners.mail[me].push_back(OwnerChange::Lost(chat));
            }
        }
    }

    /// The journal grants every claim, for ever. Returns whether there was any.
    pub(super) fn grant_all(&mut self) -> bool {
        self.release();
        let claims = std::mem::take(&mut self.world.claims);
        let any = !claims.is_empty();
        for chat in claims {
            self.grant(chat, None);
        }
        while !self.owners.mail[self.gateway()].is_empty() {
            self.deliver_mail();
        }
        any
    }
}
