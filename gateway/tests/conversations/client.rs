//! The client: steps, one JSON object a line.
//!
//! - `{"over": ["websocket", "sse", "unix"]}`, first: the transports, if not WebSocket alone;
//! - `{"send": FRAME}`: sends a frame, in which `$CHAT` is the chat and `$REQUEST` its newest request;
//! - `{"until": PATTERN}`: reads until an event matches (`expect.rs` says how);
//! - `{"respond": FIELDS}`: answers the newest request, or with `"to": N` the Nth of the chat, from 1; `$SHA` is its
//!   `input_sha256`.

use std::{fs, path::Path, time::Instant};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use switchboard_test_support::{Client, Gateway, TIMEOUT};

use crate::expect::matches;

#[derive(Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Step {
    Over { over: Vec<Over> },
    Send { send: Value },
    Until { until: Value },
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

pub(crate) fn play(gateway: &Gateway, over: Over, steps: &[Step]) -> Played {
    let mut client = over.connect(gateway);
    let chat = client.new_chat();
    let mut player = Player { client, chat, events: Vec::new() };
    for step in steps {
        match step {
            Step::Over { .. } => {}
            Step::Send { send } => player.send(send.clone()),
            Step::Until { until } => drop(player.until(until)),
            Step::Respond { respond, to } => player.respond(respond, *to),
        }
    }
    let (events, history) = player.end();
    Played { events, history }
}

struct Player {
    client: Box<dyn Client>,
    chat: String,
    events: Vec<Value>,
}

impl Player {
    fn send(&mut self, mut frame: Value) {
        for value in frame.as_object_mut().unwrap().values_mut() {
            if *value == "$CHAT" {
                *value = self.chat.clone().into();
            } else if *value == "$REQUEST" {
                *value = self.requests().last().unwrap()["request_id"].clone();
            }
        }
        self.client.send(&frame);
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
                panic!("nothing came that is {pattern}, after\n{}", crate::expect::lines(&self.events));
            };
            self.events.push(event.clone());
            if matches(pattern, &event) {
                return event;
            }
        }
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
    fn end(mut self) -> (Vec<Value>, Vec<Value>) {
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
                return (self.events, history);
            }
        }
    }
}
