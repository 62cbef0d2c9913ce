//! How a subscription begins: `attached`, then a snapshot or a replay, then `replay_end`.

use super::{
    Readers,
    subscription::{ReaderState, Subscription},
};
use crate::{
    hub::{
        asked::{Asked, ReaderKey},
        chat::{log::Log, profile::Profile},
        context::Context,
        refusals::Refusal,
    },
    ids::ConnId,
    journal::{HistoryPage, PageStart, Query},
    time::Moment,
    wire::{ControlEvent, Frame, RunStatus, UpdateScope, encode_control},
};

impl Readers {
    /// Delivers the events that come before the replay or the snapshot.
    pub(super) fn begin_join(
        &mut self,
        cx: &mut Context,
        log: &Log,
        profile: &Profile,
        conn: ConnId,
        recovered: bool,
    ) {
        let attached = ControlEvent::Attached {
            chat_id: log.chat_id().clone(),
            epoch: log.epoch().clone(),
            head: log.head(),
            recovered,
            // A new chat has a title only from its first message, which may be the request that attaches: then
            // `session_updated` brings it.
            title: profile.title().cloned().filter(|_| !log.is_empty()),
        };
        cx.deliver(conn, &attached);
        if let Some(frame) = self.agent_state(cx, log) {
            cx.deliver_frame(conn, frame);
        }
        if log.is_empty() {
            let (chat_id, scope) = (log.chat_id().clone(), UpdateScope::Metadata);
            cx.deliver(conn, &ControlEvent::SessionUpdated { chat_id, scope, title: None });
        }
    }

    /// The description of the chat's agent as an `agent_state` event, encoded once.
    fn agent_state(&mut self, cx: &Context, log: &Log) -> Option<Frame> {
        if self.agent_state.is_none() {
            self.agent_state = cx.agent.as_ref().map(|agent| {
                let (chat_id, agent) = (log.chat_id().clone(), agent.clone());
                encode_control(&ControlEvent::AgentState { chat_id, agent })
            });
        }
        self.agent_state.clone()
    }

    /// Asks the journal for the events of the snapshot that is due, unless the connection already waits for a snapshot
    /// or a page.
    pub(super) fn ask_snapshot(&mut self, cx: &mut Context, log: &Log, conn: ConnId) {
        let Some(state) = cx.conns.get_mut(&conn).filter(|state| !state.is_fetching()) else { return };
        let Some(reader) = self.subscriptions.get_mut(&conn) else { return };
        let Some(seq) = reader.ask_snapshot() else { return };
        state.set_fetching(true);
        let query = Query::Before {
            chat: log.key().clone(),
            before: PageStart::At(seq),
            events: cx.limits.history_events,
            bytes: cx.limits.page_bytes,
        };
        let reader = ReaderKey { conn, subscription: reader.id() };
        cx.ask(query, Asked::Snapshot { chat: log.reference(), reader });
    }

    /// The journal answered with the events of the snapshot for this reader, or could not read them. Returns whether
    /// further parts of the snapshot are to be sent.
    pub(in crate::hub::chat) fn snapshot_found(
        &mut self,
        cx: &mut Context,
        log: &Log,
        profile: &Profile,
        ReaderKey { conn, subscription }: ReaderKey,
        page: Result<HistoryPage, Refusal>,
    ) -> bool {
        let reader = self.subscriptions.get_mut(&conn).filter(|reader| reader.id() == subscription);
        let Some(reader) = reader else { return false };
        match page {
            Ok(page) => {
                reader.begin_parts(page);
                self.send_part(cx, log, profile, conn);
            }
            Err(refusal) => self.drop_reader(cx, log, conn, &refusal),
        }
        self.subscriptions.get(&conn).is_some_and(Subscription::sends_parts)
    }

    /// Sends the next part of the snapshot. The part after it waits until the outbox has room again, so that a large
    /// snapshot is never encoded as a whole.
    pub(super) fn send_part(&mut self, cx: &mut Context, log: &Log, profile: &Profile, conn: ConnId) {
        let Some(reader) = self.subscriptions.get_mut(&conn) else { return };
        let Some((seq, mut part)) = reader.next_part(cx.limits.page_bytes) else { return };
        if let Some(state) = part.state.as_mut().filter(|_| !part.more) {
            state.agent.clone_from(&cx.agent);
        }
        let event = ControlEvent::Snapshot {
            chat_id: log.chat_id().clone(),
            epoch: log.epoch().clone(),
            seq,
            part: part.number,
            more: part.more,
            events: part.events,
            before: part.before,
            state: part.state,
        };
        cx.deliver(conn, &event);
        if part.more {
            cx.watch_drain(conn);
            return;
        }
        self.set_state(conn, ReaderState::Lagging { next: seq + 1 });
        cx.fetched(conn);
        self.finish_join(cx, log, profile, conn, seq + 1);
        self.catch_up(cx, log, profile, conn);
    }

    /// Sends `replay_end`, and the present state of the chat, once all events of the replay were sent.
    pub(super) fn finish_join(
        &mut self,
        cx: &mut Context,
        log: &Log,
        profile: &Profile,
        conn: ConnId,
        next: u64,
    ) {
        let Some(reader) = self.subscriptions.get_mut(&conn) else { return };
        let Some(after_replay) = reader.end_replay(next) else { return };
        let chat_id = log.chat_id();
        let (epoch, seq) = (log.epoch().clone(), next - 1);
        cx.deliver(conn, &ControlEvent::ReplayEnd { chat_id: chat_id.clone(), epoch, seq });
        if let Some(goal) = log.durable().active_goal() {
            let (chat_id, goal_state) = (chat_id.clone(), goal.clone());
            cx.deliver(conn, &ControlEvent::GoalState { chat_id, goal_state });
        }
        let agent_turn = log.durable().agent_turn().map(|turn| (&turn.turn_id, turn.started_at_ms));
        let turn = log.durable().turn().map(|turn| (&turn.turn_id, turn.started_at_ms));
        for (turn_id, started_at_ms) in agent_turn.into_iter().chain(turn) {
            let event = ControlEvent::GoalStatus {
                chat_id: chat_id.clone(),
                status: RunStatus::Running,
                started_at: Some(Moment::unix_seconds(started_at_ms)),
                turn_id: Some(turn_id.clone()),
            };
            cx.deliver(conn, &event);
        }
        if let Some(model_name) = profile.model().cloned() {
            let chat_id = chat_id.clone();
            cx.deliver(conn, &ControlEvent::RuntimeModelUpdated { chat_id, model_name });
        }
        for frame in after_replay {
            cx.deliver_frame(conn, frame);
        }
    }

    /// Delivers a frame, after `replay_end` if that is still to be sent.
    pub(in crate::hub::chat) fn deliver_after_replay(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        frame: Frame,
    ) {
        match self.subscriptions.get_mut(&conn) {
            Some(reader) => reader.deliver(cx, conn, frame),
            None => cx.deliver_frame(conn, frame),
        }
    }
}
