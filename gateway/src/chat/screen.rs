//! The output of the terminal client: the agent's answer on standard output, everything else on standard error.

use std::{collections::HashSet, io, io::IsTerminal};

use rustix::termios::{QueueSelector, tcflush};
use serde_json::Value;
use switchboard_core::wire::{
    ChatBody, ChatEvent, MessageKind, NoticeLevel, Outcome, Resolution, TaskStatus, ToolPhase, TurnError,
};

use super::{
    frames::Summary,
    text::{safe, safe_line},
};
use crate::console;

/// Characters of a tool's arguments that are printed.
const TOOL_CHARACTERS: usize = 120;
/// Characters of a notice that are printed.
const NOTICE_CHARACTERS: usize = 2_000;
/// The indentation of an agent's text. Text of this program is not indented.
const MARGIN: &str = "  ";
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
    /// Streams whose text was received as deltas.
    streamed: HashSet<String>,
    last_stream: Option<String>,
    thinking: bool,
}

impl Screen {
    pub(super) fn new(attended: bool) -> Self {
        Self {
            attended,
            fresh: true,
            prompted: false,
            streamed: HashSet::new(),
            last_stream: None,
            thinking: false,
        }
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
        self.streamed.clear();
    }

    pub(super) fn list(&mut self, chats: &[Summary]) {
        if chats.is_empty() {
            self.note("There are no chats yet.");
        }
        for chat in chats {
            let title = safe_line(chat.title.as_deref().unwrap_or("(no title)"), 60);
            let running = if chat.running { "  (running)" } else { "" };
            self.note(&format!("{}  {title}{running}", chat.chat_id));
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
        console::prompt(&format!("{MARK}{prompt}"));
        self.prompted = true;
    }

    /// Prints an event. `own`: the event belongs to a turn of this client.
    pub(super) fn print(&mut self, event: &ChatEvent, own: bool) {
        if !self.attended && !own {
            return;
        }
        if self.thinking && !matches!(event.body, ChatBody::ReasoningDelta { .. }) {
            self.thinking = false;
        }
        match &event.body {
            ChatBody::UserMessage { text, client_id, .. } => {
                let who = client_id.as_deref().unwrap_or("somebody");
                self.aside(&format!("[{}] {}", safe_line(who, 40), safe(text)));
            }
            ChatBody::Delta { stream_id, text } => {
                self.streamed.insert(stream_id.clone());
                self.answer(stream_id, text);
            }
            ChatBody::StreamEnd { stream_id, text, void, .. } => {
                self.stream_end(stream_id, text.as_deref(), *void);
            }
            ChatBody::Message { text, kind: None, .. } => {
                self.answer("", text);
                self.end_line();
            }
            ChatBody::Message { text, kind: Some(MessageKind::Progress), .. } => {
                self.aside(&format!("[{}]", safe_line(text, 200)));
            }
            ChatBody::Notice { level, text, .. } => self.notice(*level, text),
            ChatBody::ReasoningDelta { .. } => {
                if !self.thinking {
                    self.thinking = true;
                    self.aside("[thinking]");
                }
            }
            ChatBody::ToolEvent { phase, name, arguments, error, .. } => {
                self.tool(*phase, name, arguments.as_ref(), error.as_deref());
            }
            ChatBody::FileEdit { edits } => {
                for edit in edits {
                    let path = safe_line(&edit.path, 200);
                    self.aside(&format!("[{path}: {} lines added, {} deleted]", edit.added, edit.deleted));
                }
            }
            ChatBody::Task(task) => {
                let status = match task.status {
                    TaskStatus::Running => "runs in the background",
                    TaskStatus::Completed => "is done",
                    TaskStatus::Failed => "failed",
                    TaskStatus::Stopped => "was stopped",
                };
                self.aside(&format!("[{} {status}]", safe_line(&task.title, TOOL_CHARACTERS)));
            }
            ChatBody::RequestResolved { resolution, .. } => self.aside(match resolution {
                Resolution::Allowed => "[allowed]",
                Resolution::Denied => "[denied]",
                Resolution::Answered => "[answered]",
                Resolution::Withdrawn => "[no longer asked]",
                Resolution::TurnEnded => "[the turn ended before an answer]",
            }),
            ChatBody::TurnEnd { outcome, error, .. } => self.turn_end(*outcome, error.as_ref()),
            ChatBody::Message { kind: Some(MessageKind::ToolHint), .. }
            | ChatBody::TurnStarted { .. }
            | ChatBody::ReasoningEnd { .. }
            | ChatBody::PermissionRequest(_)
            | ChatBody::Question(_)
            | ChatBody::GoalState { .. } => {}
        }
    }

    /// Prints the end of a stream, and its text if no delta of it was printed.
    fn stream_end(&mut self, stream: &str, text: Option<&str>, void: bool) {
        if void {
            self.aside("[the agent took that back]");
        } else if let Some(text) = text.filter(|_| !self.streamed.contains(stream)) {
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
        self.streamed.clear();
        self.last_stream = None;
        let what = match outcome {
            Outcome::Completed => return,
            Outcome::Cancelled => "Stopped",
            Outcome::Failed => "Failed",
            Outcome::Interrupted => "Interrupted",
        };
        let why = error.map(|error| format!(": {}", safe_line(&error.detail, 500)));
        self.note(&format!("{what}{}", why.unwrap_or_else(|| ".".into())));
    }

    fn tool(&mut self, phase: ToolPhase, name: &str, arguments: Option<&Value>, error: Option<&str>) {
        let name = safe_line(name, 80);
        match phase {
            ToolPhase::Start => {
                let arguments = arguments.map(summary).unwrap_or_default();
                self.aside(&format!("[{name}] {}", safe_line(&arguments, TOOL_CHARACTERS)));
            }
            ToolPhase::Error => {
                let error = safe_line(error.unwrap_or("no reason given"), TOOL_CHARACTERS);
                self.aside(&format!("[{name} failed] {error}"));
            }
            ToolPhase::Update | ToolPhase::End => {}
        }
    }

    fn answer(&mut self, stream: &str, text: &str) {
        if self.last_stream.as_deref() != Some(stream) {
            self.end_line();
            self.last_stream = Some(stream.to_owned());
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
                out.push_str(MARGIN);
            }
            out.push_str(line);
            fresh = line.ends_with('\n');
        }
        out
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

/// A tool's arguments in short: the most telling text argument, or all arguments as JSON.
fn summary(arguments: &Value) -> String {
    let telling = ["command", "file_path", "path", "pattern", "url", "query", "description"];
    let found = telling.iter().find_map(|name| arguments.get(name)?.as_str());
    found.map_or_else(|| arguments.to_string(), str::to_owned)
}
