//! The chat's running turns: a message's, and the one that the agent began by itself.

use switchboard_core::{
    ids::{Cursor, TurnId},
    wire::{TaskKind, TurnOrigin, TurnReason},
};

use super::Session;
use crate::chat::{
    frames::{Snapshot, State, event},
    requests::Requests,
    text::safe_line,
};

/// Characters of a task's title.
const TITLE_CHARACTERS: usize = 120;

impl Session {
    pub(super) fn snapshot(&mut self, snapshot: Snapshot) {
        if !self.is_here(&snapshot.chat_id) {
            return;
        }
        if snapshot.part == 0 {
            self.requests = Requests::default();
            for turn_id in &self.stopping {
                self.requests.turn_stopped(turn_id);
            }
            (self.running, self.agent_turn) = (None, None);
        }
        for event in snapshot.events.iter().filter_map(|text| event(text.get())) {
            // The snapshot's state lists the requests that are still open.
            let live = event.request.is_none();
            self.handle_event(event, live);
        }
        let Some(state) = snapshot.state else { return };
        self.cursor = Some(Cursor { epoch: snapshot.epoch, seq: snapshot.seq });
        self.describe(&state);
        self.running = state.turn.map(|turn| turn.turn_id);
        self.agent_turn = state.agent_turn.map(|turn| turn.turn_id);
        for event in state.requests.iter().filter_map(|text| event(text.get())) {
            self.handle_event(event, true);
        }
    }

    /// Prints what the agent does by itself, for a person who joins.
    fn describe(&mut self, state: &State) {
        if self.batch.is_some() {
            return;
        }
        for task in &state.tasks {
            let title = safe_line(&task.title, TITLE_CHARACTERS);
            self.note(&format!("[{}{title} runs in the background]", kind(task.kind)));
        }
        if let Some(turn) = &state.agent_turn {
            self.note(&format!("[{}]", by_itself(Some(turn.reason))));
        }
    }

    pub(super) fn turn_started(&mut self, turn_id: Option<&TurnId>, origin: TurnOrigin) {
        let turn = match origin {
            TurnOrigin::User => &mut self.running,
            TurnOrigin::Agent => &mut self.agent_turn,
        };
        *turn = turn_id.cloned();
    }

    pub(super) fn turn_ended(&mut self, turn_id: Option<&TurnId>) {
        for turn in [&mut self.running, &mut self.agent_turn] {
            if turn.as_ref() == turn_id {
                *turn = None;
            }
        }
        self.stopping.retain(|stopping| Some(stopping) != turn_id);
        self.open.retain(|open| Some(open) != turn_id);
    }

    /// The accepted turn that a stop concerns: the one in which the agent works, unless its stop was requested before.
    /// A program that waits for its answers stops no turn of the agent's own.
    pub(super) fn turn_to_stop(&self) -> Option<TurnId> {
        let own = self.running.as_ref().or_else(|| self.open.first());
        let agent = self.agent_turn.as_ref().filter(|_| self.batch.is_none());
        let fresh = agent.filter(|turn_id| !self.stopping.contains(turn_id));
        fresh.or(own).or(agent).cloned()
    }

    /// Whether the turn is one that the agent began by itself.
    pub(super) fn is_agents(&self, turn_id: Option<&TurnId>) -> bool {
        turn_id.is_some() && self.agent_turn.as_ref() == turn_id
    }
}

/// Why the agent works although nobody wrote to it.
pub(in crate::chat) fn by_itself(reason: Option<TurnReason>) -> &'static str {
    match reason {
        Some(TurnReason::Background) => "the agent goes on by itself: background work ended",
        Some(TurnReason::Schedule) => "the agent goes on by itself: it was scheduled",
        Some(TurnReason::Hook) => "the agent goes on by itself: a hook asked for it",
        Some(TurnReason::Resume) => "the agent goes on by itself: its session was resumed",
        Some(TurnReason::Other) | None => "the agent goes on by itself",
    }
}

/// The kind of a task as a prefix of its title.
pub(in crate::chat) fn kind(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Shell => "command: ",
        TaskKind::Agent => "subagent: ",
        TaskKind::Monitor => "monitor: ",
        TaskKind::Schedule => "schedule: ",
        TaskKind::Other => "",
    }
}
