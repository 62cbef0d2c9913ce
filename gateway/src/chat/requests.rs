//! Open permission requests and questions, asked one after the other. A line answers a request only if it was read
//! after the request's prompt, and if the whole request was drawn.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use switchboard_core::ids::{ChatId, RequestId, TurnId};

pub(super) use self::asker::Asker;
use self::item::Item;
use super::{sheet::Sheet, text::safe_line};

mod asker;
mod item;
mod stopping;

/// Longest input that is fetched for the screen, in bytes.
const INPUT: usize = 8 * 1024 * 1024;

/// Characters of a chosen answer that are repeated on the screen.
const CHOSEN: usize = 80;

const TOO_EARLY: &str = "Not taken as an answer: it was written before all of the question was there to be read. Nothing was answered.";
const UNSEEN: &str =
    "Only a part of it can be shown here, so it cannot be allowed here. Write n, or why not.";

/// An open request of the agent.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Permission(Box<Permission>),
    Question(Question),
}

/// A permission request. The input keeps its original text, including the order of its fields.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Permission {
    request_id: RequestId,
    #[serde(default)]
    turn_id: Option<TurnId>,
    tool: String,
    input: Box<RawValue>,
    #[serde(default)]
    input_sha256: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    description_truncated: bool,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    raw: bool,
    #[serde(skip)]
    asker: Asker,
}

impl Permission {
    /// Whether the event does not contain the whole input of the tool.
    fn is_partial(&self) -> bool {
        self.truncated || self.raw
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Question {
    request_id: RequestId,
    #[serde(default)]
    turn_id: Option<TurnId>,
    questions: Vec<Item>,
    #[serde(skip)]
    asker: Asker,
}

impl Request {
    fn id(&self) -> &RequestId {
        match self {
            Self::Permission(request) => &request.request_id,
            Self::Question(question) => &question.request_id,
        }
    }

    pub(super) fn set_asker(&mut self, asker: Asker) {
        match self {
            Self::Permission(request) => request.asker = asker,
            Self::Question(question) => question.asker = asker,
        }
    }

    pub(super) fn turn_id(&self) -> Option<&TurnId> {
        match self {
            Self::Permission(request) => request.turn_id.as_ref(),
            Self::Question(question) => question.turn_id.as_ref(),
        }
    }
}

/// A page of the whole input of a permission request. `offset` and `next` are in bytes.
#[derive(Debug, Deserialize)]
pub(super) struct InputPage {
    pub(super) chat_id: ChatId,
    pub(super) request_id: RequestId,
    pub(super) offset: u64,
    pub(super) text: String,
    #[serde(default)]
    pub(super) next: Option<u64>,
}

/// An answer as it is sent to the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub(super) enum Reply {
    Allow {
        #[serde(skip_serializing_if = "Option::is_none")]
        input_sha256: Option<String>,
    },
    Deny {
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    Answer {
        answers: BTreeMap<String, Vec<String>>,
    },
}

/// An action for the session to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Draw these rows; after the arming delay, draw [`Requests::prompt`].
    Draw(Vec<String>),
    /// Draw this prompt again.
    Prompt(String),
    Say(String),
    /// Fetch the whole input of this request, from this byte offset on.
    Fetch(RequestId, u64),
    Send(RequestId, Reply),
}

/// The open requests; the first one is on the screen.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: VecDeque<Request>,
    /// Requests that were answered on this connection, before the gateway has resolved the request or refused the
    /// answer.
    sent: Vec<Request>,
    /// Requests that were answered on an earlier connection. The replay shows whether the answers arrived.
    doubtful: Vec<Request>,
    /// Requests of cancelled turns: still open at the gateway, but no longer asked here.
    stopped: Vec<Request>,
    stopping: Vec<TurnId>,
    /// Index of the question on the screen, within the first request.
    question: usize,
    /// Answers to earlier questions of the first request.
    answers: BTreeMap<String, Vec<String>>,
    /// The rows to draw of the first request.
    sheet: Sheet,
    /// The part of the first request's whole input that was fetched so far; `None` if no fetch is in progress.
    fetched: Option<String>,
    /// Whether the rows contain less than the whole input, so that the request cannot be allowed here.
    unseen: bool,
    /// When the prompt was drawn; lines read earlier are not taken as answers. `None` if there is no prompt.
    prompted: Option<Instant>,
    steps: VecDeque<Step>,
}

impl Requests {
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn asks_permission(&self) -> bool {
        matches!(self.open.front(), Some(Request::Permission(_)))
    }

    pub(super) fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Adds a request that the gateway has opened.
    pub(super) fn opened(&mut self, request: Request) {
        let known = [&self.sent, &self.doubtful, &self.stopped].into_iter().flatten().chain(&self.open);
        if known.into_iter().any(|known| known.id() == request.id()) {
            return;
        }
        if request.turn_id().is_some_and(|turn_id| self.stopping.contains(turn_id)) {
            return self.stopped.push(request);
        }
        self.open.push_back(request);
        if self.open.len() == 1 {
            self.begin();
        }
    }

    /// Removes a request that was resolved, by this or another client or by the gateway.
    pub(super) fn resolved(&mut self, id: &RequestId) {
        self.sent.retain(|sent| sent.id() != id);
        self.doubtful.retain(|sent| sent.id() != id);
        self.stopped.retain(|stopped| stopped.id() != id);
        let Some(index) = self.open.iter().position(|open| open.id() == id) else { return };
        self.open.remove(index);
        if index == 0 {
            self.begin();
        }
    }

    /// Asks a request again whose answer the gateway has refused.
    pub(super) fn refused(&mut self, id: &RequestId, why: &str) {
        let Some(index) = self.sent.iter().position(|sent| sent.id() == id) else { return self.say(why) };
        let request = self.sent.remove(index);
        self.say(&format!("Not taken: {why} It is asked again."));
        self.open.push_front(request);
        self.begin();
    }

    /// Handles a new connection: the replay on it shows which answers arrived.
    pub(super) fn reconnected(&mut self) {
        self.doubtful.append(&mut self.sent);
    }

    /// Handles the end of the replay: requests that it did not resolve are still open, and their answers were lost.
    pub(super) fn replayed(&mut self) {
        if self.doubtful.is_empty() {
            return;
        }
        self.say("The connection was lost before an answer arrived. It is asked again.");
        for request in self.doubtful.drain(..).rev() {
            self.open.push_front(request);
        }
        self.begin();
    }

    /// Begins to ask the first request.
    fn begin(&mut self) {
        self.question = 0;
        self.answers.clear();
        self.begin_part();
    }

    /// Draws the permission or the current question of the first request, after fetching the whole input if necessary.
    fn begin_part(&mut self) {
        self.prompted = None;
        self.fetched = None;
        self.unseen = false;
        let Some(first) = self.open.front() else { return };
        match first {
            Request::Permission(request) if request.is_partial() && request.input_sha256.is_some() => {
                self.fetched = Some(String::new());
                self.steps.push_back(Step::Fetch(request.request_id.clone(), 0));
            }
            Request::Permission(request) => {
                self.unseen = request.is_partial();
                let input = as_text(&request.input, request.raw);
                self.sheet = permission(request, &input, self.unseen);
                self.draw();
            }
            Request::Question(question) => {
                let Some(item) = question.questions.get(self.question) else { return };
                self.sheet = item.sheet(&question.asker, self.question + 1, question.questions.len());
                self.draw();
            }
        }
    }

    fn draw(&mut self) {
        self.prompted = None;
        self.steps.push_back(Step::Draw(self.sheet.turn()));
    }

    /// Handles a page of the whole input, and fetches the next page or draws the input.
    pub(super) fn page(&mut self, page: &InputPage) {
        let Some(Request::Permission(request)) = self.open.front() else { return };
        let Some(text) = self.fetched.as_mut().filter(|_| request.request_id == page.request_id) else {
            return;
        };
        if page.offset != text.len() as u64 {
            return;
        }
        text.push_str(&page.text);
        match page.next {
            Some(next) if next == text.len() as u64 && !page.text.is_empty() && text.len() <= INPUT => {
                self.steps.push_back(Step::Fetch(request.request_id.clone(), next));
            }
            None if request.input_sha256.as_deref() == Some(&*sha256(text)) => {
                self.sheet = permission(request, text, false);
                self.fetched = None;
                self.draw();
            }
            Some(_) | None => self.fetch_failed(),
        }
    }

    /// Draws the part of the input in the event, since the whole input cannot be fetched.
    pub(super) fn fetch_failed(&mut self) {
        let Some(Request::Permission(request)) = self.open.front() else { return };
        if self.fetched.take().is_some() {
            self.unseen = true;
            self.sheet = permission(request, &as_text(&request.input, request.raw), true);
            self.draw();
        }
    }

    pub(super) fn is_fetching(&self) -> bool {
        self.fetched.is_some()
    }

    /// Whether the input of this request is being fetched.
    pub(super) fn is_fetching_for(&self, id: &RequestId) -> bool {
        self.is_fetching() && self.open.front().is_some_and(|first| first.id() == id)
    }

    /// Continues a fetch on a new connection.
    pub(super) fn resume(&mut self) {
        if let (Some(text), Some(first)) = (&self.fetched, self.open.front()) {
            self.steps.push_back(Step::Fetch(first.id().clone(), text.len() as u64));
        }
    }

    /// The prompt for the first request, once the arming delay is over.
    pub(super) fn prompt(&self) -> Option<String> {
        if self.is_fetching() {
            return None;
        }
        let (rows, bytes) = self.sheet.hidden();
        let next = match self.sheet.next_page() {
            next if next < rows => format!("the next {next}"),
            _ => "them".to_owned(),
        };
        let more = format!("{rows} more lines ({bytes} bytes) are hidden; s shows {next}");
        Some(match self.open.front()? {
            Request::Permission(_) if rows > 0 => format!("{more}, n or why not denies: "),
            Request::Permission(_) if self.unseen => "It cannot be allowed here. n, or why not: ".to_owned(),
            Request::Permission(_) => "Allow it this once? y, n, or why not: ".to_owned(),
            Request::Question(_) if rows > 0 => format!("{more}, /decline gives no answer: "),
            Request::Question(question) => question.questions.get(self.question)?.prompt(),
        })
    }

    /// The prompt that was drawn for the first request and still waits for an answer.
    pub(super) fn drawn_prompt(&self) -> Option<String> {
        self.prompted.and_then(|_| self.prompt())
    }

    /// Draws the prompt again, since other output has appeared below it.
    pub(super) fn interrupted(&mut self) {
        if self.prompted.is_some() {
            self.reprompt();
        }
    }

    /// Records when the prompt was drawn.
    pub(super) fn prompted(&mut self, now: Instant) {
        self.prompted = Some(now);
    }

    /// Denies the first request, even if not all of it was drawn.
    pub(super) fn decline(&mut self, message: Option<String>, read: Instant) {
        let Some(first) = self.open.front() else { return self.say("Nothing is asked.") };
        match self.prompted {
            None => return self.say(TOO_EARLY),
            Some(since) if read < since => return self.again(TOO_EARLY),
            Some(_) => {}
        }
        self.steps.push_back(Step::Send(first.id().clone(), Reply::Deny { message }));
        self.sent.extend(self.open.pop_front());
        self.begin();
    }

    /// Handles a line, read at `read`, as an answer to the first request.
    pub(super) fn answer(&mut self, line: &str, read: Instant) {
        match self.prompted {
            None => return self.say(TOO_EARLY),
            Some(since) if read < since => return self.again(TOO_EARLY),
            Some(_) => {}
        }
        let line = line.trim();
        let word = line.to_ascii_lowercase();
        let (rows, bytes) = self.sheet.hidden();
        let Some(first) = self.open.front() else { return };
        let reply = match first {
            Request::Permission(_) if matches!(&*word, "s" | "show") => return self.draw(),
            Request::Question(_) if rows > 0 && matches!(&*word, "s" | "show") => return self.draw(),
            Request::Permission(_) if line.is_empty() => return self.reprompt(),
            Request::Permission(request) => match &*word {
                "y" | "yes" if rows > 0 => return self.again(&not_yet(rows, bytes)),
                "y" | "yes" if self.unseen => return self.again(UNSEEN),
                "y" | "yes" => {
                    let hash = request.input_sha256.clone().filter(|_| request.is_partial());
                    Reply::Allow { input_sha256: hash }
                }
                "n" | "no" => Reply::Deny { message: None },
                _ => Reply::Deny { message: Some(line.to_owned()) },
            },
            Request::Question(_) if rows > 0 => return self.again(&not_yet(rows, bytes)),
            Request::Question(question) => {
                let Some(item) = question.questions.get(self.question) else { return };
                match item.choice(line) {
                    Ok(Some(chosen)) => {
                        // Repeats the option that a number stood for.
                        if chosen != [line] {
                            self.steps.push_back(Step::Say(format!("Chosen: {}", listed(&chosen))));
                        }
                        self.answers.insert(item.question.clone(), chosen);
                    }
                    Ok(None) => {}
                    Err(why) => return self.again(&why),
                }
                self.question += 1;
                if self.question < question.questions.len() {
                    return self.begin_part();
                }
                Reply::Answer { answers: std::mem::take(&mut self.answers) }
            }
        };
        self.steps.push_back(Step::Send(first.id().clone(), reply));
        self.sent.extend(self.open.pop_front());
        self.begin();
    }

    fn say(&mut self, text: &str) {
        self.steps.push_back(Step::Say(text.to_owned()));
    }

    fn again(&mut self, text: &str) {
        self.say(text);
        self.reprompt();
    }

    fn reprompt(&mut self) {
        self.steps.extend(self.prompt().map(Step::Prompt));
    }
}

fn not_yet(rows: usize, bytes: usize) -> String {
    format!(
        "Not yet: {rows} lines ({bytes} bytes) of it were not shown. Write s to see them; then it can be answered."
    )
}

fn listed(chosen: &[String]) -> String {
    let all: Vec<String> = chosen.iter().map(|each| format!("\"{}\"", safe_line(each, CHOSEN))).collect();
    all.join(", ")
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of the input. With `raw`, the event contains the input as a JSON string.
fn as_text(input: &RawValue, raw: bool) -> String {
    let text = raw.then(|| serde_json::from_str(input.get()).ok()).flatten();
    text.unwrap_or_else(|| input.get().to_owned())
}

fn permission(request: &Permission, input: &str, cut: bool) -> Sheet {
    let mut sheet = Sheet::default();
    request.asker.introduce(&mut sheet);
    sheet.say("The agent asks for leave to use a tool:");
    sheet.code("", &request.tool);
    sheet.say("with:");
    sheet.input(input);
    if cut {
        sheet.say("(This is not all of it: it does more than is shown here, and the rest cannot be had.)");
    }
    if let Some(description) = &request.description {
        sheet.say("It says of it:");
        sheet.quote("", description);
        if request.description_truncated {
            sheet.say("(What it says goes on.)");
        }
    }
    sheet
}

#[cfg(test)]
mod tests;
