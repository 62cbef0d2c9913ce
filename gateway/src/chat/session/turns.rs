//! The chat's running turns: a message's, and the one that the agent began by itself.

use switchboard_core::{
    ids::{Cursor, TurnId},
    wire::{Task, TaskKind, TaskStatus, TurnOrigin, TurnReason},
};

use super::{Effect, Session};
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
            self.tasks.clear();
        }
        for event in snapshot.events.iter().filter_map(|text| event(text.get())) {
            // The snapshot's state lists the requests that are still open.
            let live = event.request.is_none();
            self.handle_event(event, live);
        }
        let Some(state) = snapshot.state else { return };
        self.cursor = Some(Cursor { epoch: snapshot.epoch, seq: snapshot.seq });
        self.describe(&state);
        self.tasks = state.tasks.into_iter().map(|task| task.task_id).collect();
        self.running = state.turn.map(|turn| turn.turn_id);
        self.agent_turn = state.agent_turn.map(|turn| turn.turn_id);
        for event in state.requests.iter().filter_map(|text| event(text.get())) {
            self.handle_event(event, true);
        }
    }

    /// Prints what the agent does by itself, for a person who joins, where the events of the snapshot do not say it.
    fn describe(&mut self, state: &State) {
        if self.batch.is_some() {
            return;
        }
        for task in state.tasks.iter().filter(|task| !self.tasks.contains(&task.task_id)) {
            self.effects.push_back(Effect::Note(task_line(task)));
        }
        if let Some(turn) =
            state.agent_turn.as_ref().filter(|turn| self.agent_turn.as_ref() != Some(&turn.turn_id))
        {
            self.note(&format!("[{}]", by_itself(Some(turn.reason))));
        }
    }

    /// Notes a task that the screen shows as running, or as ended.
    pub(super) fn note_task(&mut self, task: &Task) {
        self.tasks.remove(&task.task_id);
        if task.status == TaskStatus::Running {
            self.tasks.insert(task.task_id.clone());
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
        self.requests.turn_ended(turn_id);
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

/// What a task does, or how it ended, in one line that is safe to print.
pub(in crate::chat) fn task_line(task: &Task) -> String {
    let kind = match task.kind {
        TaskKind::Shell => "command: ",
        TaskKind::Agent => "subagent: ",
        TaskKind::Monitor => "monitor: ",
        TaskKind::Schedule => "schedule: ",
        TaskKind::Other => "",
    };
    let status = match task.status {
        TaskStatus::Running => "runs in the background",
        TaskStatus::Completed => "is done",
        TaskStatus::Failed => "failed",
        TaskStatus::Stopped => "was stopped",
    };
    format!("[{kind}{} {status}]", safe_line(&task.title, TITLE_CHARACTERS))
}
