//! The output of the terminal client: the agent's answer on standard output, everything else on standard error.

use std::{collections::HashMap, io, io::IsTerminal};

use rustix::termios::{QueueSelector, tcflush};
use switchboard_core::{
    ids::{ChatId, TurnId},
    wire::{
        ChatBody, ChatEvent, FileEdit, MessageKind, NoticeLevel, Outcome, Resolution, Source, ToolMedia,
        ToolPhase, TurnError, TurnOrigin,
    },
};

use super::{
    answered::{Answered, RunningTurns},
    frames::Summary,
    session::{by_itself, task_line},
    subagents::{Subagents, about, summary},
    text::{safe, safe_line},
    tool_output::ToolOutputs,
};
use crate::console;

/// Characters of a tool's arguments that are printed.
const TOOL_CHARACTERS: usize = 120;
/// Characters of a notice that are printed.
const NOTICE_CHARACTERS: usize = 2_000;
/// The indentation of an agent's text. Text of this program is not indented.
const MARGIN: &str = "  ";
/// The indentation of what a subagent does.
const INNER_STEP_MARGIN: &str = "    ";
/// The indentation of a subagent's text.
const INNER_MARGIN: &str = "      ";
/// Characters of a source's title or address that are printed.
const SOURCE_CHARACTERS: usize = 200;
/// The start of a prompt, in inverse video. An agent cannot imitate it, since escapes in an agent's text are replaced.
const MARK: &str = "\x1b[7m ? \x1b[0m ";

/// The output: a terminal, or two pipes.
#[derive(Debug)]
pub(super) struct Screen {
    /// Whether standard input and output are terminals. If not, only turns of this client are printed.
    attended: bool,
    /// Whether the printed answer ends in a newline.
    fresh: bool,
    /// Whether a prompt is on the screen and the person has not written a line since.
    prompted: bool,
    chat: Printed,
}

/// What was printed of the chat, as far as it says how to print what follows.
#[derive(Debug, Default)]
struct Printed {
    /// Open streams whose text was received as deltas, by their names from [`stream_of`], with their turns.
    streamed: HashMap<String, Option<TurnId>>,
    last_stream: Option<String>,
    thinking: bool,
    subagents: Subagents,
    /// The tool use of the subagent whose events were printed last.
    inner: Option<String>,
    running: RunningTurns,
    outputs: ToolOutputs,
}

impl Screen {
    pub(super) fn new(attended: bool) -> Self {
        Self { attended, fresh: true, prompted: false, chat: Printed::default() }
    }

    /// Forgets what was printed of the chat, since another chat follows.
    pub(super) fn leave_chat(&mut self) {
        self.end_line();
        self.chat = Printed::default();
    }

    /// Prints a line about the connection or the program.
    pub(super) fn note(&mut self, text: &str) {
        self.end_line();
        console::note(&safe(text).replace('\n', "\n  "));
    }

    /// Prints a line that is of use to a person only.
    pub(super) fn aside(&mut self, text: &str) {
        if self.attended {
            self.end_line();
            console::note(&text.replace('\n', "\n  "));
        }
    }

    /// Whether a prompt is on the screen, or nobody would see one.
    pub(super) fn is_prompted(&self) -> bool {
        self.prompted || !self.attended
    }

    /// Prints a line about what the agent or a subagent does, that of a subagent indented.
    fn step(&mut self, text: &str) {
        let margin = if self.chat.inner.is_some() { INNER_STEP_MARGIN } else { "" };
        self.aside(&format!("{margin}{text}"));
    }

    /// Draws the prompt for a message.
    pub(super) fn prompt(&mut self) {
        if self.attended && !self.prompted {
            self.end_line();
            console::prompt("> ");
            self.prompted = true;
        }
    }

    /// Records that the person wrote a line, which ended the prompt's line on the screen.
    pub(super) fn entered(&mut self) {
        self.prompted = false;
    }

    pub(super) fn replaced(&mut self) {
        self.note("Some events were lost; what follows is the chat as it is now.");
        self.leave_chat();
    }

    /// Prints chats with what the page says of each. `open`: the chat on this screen.
    pub(super) fn list(&mut self, chats: &[Summary], open: Option<&ChatId>) {
        if chats.is_empty() {
            self.note("There are no chats yet.");
        }
        for chat in chats {
            let title = safe_line(chat.title.as_deref().unwrap_or("New chat"), 60);
            let here = if Some(&chat.chat_id) == open { "  (open here)" } else { "" };
            let running = match (chat.waiting, chat.running) {
                (true, _) => "  (waits for you)",
                (false, true) => "  (running)",
                (false, false) => "",
            };
            self.note(&format!("{}  {title}{here}{running}", chat.chat_id));
        }
    }

    /// Prints a page of a request. The prompt follows later.
    pub(super) fn draw_request(&mut self, rows: &[String]) {
        self.end_line();
        for row in rows {
            console::note(row);
        }
    }

    /// Draws the prompt of a request. Input still in the terminal's buffer was typed before the prompt and is dropped.
    pub(super) fn question(&mut self, prompt: &str) {
        self.end_line();
        if io::stdin().is_terminal() {
            // Without a terminal, the time at which a line was read decides.
            let _ = tcflush(io::stdin(), QueueSelector::IFlush);
        }
        self.redraw_question(prompt);
    }

    /// Draws the prompt of a request again, since other output has come below it. What was typed since stays.
    pub(super) fn redraw_question(&mut self, prompt: &str) {
        self.end_line();
        console::prompt(&format!("{MARK}{prompt}"));
        self.prompted = true;
    }

    /// Prints an event. `own`: the event belongs to a turn of this client. `permission`: how the request for the tool use
    /// was closed that the event ends.
    pub(super) fn print(&mut self, event: &ChatEvent, own: bool, permission: Option<Resolution>) {
        self.chat.subagents.note(event);
        self.chat.running.note(event, !self.attended && !own);
        if !self.attended && !own {
            if matches!(event.body, ChatBody::TurnEnd { .. }) {
                self.chat.running.end(event);
            }
            return;
        }
        // The answer of an agent that nobody watches has no text of subagents.
        if event.place.parent_call_id.is_some() && !self.attended {
            return;
        }
        self.chat.thinking &= matches!(event.body, ChatBody::ReasoningDelta { .. });
        self.enter(event);
        self.print_body(event, permission);
    }

    fn print_body(&mut self, event: &ChatEvent, permission: Option<Resolution>) {
        match &event.body {
            ChatBody::UserMessage { text, client_id, starts_turn, .. } => {
                let who = safe_line(client_id.as_deref().unwrap_or("somebody"), 40);
                // What follows goes on answering the message before.
                let queued = if *starts_turn { "" } else { ", queued" };
                self.aside(&format!("[{who}{queued}] {}", safe(text)));
            }
            ChatBody::Delta { stream_id, text } => {
                let stream = stream_of(event, stream_id);
                self.answer(&stream, text);
                self.chat.streamed.insert(stream, event.place.turn_id.clone());
            }
            ChatBody::StreamEnd { stream_id, text, void, sources } => {
                self.stream_end(&stream_of(event, stream_id), text.as_deref(), *void);
                self.sources(sources);
            }
            ChatBody::Message { text, kind: None, .. } => {
                self.answer("", text);
                self.end_line();
            }
            ChatBody::Message { text, kind: Some(MessageKind::Progress), .. } => {
                self.step(&format!("[{}]", safe_line(text, 200)));
            }
            ChatBody::Notice { level, text, .. } => self.notice(*level, text),
            ChatBody::ReasoningDelta { .. } => self.thinking(),
            ChatBody::TurnStarted { origin: TurnOrigin::Agent, reason, .. } => {
                self.aside(&format!("[{}]", by_itself(*reason)));
            }
            ChatBody::ToolEvent { .. } => self.tool(event, permission),
            ChatBody::FileEdit { edits } => self.edits(edits),
            ChatBody::Task(task) => self.aside(&task_line(task)),
            ChatBody::RequestResolved { resolution, .. } => self.resolved(*resolution),
            ChatBody::TurnEnd { outcome, error, .. } => self.turn_ended(event, *outcome, error.as_ref()),
            ChatBody::Message { kind: Some(MessageKind::ToolHint), .. }
            | ChatBody::TurnStarted { origin: TurnOrigin::User, .. }
            | ChatBody::ReasoningEnd { .. }
            | ChatBody::PermissionRequest(_)
            | ChatBody::Question(_)
            | ChatBody::GoalState { .. } => {}
        }
    }

    fn thinking(&mut self) {
        if !self.chat.thinking {
            self.chat.thinking = true;
            self.step("[thinking]");
        }
    }

    fn edits(&mut self, edits: &[FileEdit]) {
        for edit in edits {
            let path = safe_line(&edit.path, 200);
            self.step(&format!("[{path}: {} lines added, {} deleted]", edit.added, edit.deleted));
        }
    }

    fn resolved(&mut self, resolution: Resolution) {
        self.aside(match resolution {
            Resolution::Allowed => "[allowed]",
            Resolution::Denied => "[denied]",
            Resolution::Answered => "[answered]",
            Resolution::Withdrawn => "[no longer asked]",
            Resolution::TurnEnded => "[the turn ended before an answer]",
        });
    }

    /// Prints how a turn ended, and says so where the agent did not answer in it.
    fn turn_ended(&mut self, event: &ChatEvent, outcome: Outcome, error: Option<&TurnError>) {
        let answered = self.chat.running.end(event);
        match &answered {
            Answered::InItsOwnTurn(text) if !self.attended => self.answer("", text.trim_end_matches('\n')),
            Answered::InItsOwnTurn(_) => self.aside("[answered above, in what the agent did by itself]"),
            Answered::There | Answered::Nowhere => {}
        }
        self.chat.streamed.retain(|_, turn_id| *turn_id != event.place.turn_id);
        self.turn_end(outcome, error);
        if answered == Answered::Nowhere && outcome == Outcome::Completed {
            self.note("[ended without an answer]");
        }
    }

    /// Says whose text follows, where it is another one's than before: the agent's or a subagent's.
    fn enter(&mut self, event: &ChatEvent) {
        let inner = &event.place.parent_call_id;
        if *inner == self.chat.inner || matches!(event.body, ChatBody::Task(_)) {
            return;
        }
        self.end_line();
        self.chat.inner.clone_from(inner);
        if let Some(call_id) = inner {
            let name = self.chat.subagents.name(call_id).map(|name| format!(": {name}")).unwrap_or_default();
            self.aside(&format!("[subagent{name}]"));
        }
    }

    fn media(&mut self, name: &str, media: &[ToolMedia]) {
        for ToolMedia { media_type, bytes } in media {
            let kind = safe_line(media_type, TOOL_CHARACTERS);
            self.step(&format!("[{}: {kind}, {bytes} bytes]", safe_line(name, 80)));
        }
    }

    fn sources(&mut self, sources: &[Source]) {
        for Source { url, title } in sources {
            let url = safe_line(url, SOURCE_CHARACTERS);
            let title = title.as_ref().map(|title| format!("{}, ", safe_line(title, SOURCE_CHARACTERS)));
            self.step(&format!("[source: {}{url}]", title.unwrap_or_default()));
        }
    }

    /// Prints the end of a stream, and its text if no delta of it was printed.
    fn stream_end(&mut self, stream: &str, text: Option<&str>, void: bool) {
        let streamed = self.chat.streamed.remove(stream).is_some();
        if void {
            self.step("[the agent took that back]");
        } else if let Some(text) = text.filter(|_| !streamed) {
            self.answer(stream, text);
        }
        self.end_line();
    }

    fn notice(&mut self, level: NoticeLevel, text: &str) {
        let level = match level {
            NoticeLevel::Info => "note",
            NoticeLevel::Warning => "warning",
            NoticeLevel::Error => "error",
        };
        self.note(&format!("[{level}] {}", safe_line(text, NOTICE_CHARACTERS)));
    }

    /// Prints the outcome of a turn that was not completed.
    fn turn_end(&mut self, outcome: Outcome, error: Option<&TurnError>) {
        self.end_line();
        self.chat.last_stream = None;
        let what = match outcome {
            Outcome::Completed => return,
            Outcome::Cancelled => "Stopped",
            Outcome::Failed => "Failed",
            Outcome::Interrupted => "Interrupted",
        };
        let why = error.map(|error| format!(": {}", safe_line(&error.detail, 500)));
        self.note(&format!("{what}{}", why.unwrap_or_else(|| ".".into())));
    }

    /// Prints what an event says of a tool use. `event` is a `tool_event`.
    fn tool(&mut self, event: &ChatEvent, permission: Option<Resolution>) {
        let ChatBody::ToolEvent {
            phase,
            call_id,
            name,
            arguments,
            title,
            output,
            error,
            stopped,
            media,
            sources,
            ..
        } = &event.body
        else {
            return;
        };
        let name = safe_line(name, 80);
        match phase {
            ToolPhase::Start => {
                let about = about(title.as_deref(), &arguments.as_ref().map(summary).unwrap_or_default());
                self.step(&format!("[{name}] {}", safe_line(&about, TOOL_CHARACTERS)));
                self.chat.outputs.begin(call_id);
            }
            ToolPhase::Update => {
                let text = output.as_deref().unwrap_or_default();
                self.tool_output(call_id, &name, |outputs| outputs.piece(call_id, text));
            }
            ToolPhase::End => self.tool_output(call_id, &name, |outputs| outputs.end(call_id)),
            ToolPhase::Error => {
                self.tool_output(call_id, &name, |outputs| outputs.end(call_id));
                let error = safe_line(error.as_deref().unwrap_or("no reason given"), TOOL_CHARACTERS);
                let how = how_it_failed(permission, *stopped);
                self.step(&format!("[{name} {how}] {error}"));
            }
        }
        self.media(&name, media);
        self.sources(sources);
    }

    /// Prints lines of a tool's output, and names the tool use where another one was printed last.
    fn tool_output(&mut self, call_id: &str, name: &str, take: impl FnOnce(&mut ToolOutputs) -> Vec<String>) {
        if !self.attended {
            return;
        }
        let was_printed = self.chat.outputs.is_newest(call_id);
        let lines = take(&mut self.chat.outputs);
        if !was_printed && !lines.is_empty() {
            let about = self.chat.subagents.name(call_id).unwrap_or_default().to_owned();
            self.step(&format!("[{name} goes on] {about}"));
        }
        let margin = self.margin();
        for line in lines {
            self.aside(&format!("{margin}| {line}"));
        }
    }

    fn answer(&mut self, stream: &str, text: &str) {
        if self.chat.last_stream.as_deref() != Some(stream) {
            self.end_line();
            self.chat.last_stream = Some(stream.to_owned());
        }
        let text = safe(text);
        if !text.is_empty() {
            self.leave_prompt();
            let fresh = text.ends_with('\n');
            console::raw(&if self.attended { self.indented(&text) } else { text });
            self.fresh = fresh;
        }
    }

    fn indented(&self, text: &str) -> String {
        let (mut out, mut fresh) = (String::with_capacity(text.len()), self.fresh);
        for line in text.split_inclusive('\n') {
            if fresh {
                out.push_str(self.margin());
            }
            out.push_str(line);
            fresh = line.ends_with('\n');
        }
        out
    }

    fn margin(&self) -> &'static str {
        if self.chat.inner.is_some() { INNER_MARGIN } else { MARGIN }
    }

    fn leave_prompt(&mut self) {
        if self.prompted {
            self.prompted = false;
            console::note("");
        }
    }

    fn end_line(&mut self) {
        self.leave_prompt();
        if !self.fresh {
            self.fresh = true;
            console::raw("\n");
        }
    }
}

/// Why a tool use has no result, in the page's words. `permission`: how the request for the use was closed.
fn how_it_failed(permission: Option<Resolution>, stopped: bool) -> &'static str {
    match (permission, stopped) {
        (Some(Resolution::Denied), _) => "denied",
        (_, true) => "stopped",
        (Some(Resolution::Withdrawn | Resolution::TurnEnded), false) => "not run",
        (Some(Resolution::Allowed | Resolution::Answered) | None, false) => "failed",
    }
}

/// Names a stream of the chat. Two turns that run side by side may have streams with the same id.
fn stream_of(event: &ChatEvent, stream_id: &str) -> String {
    format!("{} {stream_id}", event.place.turn_id.as_ref().map(TurnId::as_str).unwrap_or_default())
}
