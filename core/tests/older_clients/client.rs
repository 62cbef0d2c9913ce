//! The view of a chat as the page and the terminal client had it when only people began turns: events in, turns out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Turns that may run at once for a client that does not know which of them the agent began: one of each origin.
const RUNNING: usize = 2;

/// What clients have seen of chats, by principal, chat, epoch and number. Whoever is at the same place sees the same.
pub(crate) type Seen = BTreeMap<(String, String, String, u64), View>;

/// A connection of an older client.
#[derive(Debug)]
pub(crate) struct OlderClient {
    principal: String,
    chats: BTreeMap<String, Chat>,
    /// The cursors with which the client attached, by chat, until the gateway answers.
    attaching: BTreeMap<String, Place>,
}

/// An epoch and a number in it.
type Place = (String, u64);

/// A chat to which the client is subscribed.
#[derive(Debug, Default)]
struct Chat {
    /// The place up to which the client has applied everything; `None` until a snapshot is complete.
    cursor: Option<Place>,
    /// Whether the client has all events, and not only the latest ones.
    is_whole: bool,
    /// Whether the last `goal_status` said that a turn runs.
    is_running: Option<bool>,
    /// What the parts of a snapshot that have come say of its state.
    state: State,
    view: View,
}

/// The state in a snapshot.
#[derive(Debug, Default)]
struct State {
    running: Option<String>,
    waiting: BTreeSet<String>,
    requests: BTreeSet<String>,
}

/// What the client shows of a chat.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct View {
    turns: BTreeMap<String, Turn>,
    /// Open requests, with the turns that they belong to.
    requests: BTreeMap<String, String>,
    /// Running tool uses: how often each id was started and has not ended.
    tools: BTreeMap<String, u32>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Turn {
    phase: Phase,
    streams: BTreeMap<String, Stream>,
    messages: Vec<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Phase {
    #[default]
    Queued,
    /// The message has been accepted, and its turn starts at once.
    Starting,
    Running,
    Done,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Stream {
    text: String,
    has_ended: bool,
}

/// Fails with this sentence unless the condition holds.
fn ensure(condition: bool, otherwise: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(otherwise.into()) }
}

fn text<'a>(event: &'a Value, member: &str) -> &'a str {
    event[member].as_str().unwrap_or_default()
}

fn number(event: &Value, member: &str) -> u64 {
    event[member].as_u64().unwrap_or_default()
}

fn list<'a>(value: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> {
    value[member].as_array().into_iter().flatten()
}

impl OlderClient {
    pub(crate) fn new(principal: String) -> Self {
        Self { principal, chats: BTreeMap::new(), attaching: BTreeMap::new() }
    }

    /// Notes what the client sends.
    pub(crate) fn sends(&mut self, frame: &Value) {
        if frame["type"] == "attach" && frame["after"].is_object() {
            let place = (text(&frame["after"], "epoch").into(), number(&frame["after"], "seq"));
            self.attaching.insert(text(frame, "chat_id").into(), place);
        }
    }

    /// Handles an event from the gateway. Fails with what is inconsistent.
    pub(crate) fn receives(&mut self, event: &Value, seen: &mut Seen) -> Result<(), String> {
        let (chat_id, kind) = (text(event, "chat_id"), text(event, "event"));
        let at = |(epoch, seq): Place| (self.principal.clone(), chat_id.to_owned(), epoch, seq);
        if kind == "attached" {
            let goes_on = |(epoch, _): &Place| event["recovered"] == true && event["epoch"] == **epoch;
            let cursor = self.attaching.remove(chat_id).filter(goes_on);
            let known = cursor.clone().and_then(|cursor| seen.get(&at(cursor)).cloned());
            self.chats.insert(chat_id.into(), Chat::attached(event, cursor, known));
            return Ok(());
        }
        let Some(chat) = self.chats.get_mut(chat_id) else { return Ok(()) };
        match kind {
            "snapshot" => chat.snapshot(event)?,
            "replay_end" => {
                chat.cursor.get_or_insert_with(|| (text(event, "epoch").into(), number(event, "seq")));
            }
            "goal_status" => {
                chat.is_running = Some(text(event, "status") == "running");
            }
            "message_accepted" if event["duplicate"] == true => {}
            _ if event["seq"].is_u64() && event["epoch"].is_string() => chat.numbered(event)?,
            _ => {}
        }
        let Some(cursor) = chat.cursor.clone().filter(|_| chat.is_whole) else { return Ok(()) };
        let known = seen.entry(at(cursor)).or_insert_with(|| chat.view.clone());
        ensure(*known == chat.view, "another client at the same place sees something else")
    }

    /// Checks that the last `goal_status` of each chat agrees with its events.
    pub(crate) fn status_agrees(&self) -> Result<(), String> {
        for (id, chat) in self.chats.iter().filter(|(_, chat)| chat.is_whole) {
            let runs = !chat.view.running().is_empty();
            ensure(
                chat.is_running.is_none_or(|said| said == runs),
                &format!("goal_status and events of {id} do not agree on whether a turn runs"),
            )?;
        }
        Ok(())
    }

    /// Checks that nothing runs in a chat without a running turn.
    pub(crate) fn all_is_over(&self) -> Result<(), String> {
        for (id, chat) in &self.chats {
            if chat.view.running().is_empty() {
                ensure(chat.view.tools.is_empty(), &format!("a tool runs in {id} for ever"))?;
            }
        }
        Ok(())
    }
}

impl Chat {
    /// A chat to which the client has subscribed. `cursor` is where the client goes on, `known` what it has seen until
    /// there.
    fn attached(event: &Value, cursor: Option<Place>, known: Option<View>) -> Self {
        let is_empty = number(event, "head") == 0;
        Self {
            cursor: cursor.or_else(|| is_empty.then(|| (text(event, "epoch").into(), 0))),
            is_whole: is_empty || known.is_some(),
            view: known.unwrap_or_default(),
            ..Self::default()
        }
    }

    fn snapshot(&mut self, event: &Value) -> Result<(), String> {
        if event["part"] == 0 {
            let mut events = list(event, "events");
            let first = events.next();
            // A new epoch begins where the journal has lost something.
            let lost = first.into_iter().chain(events).any(|each| each["epoch"] != event["epoch"]);
            self.is_whole = !lost && first.is_none_or(|first| first_of(first) == 1);
            (self.view, self.cursor, self.state) = (View::default(), None, State::default());
        }
        for each in list(event, "events") {
            self.view.apply(each, self.is_whole)?;
        }
        let state = &event["state"];
        for each in list(state, "queue") {
            let id = text(each, "turn_id");
            self.state.waiting.insert(id.into());
            if !self.view.turns.contains_key(id) {
                self.view.apply(each, false)?;
            }
        }
        for each in list(state, "requests") {
            let id = text(each, "request_id");
            self.state.requests.insert(id.into());
            if !self.view.requests.contains_key(id) {
                self.view.apply(each, false)?;
            }
        }
        if let Some(id) = state["turn"]["turn_id"].as_str() {
            self.state.running = Some(id.into());
            self.view.turns.entry(id.into()).or_default().phase = Phase::Running;
        }
        if event["more"] == false {
            self.cursor = Some((text(event, "epoch").into(), number(event, "seq")));
            self.state_agrees()?;
        }
        Ok(())
    }

    /// Checks that the state of the snapshot agrees with its events.
    fn state_agrees(&self) -> Result<(), String> {
        let view = &self.view;
        ensure(self.state.waiting == view.in_phase(Phase::Queued), "other messages wait in the events")?;
        let requests: BTreeSet<String> = view.requests.keys().cloned().collect();
        ensure(self.state.requests == requests, "other requests are open in the events")?;
        let others = view.running().iter().filter(|turn| Some(*turn) != self.state.running.as_ref()).count();
        ensure(others < RUNNING, "more turns run than the one of the state and one that the agent began")
    }

    /// Handles an event with a number.
    fn numbered(&mut self, event: &Value) -> Result<(), String> {
        let (at, seq) =
            (self.cursor.as_mut().ok_or("an event without a place to begin")?, number(event, "seq"));
        ensure(at.0 == text(event, "epoch"), "an event of another epoch")?;
        if seq <= at.1 {
            return Ok(());
        }
        ensure(first_of(event) == at.1 + 1, "a hole in the numbers")?;
        at.1 = seq;
        self.view.apply(event, self.is_whole)
    }
}

/// The number of the first of the events that were joined to this one.
fn first_of(event: &Value) -> u64 {
    event["first_seq"].as_u64().unwrap_or_else(|| number(event, "seq"))
}

impl View {
    fn in_phase(&self, phase: Phase) -> BTreeSet<String> {
        let turns = self.turns.iter().filter(|(_, turn)| turn.phase == phase);
        turns.map(|(id, _)| id.clone()).collect()
    }

    fn running(&self) -> BTreeSet<String> {
        &self.in_phase(Phase::Running) | &self.in_phase(Phase::Starting)
    }

    /// Adds an event. `is_whole`: everything before it is known, too.
    fn apply(&mut self, event: &Value, is_whole: bool) -> Result<(), String> {
        let turn_id = text(event, "turn_id");
        match text(event, "event") {
            "user_message" | "message_accepted" => {
                let phase = if event["starts_turn"] == true { Phase::Starting } else { Phase::Queued };
                let turn = Turn { phase, ..Turn::default() };
                ensure(
                    self.turns.insert(turn_id.into(), turn).is_none(),
                    "a message that was accepted before",
                )?;
            }
            "turn_started" => {
                let turn = self.turns.entry(turn_id.into()).or_default();
                ensure(matches!(turn.phase, Phase::Queued | Phase::Starting), "a turn that began before")?;
                turn.phase = Phase::Running;
            }
            "turn_end" => self.turn_ends(turn_id, is_whole)?,
            "delta" | "reasoning_delta" | "stream_end" | "reasoning_end" => {
                self.work(turn_id, is_whole)?.stream(event)?;
            }
            "message" if event["kind"].is_null() => {
                self.work(turn_id, is_whole)?.messages.push(text(event, "text").into());
            }
            "tool_event" => {
                self.work(turn_id, is_whole)?;
                self.tool(event, is_whole)?;
            }
            "permission_request" | "question" => {
                let known = self.requests.insert(text(event, "request_id").into(), turn_id.into());
                ensure(known.is_none(), "a request that is open")?;
            }
            "request_resolved" => {
                let known = self.requests.remove(text(event, "request_id"));
                ensure(known.is_some() || !is_whole, "the end of a request that is not open")?;
            }
            _ => return Ok(()),
        }
        ensure(self.running().len() <= RUNNING, "too many turns run")
    }

    /// The turn in which the agent works.
    fn work(&mut self, turn_id: &str, is_whole: bool) -> Result<&mut Turn, String> {
        ensure(!turn_id.is_empty(), "work outside of turns")?;
        let turn = self.turns.entry(turn_id.into()).or_default();
        if !is_whole && turn.phase == Phase::Queued {
            turn.phase = Phase::Running;
        }
        ensure(turn.phase == Phase::Running, "work in a turn that does not run")?;
        Ok(turn)
    }

    fn tool(&mut self, event: &Value, is_whole: bool) -> Result<(), String> {
        let call_id = text(event, "call_id");
        match text(event, "phase") {
            "start" => *self.tools.entry(call_id.into()).or_default() += 1,
            "end" | "error" => {
                let runs = self.tools.get_mut(call_id);
                ensure(runs.is_some() || !is_whole, "the end of a tool use that does not run")?;
                if let Some(runs) = runs {
                    *runs -= 1;
                }
                self.tools.retain(|_, runs| *runs > 0);
            }
            _ => {}
        }
        Ok(())
    }

    fn turn_ends(&mut self, turn_id: &str, is_whole: bool) -> Result<(), String> {
        let is_known = self.turns.contains_key(turn_id);
        ensure(is_known || !is_whole, "the end of a turn that did not begin")?;
        let turn = self.turns.entry(turn_id.into()).or_default();
        ensure(turn.phase != Phase::Done, "a turn that ended before")?;
        ensure(turn.phase != Phase::Starting, "a turn that was to start at once and did not")?;
        turn.phase = Phase::Done;
        let is_over = !is_whole || turn.streams.values().all(|stream| stream.has_ended);
        ensure(is_over, "a stream is open at the end of its turn")?;
        ensure(
            !self.requests.values().any(|turn| turn == turn_id),
            "a request is open at the end of its turn",
        )
    }
}

impl Turn {
    fn stream(&mut self, event: &Value) -> Result<(), String> {
        let kind = text(event, "event");
        let stream = self.streams.entry(text(event, "stream_id").into()).or_default();
        ensure(!stream.has_ended, "a piece of a stream that ended before")?;
        stream.has_ended = kind.ends_with("end");
        match event["text"].as_str() {
            Some(whole) if stream.has_ended => stream.text = whole.into(),
            Some(piece) => stream.text += piece,
            None => {}
        }
        Ok(())
    }
}
