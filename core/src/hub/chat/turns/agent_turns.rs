//! How turns that the agent begins by itself start and end.

use alloc::{string::String, vec::Vec};

use super::{
    state::{Applied, Place},
    transition::{Ending, TurnInput},
    work::{LeftOpen, StreamKind},
};
use crate::{
    hub::{
        chat::{Chat, log::Draft, tool_use::ToolUse},
        context::Context,
    },
    ids::TurnId,
    journal::Change,
    wire::{ChatBody, Outcome, TurnError, TurnOrigin, TurnReason},
};

/// The tool's message if its turn ended before the tool did.
const TOOL_LEFT_OPEN: &str = "no result came before the end of the turn";

impl Chat {
    /// Begins a turn of the agent's within a draft, unless one is open. `is_implied`: the agent works without having
    /// said that it begins a turn. Work that is open in the turn of a prompt is closed.
    pub(in crate::hub::chat) fn begin_agent_turn(
        &mut self,
        cx: &mut Context,
        draft: &mut Draft,
        reason: TurnReason,
        is_implied: bool,
    ) {
        if self.turns.agent_turn().is_some() {
            if self.turns.announce_agent_turn() {
                draft.changes.push(Change::AgentTurn { turn: self.turns.agent_turn_record() });
            }
            return;
        }
        if self.turns.prompted().is_some() {
            let left = self.turns.leave_work(&self.background_tools());
            self.close_work(draft, self.turns.prompted(), left, false);
        }
        let turn_id = TurnId::of_agent(&cx.new_turn_id());
        self.turns.begin_agent_turn(turn_id.clone(), reason, is_implied, cx.now);
        draft.changes.push(Change::AgentTurn { turn: self.turns.agent_turn_record() });
        self.log_start(cx, draft, &turn_id, (TurnOrigin::Agent, Some(reason)));
        self.review_slot(cx);
    }

    /// Begins an agent's turn within a draft, because the agent says something that belongs to a turn and none is open.
    pub(in crate::hub::chat) fn imply_agent_turn(&mut self, cx: &mut Context, draft: &mut Draft) {
        let reason = if self.tasks.is_empty() { TurnReason::Other } else { TurnReason::Background };
        self.begin_agent_turn(cx, draft, reason, true);
    }

    /// Begins an agent's turn within a draft if tool uses of a subagent in the background are open and no turn is: the
    /// uses are to be closed. Returns whether it did.
    pub(in crate::hub::chat) fn imply_turn_of_tools(&mut self, cx: &mut Context, draft: &mut Draft) -> bool {
        let is_needed = self.turns.current().is_none() && self.turns.has_tools();
        if is_needed {
            self.begin_agent_turn(cx, draft, TurnReason::Background, true);
        }
        is_needed
    }

    /// Ends the agent's turn within a draft, if one is open.
    pub(in crate::hub::chat) fn end_agent_turn_into(
        &mut self,
        cx: &mut Context,
        draft: &mut Draft,
        ending: Ending,
    ) {
        let input = TurnInput::End(ending);
        if let Applied::Ended(ended) = self.turns.apply_to(Place::Agent, cx.now.ticks_ms, input) {
            self.end_into(cx, draft, *ended);
        }
    }

    /// Ends an implied turn of the agent's within a draft, if nothing of it is open any more.
    pub(in crate::hub::chat) fn end_implied_turn(&mut self, cx: &mut Context, draft: &mut Draft) {
        let is_over = self.turns.is_agent_turn_implied()
            && self.tasks.is_empty()
            && self.turns.open_work() == 0
            && !self.requests.are_open_in(self.turns.agent_turn());
        if is_over {
            self.end_agent_turn_into(cx, draft, Ending::new(Outcome::Completed, None));
        }
    }

    /// Ends an implied turn of the agent's within a draft, if the agent has a prompt since: nobody but the agent knows
    /// when the turn is over, and it does not say.
    pub(in crate::hub::chat) fn end_implied_turn_after_prompt(
        &mut self,
        cx: &mut Context,
        draft: &mut Draft,
    ) {
        if self.turns.is_agent_turn_implied() && self.turns.prompted().is_some() {
            self.deny_requests_of_agent_turn(draft);
            self.end_agent_turn_into(cx, draft, Ending::new(Outcome::Completed, None));
        }
    }

    /// Ends the agent's turn by the hub's decision.
    pub(in crate::hub::chat) fn end_agent_turn(
        &mut self,
        cx: &mut Context,
        outcome: Outcome,
        error: Option<TurnError>,
    ) {
        if self.turns.agent_turn().is_some() {
            let mut draft = Draft::new();
            self.end_agent_turn_into(cx, &mut draft, Ending::new(outcome, error));
            self.stage(cx, draft);
            self.rearm(cx);
        }
    }

    /// Logs the ends of streams and tool uses that the agent has left open. `stopped`: they were stopped, together with
    /// their turn, their task or the agent.
    pub(in crate::hub::chat) fn close_work(
        &self,
        draft: &mut Draft,
        turn_id: Option<&TurnId>,
        left: LeftOpen,
        stopped: bool,
    ) {
        let outer = draft.parent_call_id.take();
        for (id, stream) in left.streams {
            draft.parent_call_id = stream.parent_call_id;
            let (stream_id, sources) = (String::from(&*id), Vec::new());
            draft.push(
                turn_id,
                match stream.kind {
                    StreamKind::Answer => ChatBody::StreamEnd { stream_id, text: None, void: false, sources },
                    StreamKind::Reasoning => ChatBody::ReasoningEnd { stream_id, void: false },
                },
            );
        }
        for tool in left.tools {
            draft.parent_call_id = tool.parent_call_id;
            let end = ToolUse::ended(tool.call_id, tool.name, Err(TOOL_LEFT_OPEN.into()));
            ToolUse { stopped, ..end }.log(draft, turn_id);
        }
        draft.parent_call_id = outer;
    }
}
