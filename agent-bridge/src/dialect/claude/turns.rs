//! Whose turn a record belongs to: the turn of the prompt that was sent last, or one that the agent began by itself.

use std::{collections::BTreeSet, mem};

use switchboard_core::{
    agent::AgentEvent,
    wire::{Outcome, TurnError, TurnReason},
};

use super::{
    blocks::MessageEnd,
    records::{Line, Origin, TurnResult},
    state::{Cancel, ClaudeCodec, Output, OwnTurn, PromptPhase, Prompted},
    tools::parent_of,
};
use crate::dialect::{Decoded, TurnEnding};

/// The turns that a result ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) agent: bool,
    pub(super) prompt: bool,
}

impl ClaudeCodec {
    /// Handles the record at the beginning of a turn.
    pub(super) fn turn_begins(&mut self, line: &Line<'_>, out: &mut Decoded) {
        let named = line.user_message_uuids.as_deref().unwrap_or_default();
        let reports = &mut self.state.reports;
        reports.beginnings = true;
        reports.prompts |= !named.is_empty();
        let reports = *reports;
        self.forget_texts();
        let begins = |turn: &Prompted| match turn.phase {
            _ if !named.is_empty() => named.contains(&turn.uuid),
            _ if reports.prompts => false,
            PromptPhase::Written => !reports.lifecycle,
            PromptPhase::Folded => true,
            PromptPhase::Queued | PromptPhase::Begun => false,
        };
        if self.state.turn.as_ref().is_some_and(begins) {
            self.prompt_begins(out);
        } else {
            if self.has_begun(|turn| turn.done) {
                self.unanswered(out);
            }
            if self.state.resumed && !named.is_empty() {
                // The prompt that an earlier process had not answered.
                self.state.cause = Some(TurnReason::Resume);
            }
        }
        self.at_work(true, out);
    }

    /// Handles a record of work: it belongs to the begun prompt, or to a turn that the agent begins by itself. `main` is
    /// whether the record is of the agent itself, not of a subagent.
    pub(super) fn at_work(&mut self, main: bool, out: &mut Decoded) {
        if let Some(turn) = &mut self.state.agent_turn {
            turn.main |= main;
            return;
        }
        if self.has_begun(|_| true) {
            return;
        }
        match &mut self.state.turn {
            Some(turn) if !self.state.reports.beginnings => {
                turn.phase = PromptPhase::Begun;
                self.state.resumed = false;
            }
            _ => self.agent_turn_begins(main, out),
        }
    }

    /// Whether the agent works on the prompt, and `condition` is true of it.
    pub(super) fn has_begun(&self, condition: impl FnOnce(&Prompted) -> bool) -> bool {
        self.state.turn.as_ref().is_some_and(|turn| turn.phase == PromptPhase::Begun && condition(turn))
    }

    pub(super) fn lifecycle(&mut self, line: &Line<'_>, out: &mut Decoded) {
        self.state.reports.beginnings = true;
        self.state.reports.lifecycle = true;
        if line.wakeup_source.is_some() && self.state.agent_turn.is_none() && !self.has_begun(|_| true) {
            self.state.cause = Some(TurnReason::Schedule);
        }
        let has_agent_turn = self.state.agent_turn.as_ref().is_some_and(|turn| turn.main);
        let turn = self.state.turn.as_mut().filter(|turn| Some(&*turn.uuid) == line.command_uuid.as_deref());
        let Some(turn) = turn else { return out.alive() };
        match (line.state.as_deref().unwrap_or_default(), turn.phase) {
            ("queued", PromptPhase::Written) => turn.phase = PromptPhase::Queued,
            ("started", PromptPhase::Written | PromptPhase::Queued) if has_agent_turn => {
                turn.phase = PromptPhase::Folded;
                self.interrupt_again(out);
            }
            ("started", _) => {
                if turn.phase != PromptPhase::Folded {
                    self.prompt_begins(out);
                }
                self.interrupt_again(out);
            }
            // The result follows.
            ("completed" | "cancelled", PromptPhase::Folded) | ("completed", PromptPhase::Begun) => {
                turn.done = true;
            }
            ("completed", PromptPhase::Written | PromptPhase::Queued) => {
                let detail = "The agent has been given this message before and does not answer it again.";
                return self.ended_without_result(Outcome::Failed, detail, out);
            }
            ("cancelled", _) => return self.taken_back(out),
            _ => {}
        }
        out.alive();
    }

    /// Handles the sign that the agent works on the prompt: a turn that the agent began by itself is over.
    fn prompt_begins(&mut self, out: &mut Decoded) {
        let begins = !self.has_begun(|_| true);
        if let Some(turn) = &mut self.state.turn {
            turn.phase = PromptPhase::Begun;
        }
        self.state.resumed = false;
        self.state.cause.take_if(|cause| *cause == TurnReason::Hook);
        if let Some(turn) = &self.state.agent_turn {
            let outcome = if turn.cancelled { Outcome::Cancelled } else { Outcome::Completed };
            self.finish_message(MessageEnd::Stands, None, out);
            self.close_turn(out);
            self.agent_turn_ended(outcome.into(), out);
        }
        if begins {
            self.forget_texts();
        }
    }

    /// Forgets the texts of earlier turns. Nothing repeats them once the agent has said that another turn begins.
    fn forget_texts(&mut self) {
        self.state.output.texts.clear();
        let is_over = |(parent, output): (&String, &Output)| output.is_idle() && !self.outlives_turn(parent);
        let over: Vec<String> = self
            .state
            .subagents
            .iter()
            .filter(|entry| is_over(*entry))
            .map(|(parent, _)| parent.clone())
            .collect();
        self.state.subagents.retain(|parent, _| !over.contains(parent));
    }

    /// Notes what caused a line that is no answer to a prompt: the agent may begin a turn for it.
    pub(super) fn caused_by(&mut self, origin: &Origin) {
        let is = |word: &str| [&origin.kind, &origin.subkind].iter().any(|name| name.contains(word));
        self.state.cause = match () {
            () if is("schedule") => Some(TurnReason::Schedule),
            () if is("task") => Some(TurnReason::Background),
            () => return,
        };
    }

    fn agent_turn_begins(&mut self, main: bool, out: &mut Decoded) {
        let resumed = mem::take(&mut self.state.resumed);
        let unsaid = || if resumed { TurnReason::Resume } else { self.reason_by_work() };
        let reason = self.state.cause.unwrap_or_else(unsaid);
        self.state.cause = None;
        self.state.agent_turn = Some(OwnTurn { main, cancelled: false });
        out.begin_agent_turn(reason);
    }

    pub(super) fn agent_turn_ended(&mut self, ending: TurnEnding, out: &mut Decoded) {
        self.state.agent_turn = None;
        out.end_agent_turn(ending);
    }

    /// Ends the prompt's turn without a result, because the agent dropped the prompt or answered it in an earlier
    /// instance. `detail` is the sentence of the error if the turn failed.
    fn ended_without_result(&mut self, outcome: Outcome, detail: &str, out: &mut Decoded) {
        let error = (outcome == Outcome::Failed)
            .then(|| TurnError { code: "agent_error".into(), detail: detail.into() });
        if self.state.agent_turn.is_none() {
            self.finish_message(MessageEnd::Stands, None, out);
            self.close_turn(out);
        }
        self.prompt_ended(TurnEnding { error, ..outcome.into() }, out);
    }

    /// Ends the turn of a prompt that the agent dropped.
    pub(super) fn taken_back(&mut self, out: &mut Decoded) {
        self.ended_without_result(Outcome::Cancelled, "", out);
    }

    /// Ends the turn of a prompt that the agent is done with, though its result did not come.
    pub(super) fn unanswered(&mut self, out: &mut Decoded) {
        let detail = "The agent finished with this message and gave no answer.";
        self.ended_without_result(Outcome::Failed, detail, out);
    }

    pub(super) fn prompt_ended(&mut self, ending: TurnEnding, out: &mut Decoded) {
        self.state.turn = None;
        self.state.cancel = Cancel::None;
        let TurnEnding { outcome, error, usage, cost } = ending;
        out.turn_ended = true;
        out.events.push(AgentEvent::TurnEnded { outcome, error, usage, cost });
    }

    /// Handles the agent's answer to an interrupt. A turn of subagents in the background has no result to wait for.
    pub(super) fn interrupted(&mut self, out: &mut Decoded) {
        if self.state.agent_turn.as_ref().is_some_and(|turn| turn.cancelled && !turn.main) {
            self.close_turn(out);
            self.agent_turn_ended(Outcome::Cancelled.into(), out);
        }
    }

    /// Forgets what belongs to the turn that ends: the hub closes what is still open. Subagents in the background go
    /// on.
    pub(super) fn close_turn(&mut self, out: &mut Decoded) {
        self.end_subagent_streams(out);
        let uses = self.state.tools.keys().chain(self.state.ended_uses.keys());
        let parents = uses.filter_map(|key| parent_of(key));
        let go_on: BTreeSet<String> =
            parents.filter(|parent| self.outlives_turn(parent)).map(Into::into).collect();
        let goes_on = |key: &str| parent_of(key).is_some_and(|parent| go_on.contains(parent));
        self.deny_unanswered(out);
        self.state.tools.retain(|key, _| goes_on(key));
        self.state.ended_uses.retain(|key, _| goes_on(key));
        self.forget_decided();
        self.state.output.synthetic = None;
        self.state.output.spoke = false;
        self.state.output.worked = false;
    }

    /// The turns that a result ends. A result names the prompts that it answers, or has an origin other than a prompt,
    /// or both; results of old versions have neither.
    pub(super) fn ends(&self, result: &TurnResult) -> Ends {
        let named = result.user_message_uuids.as_deref().unwrap_or_default();
        let agent = self.state.agent_turn.is_some();
        let prompt = self.state.turn.as_ref().is_some_and(|turn| match turn.phase {
            _ if !named.is_empty() => named.contains(&turn.uuid),
            PromptPhase::Folded => turn.done || result.origin.is_none(),
            _ if result.origin.is_some() => false,
            PromptPhase::Begun => true,
            PromptPhase::Written | PromptPhase::Queued => !agent && !self.state.reports.beginnings,
        });
        Ends { agent, prompt }
    }

    /// Handles a result that is not the prompt's. The prompt may have been started within the turn that is over.
    pub(super) fn passed_by(&mut self, out: &mut Decoded) {
        let Some(turn) = &mut self.state.turn else { return };
        match turn.phase {
            PromptPhase::Folded => turn.phase = PromptPhase::Begun,
            PromptPhase::Begun if turn.done => self.unanswered(out),
            PromptPhase::Written | PromptPhase::Queued | PromptPhase::Begun => {}
        }
    }
}
