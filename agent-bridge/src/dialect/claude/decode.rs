//! Decodes the agent's lines to events.

use std::borrow::Cow;

use serde_json::value::RawValue;
use switchboard_core::{agent::AgentEvent, wire::TurnReason};

use super::{
    blocks::{MessageEnd, OpenMessage, Opened},
    lines::{self, HalvedPiece},
    media::Content,
    piece::piece,
    records::{Abandoned, ApiRetry, Block, ControlResponse, Delta, Line, StreamEvent, parse},
    state::{ClaudeCodec, changed},
    texts::MessageKey,
    tools::UsedIn,
};
use crate::dialect::Decoded;

impl ClaudeCodec {
    /// Decodes one line, without its newline. `position` is the line's number or offset; it must grow from call to
    /// call.
    ///
    /// Never fails: a line that is not JSON gives no event, and a line of an unknown type gives [`AgentEvent::Alive`].
    pub(super) fn decode_line(&mut self, position: u64, line: &[u8], out: &mut Decoded) {
        let text = match std::str::from_utf8(line) {
            Ok(text) => Cow::Borrowed(text.trim()),
            Err(_) => Cow::Owned(String::from_utf8_lossy(line).trim().to_owned()),
        };
        if let Some((index, delta)) = piece(&text) {
            return self.work(true, false, out, |codec, out| codec.delta(None, index, &delta, out));
        }
        let mut text = text;
        if lines::has_surrogate(&text) {
            if let Some(piece) = HalvedPiece::read(&text) {
                return self.halved(&piece, out);
            }
            text = lines::without_halves(&text).into();
        }
        // A struct could also be read from a list.
        if text.starts_with('{')
            && let Ok(line) = serde_json::from_str::<Line<'_>>(&text)
        {
            return self.line(position, 0, &text, &line, out);
        }
        for (nth, object) in lines::objects(&text).into_iter().enumerate() {
            if let Ok(line) = serde_json::from_str::<Line<'_>>(object) {
                self.line(position, nth, object, &line, out);
            } else {
                self.unreadable(object, out);
            }
        }
    }

    /// An id for what the `nth` object of the line at `position` begins.
    pub(super) fn id(&self, position: u64, nth: usize) -> String {
        let nth = if nth == 0 { String::new() } else { format!(".{nth}") };
        format!("{}{position}{nth}", self.state.prefix)
    }

    /// Handles the `nth` object of the line at `position`.
    pub(super) fn line(&mut self, position: u64, nth: usize, text: &str, line: &Line<'_>, out: &mut Decoded) {
        self.listed_work_begins(line.subtype.as_deref(), out);
        let parent = line.subagent();
        if line.kind == "control_request" {
            self.at_work(parent.is_none(), out);
        }
        if let Some(parent) = parent {
            return self.subagent_line(parent, out, |codec, out| match &*line.kind {
                "stream_event" => codec.stream_event(position, nth, line, out),
                "assistant" => codec.assistant(position, nth, line, out),
                _ => codec.user(line, out),
            });
        }
        match &*line.kind {
            "stream_event" => self.stream_event(position, nth, line, out),
            "assistant" => self.assistant(position, nth, line, out),
            "user" if line.is_replay == Some(true) => self.replayed(line, out),
            "user" => self.user(line, out),
            "system" => self.system(text, line, out),
            "rate_limit_event" | "conversation_reset" => self.notice_line(&line.kind, text, out),
            "result" => self.turn_result(&serde_json::from_str(text).unwrap_or_default(), None, out),
            "control_request" => self.control_request(position, nth, line, out),
            "control_cancel_request" => self.withdrawn(line.request_id.as_deref().unwrap_or_default(), out),
            "control_response" => self.control_response(line.response, out),
            "command_lifecycle" => self.lifecycle(line, out),
            _ => out.alive(),
        }
    }

    fn stream_event(&mut self, position: u64, nth: usize, line: &Line<'_>, out: &mut Decoded) {
        let Some(event) = parse::<StreamEvent<'_>>(line.event) else { return out.alive() };
        let texts = &self.state.output.texts;
        let begins = event.message.as_ref().filter(|_| event.kind == "message_start");
        let is_new = begins.is_some_and(|message| !texts.may_repeat(MessageKey::of(&message.id)));
        self.work(line.subagent().is_none(), is_new, out, |codec, out| {
            codec.stream_event_at_work(position, nth, line, event, out);
        });
    }

    fn stream_event_at_work(
        &mut self,
        position: u64,
        nth: usize,
        line: &Line<'_>,
        event: StreamEvent<'_>,
        out: &mut Decoded,
    ) {
        let parent = line.parent_tool_use_id.as_deref();
        let index = event.index.unwrap_or_default();
        match &*event.kind {
            "message_start" => {
                if parent.is_none() {
                    self.interrupt_again(out);
                }
                // The agent gave up a message that it did not stop, and asks the model again.
                self.finish_message(MessageEnd::Restarted, parent, out);
                let id = event.message.map(|message| message.id).unwrap_or_default();
                self.state.output.message = Some(OpenMessage::new(&id));
                out.alive();
            }
            "content_block_start" => {
                let Some(block) = event.content_block else { return };
                let tool = block.id.as_deref().zip(block.name.as_deref());
                let stream = self.id(position, nth).into();
                let output = &mut self.state.output;
                let message = output.message.get_or_insert_default();
                let cites = block.citations.is_some();
                let opened = Opened { index, kind: &block.kind, tool, stream, cites };
                message.open(opened, &mut output.texts, &mut out.events);
                self.server_result(parent, &block, out);
                let first = Delta {
                    text: block.text.clone().unwrap_or_default(),
                    thinking: block.thinking.clone().unwrap_or_default(),
                    ..Delta::default()
                };
                self.delta(parent, index, &first, out);
            }
            "content_block_delta" => self.delta(parent, index, &event.delta.unwrap_or_default(), out),
            "content_block_stop" => {
                let output = &mut self.state.output;
                let texts = &mut output.texts;
                let tool =
                    output.message.as_mut().and_then(|message| message.stop(index, texts, &mut out.events));
                if let Some(tool) = tool {
                    let message = self.message_id();
                    let place = UsedIn { parent, message: &message };
                    self.tool_started(place, &tool.id, &tool.name, tool.input, out);
                }
            }
            "message_stop" => {
                let ours = self.state.output.message.as_ref().map(|message| message.id.as_str());
                let abandoned = parse::<Abandoned<'_>>(line.abandoned_blocks).filter(|abandoned| {
                    abandoned.api_message_id.is_none() || abandoned.api_message_id.as_deref() == ours
                });
                let end = abandoned.map_or(MessageEnd::Stands, |abandoned| {
                    MessageEnd::AbandonedFrom(abandoned.from_block_index)
                });
                self.finish_message(end, parent, out);
            }
            _ => out.alive(),
        }
    }

    /// Handles a piece that may begin or end with half a character.
    fn halved(&mut self, piece: &HalvedPiece<'_>, out: &mut Decoded) {
        if let Some(parent) = &piece.subagent {
            return self.subagent_line(parent, out, |codec, out| {
                codec.work(false, false, out, |codec, out| codec.halved_piece(piece, out));
            });
        }
        self.work(true, false, out, |codec, out| codec.halved_piece(piece, out));
    }

    fn halved_piece(&mut self, piece: &HalvedPiece<'_>, out: &mut Decoded) {
        let before = self.state.output.message.as_mut().and_then(|message| message.half(piece.index)?.take());
        let (delta, left) = piece.joined(before);
        self.delta(piece.subagent.as_deref(), piece.index, &delta, out);
        if let Some(half) = self.state.output.message.as_mut().and_then(|message| message.half(piece.index)) {
            *half = left;
        }
    }

    fn delta(&mut self, parent: Option<&str>, index: u64, delta: &Delta<'_>, out: &mut Decoded) {
        let output = &mut self.state.output;
        if let Some(message) = &mut output.message {
            message.add(index, delta, &output.texts, &mut out.events);
            if let Some(tool) = message.grown(index) {
                let message = self.message_id();
                self.tool_input_grew(UsedIn { parent, message: &message }, tool, out);
            }
        }
        out.alive();
    }

    /// The id of the message that is open. Empty if there is none.
    fn message_id(&self) -> String {
        self.state.output.message.as_ref().map(|message| message.id.clone()).unwrap_or_default()
    }

    /// Ends the message that is open, if there is one.
    pub(super) fn finish_message(&mut self, end: MessageEnd, parent: Option<&str>, out: &mut Decoded) {
        let from = out.events.len();
        if let Some(mut citing) = self.state.output.citing.take() {
            citing.end_text(&mut out.events);
        }
        if let Some(message) = self.state.output.message.take() {
            let unfinished: Vec<String> = message.void_tools(end).map(Into::into).collect();
            let id = message.id.clone();
            message.finish(end, &mut self.state.output.texts, &mut out.events);
            self.unfinished_uses_end(UsedIn { parent, message: &id }, &unfinished, out);
        }
        self.note_speech(from, out);
    }

    /// Notes whether the events from index `from` on have text.
    fn note_speech(&mut self, from: usize, out: &Decoded) {
        let is_text = |event: &AgentEvent| {
            matches!(
                event,
                AgentEvent::Text { .. }
                    | AgentEvent::Message { .. }
                    | AgentEvent::TextEnd { text: Some(_), .. }
            )
        };
        self.state.output.spoke |= out.events[from..].iter().any(is_text);
    }

    /// Handles a record of work with `handle`. The record belongs to the turn that runs. If none runs, a turn begins with
    /// a record that is new, and with any that has something to send: what repeats earlier records begins no turn.
    pub(super) fn work(
        &mut self,
        main: bool,
        is_new: bool,
        out: &mut Decoded,
        handle: impl FnOnce(&mut Self, &mut Decoded),
    ) {
        let runs = self.state.agent_turn.is_some() || self.has_begun(|_| true);
        if is_new && !runs {
            self.state.output.texts.pass();
        }
        if is_new || runs {
            self.at_work(main, out);
        }
        let from = out.events.len();
        handle(self, out);
        self.note_speech(from, out);
        if !is_new && !runs && out.events[from..].iter().any(|event| !matches!(event, AgentEvent::Alive)) {
            let sent = out.events.split_off(from);
            self.at_work(main, out);
            out.events.extend(sent);
        }
    }

    /// Handles the result of a tool that the model's server runs, if `block` is one.
    pub(super) fn server_result(&mut self, parent: Option<&str>, block: &Block<'_>, out: &mut Decoded) {
        if let Some(id) = block.tool_use_id.as_deref().filter(|_| block.kind.ends_with("_tool_result")) {
            let (content, failed) = Content::of_server(block.content);
            self.tool_ended(
                UsedIn { parent, message: "" },
                id,
                content,
                failed || block.is_error == Some(true),
                out,
            );
        }
        out.alive();
    }

    fn system(&mut self, text: &str, line: &Line<'_>, out: &mut Decoded) {
        match line.subtype.as_deref().unwrap_or_default() {
            "init" => {
                self.turn_begins(line, out);
                self.interrupt_again(out);
                changed(&mut self.state.session, line.session_id.as_deref(), |token| {
                    out.events.push(AgentEvent::Session { token });
                });
                changed(&mut self.state.model, line.model.as_deref(), |name| {
                    out.events.push(AgentEvent::Model { name });
                });
                out.alive();
            }
            "status" => {
                self.interrupt_again(out);
                self.notice_line("status", text, out);
            }
            "api_retry" => {
                let retry: ApiRetry = serde_json::from_str(text).unwrap_or_default();
                out.events.push(AgentEvent::Progress { text: retry_text(&retry) });
            }
            hook @ ("hook_started" | "hook_response") => {
                if self.state.turn.is_none() {
                    self.state.cause.get_or_insert(TurnReason::Hook);
                }
                self.notice_line(hook, text, out);
            }
            _ if self.task_line(text, line, out) => {}
            other => self.notice_line(other, text, out),
        }
    }

    fn control_response(&mut self, response: Option<&RawValue>, out: &mut Decoded) {
        let Some(response) = parse::<ControlResponse<'_>>(response) else { return out.alive() };
        if response.request_id == super::encode::INITIALIZE {
            out.ready = response.subtype == "success";
        } else if response.request_id.starts_with(super::encode::CANCEL) {
            self.interrupted(out);
            let receipt = response.response.unwrap_or_default();
            self.interrupt_answered(!receipt.still_queued.is_empty(), out);
        } else if let Some(uuid) = response.request_id.strip_prefix(super::encode::TAKE_BACK) {
            let receipt = response.response.unwrap_or_default();
            self.take_back_answered(uuid, receipt.cancelled, out);
        }
        out.alive();
    }
}

fn retry_text(retry: &ApiRetry) -> String {
    let why = match retry.error_status {
        Some(529) => "The model is overloaded".into(),
        Some(429) => "The model's rate limit is reached".into(),
        Some(status) => format!("The model answered with error {status}"),
        None => "The model could not be reached".into(),
    };
    let seconds = (retry.retry_delay_ms / 1000.0).clamp(0.0, 86_400.0);
    format!("{why}. Retry {} of {} in {seconds:.1} s.", retry.attempt, retry.max_retries)
}
