//! The client: steps, one JSON object a line.
//!
//! - `{"over": ["websocket", "sse", "unix"]}`, first: the transports, if not WebSocket alone;
//! - `{"gateway": SETTINGS}`, first or second: the gateway's configuration file;
//! - `{"send": FRAME}`: sends a frame, in which `$CHAT` is the chat, `$OTHER` a second chat, `$REQUEST` the newest request
//!   and `$TURN` the newest turn;
//! - `{"until": PATTERN}`: reads until an event matches;
//! - `{"until_received": PATTERN}`: waits until the agent has received a line that matches;
//! - `{"until_processes": N}`: waits until this many hosts and agents run;
//! - `{"signal": NAME}`: lets the agent go on from `# await NAME`;
//! - `{"respond": FIELDS}`: answers the newest request, or with `"to": N` the Nth of the chat, from 1; `$SHA` is its
//!   `input_sha256`.

use std::{fs, path::Path, time::Instant};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use switchboard_test_support::{Client, Gateway, TIMEOUT, becomes_true, eventually, matches};

use crate::{RECEIVED, agent, expect::lines};

#[derive(Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Step {
    Over { over: Vec<Over> },
    Gateway { gateway: toml::Table },
    Send { send: Value },
    Until { until: Value },
    UntilReceived { until_received: Value },
    UntilProcesses { until_processes: usize },
    Signal { signal: String },
    Respond { respond: Map<String, Value>, to: Option<usize> },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Over {
    Websocket,
    Sse,
    Unix,
}

impl Over {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Sse => "sse",
            Self::Unix => "unix",
        }
    }

    fn connect(self, gateway: &Gateway) -> Box<dyn Client> {
        match self {
            Self::Websocket => Box::new(gateway.websocket()),
            Self::Sse => Box::new(gateway.sse("")),
            Self::Unix => Box::new(gateway.unix()),
        }
    }
}

/// The results of the steps.
pub(crate) struct Played {
    /// The chat.
    pub(crate) chat: Value,
    /// Every event after `attached`, in order.
    pub(crate) events: Vec<Value>,
    /// The chat's whole log at the end.
    pub(crate) history: Vec<Value>,
}

pub(crate) fn read(path: &Path) -> Vec<Step> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let step = |line| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display()))
    };
    text.lines().map(step).collect()
}

pub(crate) fn transports(steps: &[Step]) -> Vec<Over> {
    match steps.first() {
        Some(Step::Over { over }) => over.clone(),
        _ => vec![Over::Websocket],
    }
}

/// The text of the gateway's configuration file.
pub(crate) fn settings(steps: &[Step]) -> String {
    let settings = steps
        .iter()
        .find_map(|step| if let Step::Gateway { gateway } = step { Some(gateway.to_string()) } else { None });
    settings.unwrap_or_default()
}

pub(crate) fn play(gateway: &Gateway, over: Over, steps: &[Step]) -> Played {
    let mut client = over.connect(gateway);
    let chat = client.new_chat();
    let mut player = Player { gateway, client, chat, other: None, events: Vec::new() };
    for step in steps {
        match step {
            Step::Over { .. } | Step::Gateway { .. } => {}
            Step::Send { send } => player.send(send.clone()),
            Step::Until { until } => drop(player.until(until)),
            Step::UntilReceived { until_received } => player.until_received(until_received),
            Step::UntilProcesses { until_processes: count } => {
                eventually("hosts and agents have ended", || gateway.processes().len() == *count);
            }
            Step::Signal { signal } => {
                drop(fs::File::create(agent::signal(&gateway.path(""), signal)).unwrap())
            }
            Step::Respond { respond, to } => player.respond(respond, *to),
        }
    }
    player.end()
}

struct Player<'a> {
    gateway: &'a Gateway,
    client: Box<dyn Client>,
    chat: String,
    /// The second chat, once it is needed.
    other: Option<String>,
    events: Vec<Value>,
}

impl Player<'_> {
    fn send(&mut self, mut frame: Value) {
        for value in frame.as_object_mut().unwrap().values_mut() {
            match value.as_str() {
                Some("$CHAT") => *value = self.chat.clone().into(),
                Some("$OTHER") => *value = self.other().into(),
                Some("$REQUEST") => *value = self.requests().last().unwrap()["request_id"].clone(),
                Some("$TURN") => {
                    let started = self.events.iter().rfind(|event| event["event"] == "turn_started");
                    *value = started.unwrap()["turn_id"].clone();
                }
                _ => {}
            }
        }
        self.client.send(&frame);
    }

    fn other(&mut self) -> String {
        if self.other.is_none() {
            self.client.send(&json!({"type": "new_chat"}));
            let attached = self.until(&json!({"event": "attached"}));
            self.other = Some(attached["chat_id"].as_str().unwrap().to_owned());
        }
        self.other.clone().unwrap()
    }

    fn requests(&self) -> Vec<&Value> {
        let asked = |event: &&Value| event["event"] == "permission_request" || event["event"] == "question";
        self.events.iter().filter(asked).collect()
    }

    fn until(&mut self, pattern: &Value) -> Value {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let event = self.client.next().filter(|_| Instant::now() < deadline);
            let Some(event) = event else {
                let (received, log) = (self.received(), self.gateway.log());
                panic!(
                    "nothing came that is {pattern}, after\n{}received by the agent:\n{received}\nlog:\n{log}",
                    lines(&self.events)
                );
            };
            self.events.push(event.clone());
            if matches(pattern, &event) {
                return event;
            }
        }
    }

    /// What the agent has received so far.
    fn received(&self) -> String {
        fs::read_to_string(self.gateway.path(RECEIVED)).unwrap_or_default()
    }

    fn until_received(&self, pattern: &Value) {
        let is_it = |line: &str| matches(pattern, &serde_json::from_str::<Value>(line).unwrap_or_default());
        let came = becomes_true(|| self.received().lines().any(is_it));
        assert!(came, "the agent received nothing that is {pattern}:\n{}", self.received());
    }

    fn respond(&mut self, fields: &Map<String, Value>, to: Option<usize>) {
        let requests = self.requests();
        let request = requests[to.unwrap_or(requests.len()) - 1].clone();
        let mut frame = json!({"type": "respond", "chat_id": self.chat, "request_id": request["request_id"]});
        for (name, value) in fields {
            frame[name] = if value == "$SHA" { request["input_sha256"].clone() } else { value.clone() };
        }
        self.client.send(&frame);
    }

    /// The events until now, and the chat's history. Events that were sent before the history arrive before it.
    fn end(mut self) -> Played {
        let mut history = Vec::new();
        let mut before = Value::Null;
        loop {
            let mut frame = json!({"type": "history", "chat_id": self.chat});
            if !before.is_null() {
                frame["before"] = before;
            }
            self.client.send(&frame);
            let page = self.until(&json!({"event": "history"}));
            history.splice(0..0, page["events"].as_array().unwrap().iter().cloned());
            before = page["before"].clone();
            if before.is_null() {
                return Played { chat: self.chat.into(), events: self.events, history };
            }
        }
    }
}
