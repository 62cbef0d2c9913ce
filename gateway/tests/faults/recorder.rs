//! The recorder: what agents wrote, what was acknowledged, what every client saw; and whether these agree.
//!
//! It shares nothing with the gateway but the words of `docs/protocol.md`, and knows events as plain JSON.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

type Checked<T = ()> = Result<T, String>;

/// What happened beside the chats' logs.
#[derive(Default)]
pub(crate) struct Recorder {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// By chat and turn: what was sent.
    sent: BTreeMap<(String, String), String>,
    /// By chat and turn: the place that was acknowledged.
    acknowledged: BTreeMap<(String, String), (String, u64)>,
    wrong: Vec<String>,
}

impl Recorder {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a broken promise.
    pub(crate) fn wrong(&self, what: String) {
        self.inner().wrong.push(what);
    }

    pub(crate) fn has_failed(&self) -> bool {
        !self.inner().wrong.is_empty()
    }

    pub(crate) fn sent(&self, chat: &str, turn: &str, content: &str) {
        self.inner().sent.insert((chat.into(), turn.into()), content.into());
    }

    /// Records that a client's message was acknowledged.
    pub(crate) fn acknowledged(&self, chat: &str, event: &Value) {
        let turn = text(event, "turn_id");
        let place = (text(event, "epoch"), number(event, "seq"));
        let known = self.inner().acknowledged.insert((chat.into(), turn.clone()), place.clone());
        if known.is_some_and(|known| known != place) {
            self.wrong(format!("{chat}: turn {turn} is acknowledged at two places, now {place:?}"));
        }
    }

    pub(crate) fn acknowledgements(&self) -> usize {
        self.inner().acknowledged.len()
    }

    /// Compares everything with the last gateway's log of a chat, and with the output that its agent recorded.
    pub(crate) fn check(&self, log: &View, views: &[&View], truth: &Path, agents: Agents) {
        let mut wrong = Vec::new();
        {
            let inner = self.inner();
            let of_chat = |(chat, _): &&(String, String)| *chat == log.chat;
            let sent =
                inner.sent.iter().filter(|(key, _)| of_chat(key)).map(|((_, turn), text)| (turn, text));
            let sent: BTreeMap<&String, &String> = sent.collect();
            wrong.extend(check_log(log, &sent, truth, agents).err());
            for ((chat, turn), (epoch, seq)) in &inner.acknowledged {
                let kept = log.events.iter().any(|event| {
                    event.kind == "user_message"
                        && (event.turn.as_ref(), event.last, &log.epoch) == (Some(turn), *seq, epoch)
                });
                if *chat == log.chat && !kept {
                    wrong.push(format!("turn {turn} was acknowledged at {epoch}/{seq} and is forgotten"));
                }
            }
        }
        for view in views {
            wrong.extend(
                agree(view, log).map_err(|what| format!("{} saw it differently: {what}", view.who)).err(),
            );
        }
        for what in wrong {
            self.wrong(format!("{}: {what}", log.chat));
        }
    }

    /// Fails if a promise was broken.
    pub(crate) fn report_failures(&self, about: &str) {
        let wrong = &self.inner().wrong;
        assert!(wrong.is_empty(), "{about}: {} promises broken:\n{}", wrong.len(), wrong.join("\n"));
    }
}

/// How much of the agents' output the logs must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agents {
    /// All of it, because no host was killed and no turn cancelled.
    AllShown,
    /// A beginning of it, because a host was killed, with which the contents of the agent's pipe are lost, or turns were
    /// cancelled.
    BeginningShown,
}

/// A client's view of a chat: a part of its log without gaps.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) who: String,
    pub(crate) chat: String,
    pub(crate) epoch: String,
    /// The number of the last event.
    pub(crate) cursor: u64,
    /// Whether this client has received an answer to its first subscription.
    pub(crate) begun: bool,
    events: Vec<Seen>,
    /// Turns that have ended.
    pub(crate) ended: BTreeSet<String>,
    /// Requests that are open.
    pub(crate) requests: BTreeSet<String>,
    /// How many snapshots the client has received.
    pub(crate) snapshots: usize,
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    first: u64,
    last: u64,
    kind: String,
    turn: Option<String>,
    /// The text of a delta.
    stream: String,
    text: String,
    /// The other fields that are compared.
    rest: BTreeMap<String, Value>,
}

impl View {
    pub(crate) fn new(who: &str, chat: &str) -> Self {
        Self { who: who.into(), chat: chat.into(), ..Self::default() }
    }

    /// Applies the `attached` of a subscription that began at this view's cursor, if it had one.
    pub(crate) fn attached(&mut self, event: &Value) -> Checked {
        let (epoch, head) = (text(event, "epoch"), number(event, "head"));
        let recovered = event["recovered"] == true;
        if self.begun {
            if !recovered {
                return Err(format!(
                    "{}: the cursor {}/{} could not be served: {event}",
                    self.who, self.epoch, self.cursor
                ));
            }
            if epoch != self.epoch || head < self.cursor {
                return Err(format!("{}: behind {}/{}: {event}", self.who, self.epoch, self.cursor));
            }
        }
        if recovered {
            self.begun = true;
        }
        self.epoch = epoch;
        Ok(())
    }

    /// Applies a part of a snapshot.
    pub(crate) fn snapshot(&mut self, event: &Value) -> Checked {
        let events = event["events"].as_array().ok_or("a snapshot without events")?;
        if number(event, "part") == 0 {
            self.events.clear();
            self.ended.clear();
            self.requests.clear();
            self.snapshots += 1;
            let first = events.first().map_or(number(event, "seq") + 1, first_of);
            self.cursor = first - 1;
        }
        for event in events {
            self.event(event)?;
        }
        if event["more"] == false {
            self.cursor = number(event, "seq");
            self.begun = true;
            let requests = event["state"]["requests"].as_array().into_iter().flatten();
            self.requests.extend(requests.map(|request| text(request, "request_id")));
        }
        Ok(())
    }

    /// Applies an event of the log, or the `message_accepted` that a sender gets instead.
    pub(crate) fn event(&mut self, event: &Value) -> Checked {
        let (first, last) = (first_of(event), number(event, "seq"));
        if event["epoch"] != *self.epoch {
            return Err(format!("{}: of another epoch than {}: {event}", self.who, self.epoch));
        }
        if first != self.cursor + 1 || last < first {
            return Err(format!("{}: it does not follow {}: {event}", self.who, self.cursor));
        }
        self.cursor = last;
        let seen = Seen::of(event);
        match (seen.kind.as_str(), &seen.turn) {
            ("turn_end", Some(turn)) => {
                self.ended.insert(turn.clone());
            }
            ("permission_request", _) => {
                self.requests.insert(text(event, "request_id"));
            }
            ("request_resolved", _) => {
                self.requests.remove(&text(event, "request_id"));
            }
            _ => {}
        }
        self.events.push(seen);
        Ok(())
    }

    /// Begins the log with the events of a page of history, which come newest page first.
    pub(crate) fn prepend(&mut self, page: &[Value]) {
        let older: Vec<Seen> = page.iter().map(Seen::of).collect();
        self.events.splice(0..0, older);
        if let (Some(first), Some(last)) = (page.first(), self.events.last()) {
            self.epoch = text(first, "epoch");
            self.cursor = last.last;
        }
    }

    /// The answer of a turn as far as it is known.
    pub(crate) fn answer(&self, turn: &str) -> String {
        let of_turn = self.events.iter().filter(|event| event.turn.as_deref() == Some(turn));
        of_turn
            .filter(|event| event.kind == "delta" || event.kind == "message")
            .map(|event| event.text.as_str())
            .collect()
    }

    /// The outcomes and error codes of a turn, one for each `turn_end`.
    pub(crate) fn ends(&self, turn: &str) -> Vec<(String, Option<String>)> {
        let of_turn = self.events.iter().filter(|event| event.turn.as_deref() == Some(turn));
        of_turn
            .filter(|event| event.kind == "turn_end")
            .map(|event| {
                let code = event.rest.get("error").and_then(|error| error["code"].as_str());
                (event.rest["outcome"].as_str().unwrap_or_default().to_owned(), code.map(str::to_owned))
            })
            .collect()
    }

    /// Turns that were accepted and have not ended.
    pub(crate) fn open_turns(&self) -> Vec<&str> {
        let accepted = self.events.iter().filter(|event| event.kind == "user_message");
        accepted
            .filter_map(|event| event.turn.as_deref())
            .filter(|turn| !self.ended.contains(*turn))
            .collect()
    }

    /// Notes again which turns have ended, for a view that was put together from pages.
    pub(crate) fn settle(&mut self) {
        let ends = self.events.iter().filter(|event| event.kind == "turn_end");
        self.ended = ends.filter_map(|event| event.turn.clone()).collect();
    }

    /// The events, with adjacent deltas of a stream joined, so that it does not matter how they were split.
    fn runs(&self) -> Vec<Seen> {
        let mut runs: Vec<Seen> = Vec::new();
        for event in &self.events {
            match runs.last_mut() {
                Some(run)
                    if event.kind.ends_with("delta")
                        && (&run.kind, &run.turn, &run.stream)
                            == (&event.kind, &event.turn, &event.stream) =>
                {
                    run.last = event.last;
                    run.text.push_str(&event.text);
                }
                _ => runs.push(event.clone()),
            }
        }
        runs
    }
}

impl Seen {
    fn of(event: &Value) -> Self {
        let kind = match text(event, "event").as_str() {
            "message_accepted" => "user_message".to_owned(),
            kind => kind.to_owned(),
        };
        let turn = event["turn_id"].as_str().map(str::to_owned);
        let place = ["event", "turn_id", "epoch", "seq", "first_seq", "chat_id", "stream_id", "text"];
        let mut rest: BTreeMap<String, Value> = event
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| !place.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if kind == "user_message" {
            // A sender gets `message_accepted` in place of its `user_message`.
            rest.clear();
        }
        let text_of = |name| event[name].as_str().unwrap_or_default().to_owned();
        Self {
            first: first_of(event),
            last: number(event, "seq"),
            kind,
            turn,
            stream: text_of("stream_id"),
            text: text_of("text"),
            rest,
        }
    }
}

/// Compares a view with the log.
fn agree(view: &View, log: &View) -> Checked {
    if view.events.is_empty() {
        return Ok(());
    }
    if view.epoch != log.epoch {
        return Err(format!("in epoch {} in place of {}", view.epoch, log.epoch));
    }
    let seen = view.runs();
    let (begin, end) = (seen[0].first, view.cursor);
    if log.cursor < end {
        return Err(format!("it was shown {end} events, of which {} are left", log.cursor));
    }
    let kept: Vec<Seen> =
        log.runs().into_iter().filter(|run| run.last >= begin && run.first <= end).collect();
    if kept.len() != seen.len() {
        return Err(format!("{} runs of events in place of {}", seen.len(), kept.len()));
    }
    for (seen, kept) in seen.iter().zip(&kept) {
        let text_agrees = match (kept.first < begin, kept.last > end) {
            // A sender does not get the text of its own message.
            _ if seen.kind == "user_message" && seen.text.is_empty() => true,
            (false, false) => seen.text == kept.text,
            (true, false) => kept.text.ends_with(&seen.text),
            (false, true) => kept.text.starts_with(&seen.text),
            (true, true) => kept.text.contains(&seen.text),
        };
        let place = (kept.first.max(begin), kept.last.min(end));
        let same = (seen.first, seen.last) == place
            && (&seen.kind, &seen.turn, &seen.stream, &seen.rest)
                == (&kept.kind, &kept.turn, &kept.stream, &kept.rest);
        if !same || !text_agrees {
            return Err(format!("{seen:?} in place of {kept:?}"));
        }
    }
    Ok(())
}

/// What is known of a turn from the log.
#[derive(Default)]
struct Turn {
    started: bool,
    ended: Option<String>,
    words: String,
    thoughts: String,
    streams: BTreeMap<String, bool>,
}

/// Checks that a log is consistent, and contains only messages that were sent and the output that its agent recorded.
#[allow(clippy::too_many_lines, reason = "one check after the other")]
fn check_log(log: &View, sent: &BTreeMap<&String, &String>, truth: &Path, agents: Agents) -> Checked {
    let mut turns: BTreeMap<&str, Turn> = BTreeMap::new();
    let mut requests: BTreeMap<String, bool> = BTreeMap::new();
    let mut running: Option<&str> = None;
    let mut next = 1;
    for event in &log.events {
        let wrong = |what: &str| Err(format!("{what}: {event:?}"));
        if event.first != next {
            return wrong("a hole in the log, or an overlap");
        }
        next = event.last + 1;
        let Some(name) = event.turn.as_deref() else { continue };
        if event.kind == "user_message" {
            if turns.insert(name, Turn::default()).is_some() {
                return wrong("a message is there twice");
            }
            match sent.get(&name.to_owned()) {
                Some(text) if **text == event.text => continue,
                _ => return wrong("nobody sent this"),
            }
        }
        let Some(turn) = turns.get_mut(name) else { return wrong("of a turn that was not accepted") };
        if turn.ended.is_some() {
            return wrong("after the turn's end");
        }
        match event.kind.as_str() {
            "turn_started" => {
                if turn.started || running.is_some() {
                    return wrong("a turn starts that may not");
                }
                turn.started = true;
                running = Some(name);
                continue;
            }
            "turn_end" => {
                turn.ended = Some(event.rest["outcome"].as_str().unwrap_or_default().to_owned());
                if turn.streams.values().any(|open| *open)
                    || requests.values().any(|open| *open) && turn.started
                {
                    return wrong("something is open at the turn's end");
                }
                if running == Some(name) {
                    running = None;
                } else if turn.started {
                    return wrong("a turn ends that did not run");
                }
                continue;
            }
            // A message that is sent while the agent stops is told so before its turn starts.
            "notice" if !turn.started && event.rest.get("code") == Some(&"agent_stopped".into()) => continue,
            _ => {}
        }
        if running != Some(name) {
            return wrong("of a turn that does not run");
        }
        match event.kind.as_str() {
            "delta" | "reasoning_delta" => {
                if turn.streams.insert(event.stream.clone(), true) == Some(false) {
                    return wrong("a stream goes on after its end");
                }
                if event.kind == "delta" {
                    turn.words.push_str(&event.text);
                } else {
                    turn.thoughts.push_str(&event.text);
                }
            }
            "stream_end" | "reasoning_end"
                if turn.streams.insert(event.stream.clone(), false) == Some(false) =>
            {
                return wrong("a stream ends twice");
            }
            "message" if !event.rest.contains_key("kind") => turn.words.push_str(&event.text),
            "permission_request" if requests.insert(name_of(event), true).is_some() => {
                return wrong("a request is made twice");
            }
            "request_resolved" if requests.insert(name_of(event), false) != Some(true) => {
                return wrong("a request is resolved that is not open");
            }
            _ => {}
        }
    }
    for (name, turn) in &turns {
        let Some(outcome) = &turn.ended else { return Err(format!("turn {name} has no end")) };
        check_turn(name, turn, outcome, truth, agents)
            .map_err(|what| format!("turn {name}, {outcome}: {what}"))?;
    }
    Ok(())
}

fn name_of(event: &Seen) -> String {
    event.rest.get("request_id").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Compares a turn with the output that its agent recorded.
fn check_turn(name: &str, turn: &Turn, outcome: &str, truth: &Path, agents: Agents) -> Checked {
    let Ok(written) = fs::read_to_string(truth.join(name)) else {
        let silent = turn.words.is_empty() && turn.thoughts.is_empty() && outcome != "completed";
        return if silent { Ok(()) } else { Err("the agent was never told of it".into()) };
    };
    // An agent that was killed in the middle of a line has not written it.
    let lines: Vec<&str> = written.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).collect();
    let count = |word: &str| lines.iter().filter(|line| line.split(' ').next() == Some(word)).count();
    let joined = |kind: &str| -> String {
        lines.iter().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')).collect()
    };
    let (told, strays, answers) = (count("prompt"), count("stray"), count("answer"));
    if told > 1 || strays > 0 || answers > 1 {
        return Err(format!(
            "the agent was told {told} times, answered {answers} times, and {strays} times for nothing"
        ));
    }
    let (said, thought, surely) = (joined("text"), joined("thinking"), joined("wrote"));
    if !said.starts_with(&turn.words) || !thought.starts_with(&turn.thoughts) {
        return Err(format!(
            "it shows {:?} and {:?}, which the agent did not write",
            turn.thoughts, turn.words
        ));
    }
    let all = turn.words == said && turn.thoughts == thought;
    if outcome == "completed" && (!all || count("result") == 0) {
        return Err(format!("the end is missing after {:?}", tail(&turn.words)));
    }
    let shown = format!("{}{}", turn.thoughts, turn.words);
    if agents == Agents::AllShown && shown.len() < surely.len() {
        return Err(format!("the agent had written {:?}, shown is {:?}", tail(&surely), tail(&shown)));
    }
    Ok(())
}

fn tail(text: &str) -> String {
    let mut begin = text.len().saturating_sub(60);
    while !text.is_char_boundary(begin) {
        begin += 1;
    }
    text[begin..].to_owned()
}

fn first_of(event: &Value) -> u64 {
    event["first_seq"].as_u64().unwrap_or_else(|| number(event, "seq"))
}

fn number(event: &Value, name: &str) -> u64 {
    event[name].as_u64().unwrap_or(0)
}

fn text(event: &Value, name: &str) -> String {
    event[name].as_str().unwrap_or_default().to_owned()
}
