//! Turns an agent's events into events of the log.

use alloc::{format, string::String, vec::Vec};

use super::{
    Chat,
    bounds::{EDIT_BYTES, bounded},
    log::{Draft, Effect},
    tasks::RUNNING_TASKS,
    text::{cut, is_short, pieces},
    tool_use::ToolUse,
    turns::{Ending, StreamKind, TurnInput},
};
use crate::{
    agent::{AgentEvent, AgentInstanceId, AgentRecords, StreamId, WithoutTurn},
    hub::context::Context,
    journal::{Change, OpenTool},
    limits::Limits,
    wire::{
        ChatBody, ControlEvent, FileEdit, MessageKind, NoticeLevel, Outcome, Source, ToolPhase, TurnError,
        json_bytes,
    },
};

impl Chat {
    /// The agent's output. `spooled`: it is pieces that can be read again from its spool.
    pub(in crate::hub) fn records(
        &mut self,
        cx: &mut Context,
        instance: AgentInstanceId,
        records: AgentRecords,
        spooled: bool,
    ) {
        if !self.agent.accepts_records_of(instance) || cx.leaving {
            return;
        }
        self.turns.progress(cx.now.ticks_ms);
        let mut draft = Draft { spooled, ..Draft::new() };
        self.end_implied_turn_after_prompt(cx, &mut draft);
        for (at, event) in records.events.into_iter().enumerate() {
            let mut event = bounded(event);
            stream_long_message(&cx.limits, &mut event, || format!("m{}.{at}", records.position).into());
            self.note_adopted_prompt(cx, &event);
            if self.turns.current().is_none() {
                match event.without_turn() {
                    WithoutTurn::OfAgent => {}
                    WithoutTurn::BeginsTurn => self.imply_agent_turn(cx, &mut draft),
                    // A subagent in the background goes on.
                    WithoutTurn::IsLate(Some(call_id)) if self.turns.has_tool(call_id) => {
                        self.imply_agent_turn(cx, &mut draft);
                    }
                    // The hub closed this when the turn ended.
                    WithoutTurn::IsLate(_) => continue,
                }
            }
            self.record(cx, &mut draft, event);
        }
        self.end_implied_turn(cx, &mut draft);
        draft.changes.extend(self.turns.changed_work().map(|work| Change::OpenWork { work }));
        if !draft.events.is_empty() || records.checkpoint.is_some() {
            let (position, checkpoint) = (records.position, records.checkpoint);
            draft.changes.push(Change::AgentPosition { instance, position, checkpoint });
        }
        self.show_or_stage(cx, draft);
        if self.requests.len() > cx.limits.open_requests {
            self.fail_turn(
                cx,
                "too_many_requests",
                "the agent asked too many things at once and was stopped",
            );
        } else if self.turns.open_work() > cx.limits.open_work || self.tasks.len() > RUNNING_TASKS {
            self.fail_turn(cx, "too_many_open", "the agent had too many things open at once and was stopped");
        }
        self.try_start(cx);
        self.review_slot(cx);
    }

    /// Marks the prompt as sent if an adopted agent answers the active turn: the earlier gateway process sent the
    /// prompt, though the journal has lost the turn's start.
    fn note_adopted_prompt(&mut self, cx: &Context, event: &AgentEvent) {
        let is_of_turn =
            matches!(event, AgentEvent::TurnEnded { .. }) || event.without_turn() != WithoutTurn::OfAgent;
        if is_of_turn && self.turns.agent_turn().is_none() && self.agent.is_adopted_for(self.turns.started())
        {
            self.turns.apply(cx.now.ticks_ms, TurnInput::Answered);
        }
    }

    /// Fails the turn of an agent that exceeds a limit, and kills the agent. Without a turn, a notice says so.
    fn fail_turn(&mut self, cx: &mut Context, code: &str, detail: &str) {
        let error = TurnError { code: code.into(), detail: detail.into() };
        let is_of_agent = self.turns.agent_turn().is_some();
        if !is_of_agent && self.turns.started().is_none() {
            self.log_agent_stopped(cx, NoticeLevel::Error, detail);
        }
        self.stop_agent(cx, true, Ending::new(Outcome::Failed, Some(error.clone())));
        if !is_of_agent {
            self.end_turn(cx, Outcome::Failed, Some(error));
        }
    }

    /// Logs an event whose names and ids are [`bounded`].
    fn record(&mut self, cx: &mut Context, draft: &mut Draft, event: AgentEvent) {
        match event {
            AgentEvent::Text { stream, text } => {
                self.delta(&cx.limits, draft, &stream, StreamKind::Answer, text);
            }
            AgentEvent::Reasoning { stream, text } => {
                self.delta(&cx.limits, draft, &stream, StreamKind::Reasoning, text);
            }
            AgentEvent::AgentTurnStarted { reason } => self.begin_agent_turn(cx, draft, reason, false),
            AgentEvent::AgentTurnEnded { outcome, error, usage, cost } => {
                self.end_agent_turn_into(cx, draft, Ending { outcome, error, usage, cost });
            }
            AgentEvent::Subagent { parent_call_id, event } => {
                let outer = draft.parent_call_id.replace(parent_call_id);
                self.record(cx, draft, *event);
                draft.parent_call_id = outer;
            }
            AgentEvent::TextEnd { stream, text, void, sources } => {
                self.text_end(cx, draft, &stream, text, (void, sources));
            }
            AgentEvent::ReasoningEnd { stream, void } => {
                self.turns.close_stream(&stream);
                self.push(draft, ChatBody::ReasoningEnd { stream_id: (*stream).into(), void });
            }
            AgentEvent::Message { text } if text.is_empty() => {}
            AgentEvent::Message { text } => {
                self.push(draft, ChatBody::Message { text, kind: None, tool_events: Vec::new() });
            }
            AgentEvent::Progress { text } => {
                let text = cut(text, cx.limits.event_text_bytes).0;
                let kind = Some(MessageKind::Progress);
                self.push(draft, ChatBody::Message { text, kind, tool_events: Vec::new() });
            }
            AgentEvent::Alive => {}
            AgentEvent::ToolStarted { call_id, name, input } => {
                let start = ToolUse::new(ToolPhase::Start, call_id, name);
                self.tool_use(cx, draft, start.with_input(Some(input)));
            }
            AgentEvent::ToolUpdated { call_id, name, input, output } => {
                let update = ToolUse { output, ..ToolUse::new(ToolPhase::Update, call_id, name) };
                self.tool_use(cx, draft, update.with_input(input));
            }
            AgentEvent::ToolEnded { call_id, name, result, truncated, media, sources } => {
                let end = ToolUse::ended(call_id, name, result);
                self.tool_use(cx, draft, ToolUse { truncated, media, sources, ..end });
            }
            AgentEvent::Task(task) => self.log_task(cx, draft, task),
            AgentEvent::FileEdit { edits } => self.file_edit(cx, draft, edits),
            AgentEvent::Permission(ask) => self.ask_permission(cx, draft, ask),
            AgentEvent::Question(question) => self.ask_question(cx, draft, question),
            AgentEvent::Withdrawn { request_id } => self.withdraw_request(cx, draft, &request_id),
            AgentEvent::Notice { level, code, text, data } => {
                let text = cut(text, cx.limits.event_text_bytes).0;
                self.push(draft, ChatBody::Notice { level, code, text, data });
            }
            AgentEvent::Model { name } => self.model(draft, name),
            AgentEvent::Session { token } => draft.changes.extend(self.agent.set_session(token)),
            AgentEvent::TurnEnded { outcome, error, usage, cost } => {
                // Before the prompt was sent, the agent can only have ended an earlier turn.
                if self.turns.prompted().is_some() {
                    self.end_user_turn_into(cx, draft, 0, Ending { outcome, error, usage, cost });
                }
            }
        }
    }

    /// The agent told its model.
    fn model(&mut self, draft: &mut Draft, model_name: String) {
        if self.profile.set_model(&model_name) {
            let chat_id = self.log.chat_id().clone();
            draft.effects.push(Effect::Fan(ControlEvent::RuntimeModelUpdated { chat_id, model_name }));
        }
    }

    fn push(&self, draft: &mut Draft, body: ChatBody) {
        draft.push(self.turns.current(), body);
    }

    /// Appends text to a stream. Adjacent pieces that arrived together are merged into one event, up to a limit, unless
    /// they are spooled: what arrived together before a restart may not do so after it.
    fn delta(
        &mut self,
        limits: &Limits,
        draft: &mut Draft,
        stream: &StreamId,
        kind: StreamKind,
        text: String,
    ) {
        if text.is_empty() {
            return;
        }
        self.turns.open_stream(stream, kind, draft.parent_call_id.as_ref(), draft.spooled);
        // A spooled piece gets the same numbers again after a restart, also under other limits.
        let most = if draft.spooled { PIECE_BYTES } else { limits.event_text_bytes };
        // JSON escapes a byte with at most six.
        if text.len() <= most / 6 {
            self.piece(limits, draft, stream, kind, text);
            return;
        }
        for piece in pieces(&text, most) {
            self.piece(limits, draft, stream, kind, String::from(piece));
        }
    }

    fn piece(&self, limits: &Limits, draft: &mut Draft, stream: &StreamId, kind: StreamKind, text: String) {
        if !draft.spooled && merged(limits, draft, stream, kind, &text) {
            return;
        }
        let stream_id = String::from(&**stream);
        let body = match kind {
            StreamKind::Answer => ChatBody::Delta { stream_id, text },
            StreamKind::Reasoning => ChatBody::ReasoningDelta { stream_id, text },
        };
        self.push(draft, body);
    }

    /// Logs changed files, in as many events as they need.
    fn file_edit(&self, cx: &Context, draft: &mut Draft, edits: Vec<FileEdit>) {
        let limit = cx.limits.event_text_bytes;
        let (mut fitting, mut size) = (Vec::new(), 0);
        for mut edit in edits {
            if edit.diff.as_ref().is_some_and(|diff| !is_short(diff, limit)) {
                edit.diff = None;
                edit.diff_truncated = true;
            }
            let texts = [&edit.call_id, &edit.tool, &edit.path].into_iter().chain(&edit.diff);
            let more = EDIT_BYTES + texts.map(|text| json_bytes(text)).sum::<usize>();
            if size + more > limit && !fitting.is_empty() {
                self.push(draft, ChatBody::FileEdit { edits: core::mem::take(&mut fitting) });
                size = 0;
            }
            size += more;
            fitting.push(edit);
        }
        if !fitting.is_empty() {
            self.push(draft, ChatBody::FileEdit { edits: fitting });
        }
    }

    fn text_end(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        stream: &StreamId,
        text: Option<String>,
        (void, sources): (bool, Vec<Source>),
    ) {
        let text = match text {
            Some(text) if !is_short(&text, cx.limits.event_text_bytes) => {
                self.delta(&cx.limits, draft, stream, StreamKind::Answer, text);
                None
            }
            text => text,
        };
        self.turns.close_stream(stream);
        self.push(draft, ChatBody::StreamEnd { stream_id: (**stream).into(), text, void, sources });
    }

    fn tool_use(&mut self, cx: &Context, draft: &mut Draft, mut event: ToolUse) {
        match event.phase {
            ToolPhase::Start => {
                let (call_id, name) = (event.call_id.clone(), event.name.clone());
                self.turns.open_tool(OpenTool {
                    call_id,
                    name,
                    parent_call_id: draft.parent_call_id.clone(),
                });
            }
            ToolPhase::Update => {}
            ToolPhase::End | ToolPhase::Error => {
                self.turns.close_tool(&event.call_id, draft.parent_call_id.as_ref());
                // A use that fails while its turn is being stopped fails because of that, as far as anybody can tell.
                event.stopped = event.phase == ToolPhase::Error && self.turns.kill_due_ms().is_some();
            }
        }
        event.bounded(cx.limits.event_text_bytes).log(draft, self.turns.current());
    }
}

/// Maximum size of the text of a spooled piece, in bytes of JSON. No limit of the configuration, because a piece that is
/// read again has to be cut in the same places.
const PIECE_BYTES: usize = 8 * 1024;

/// Makes a stream of a whole answer that is too long for one event. `id` is the id of the stream.
fn stream_long_message(limits: &Limits, event: &mut AgentEvent, id: impl FnOnce() -> StreamId) {
    if let AgentEvent::Subagent { event, .. } = event {
        stream_long_message(limits, event, id);
    } else if let AgentEvent::Message { text } = event
        && !is_short(text, limits.event_text_bytes)
    {
        let text = Some(core::mem::take(text));
        *event = AgentEvent::TextEnd { stream: id(), text, void: false, sources: Vec::new() };
    }
}

/// Merges a piece into the draft's last event if that is a delta of the same stream with room.
fn merged(limits: &Limits, draft: &mut Draft, stream: &StreamId, kind: StreamKind, piece: &str) -> bool {
    let Some((_, last)) = draft.events.last_mut() else { return false };
    let (
        (ChatBody::Delta { stream_id, text }, StreamKind::Answer)
        | (ChatBody::ReasoningDelta { stream_id, text }, StreamKind::Reasoning),
    ) = ((last, kind),)
    else {
        return false;
    };
    if **stream != **stream_id || text.len() + piece.len() > limits.merge_bytes {
        return false;
    }
    text.push_str(piece);
    true
}
