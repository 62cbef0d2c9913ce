//! The events of a chat that a client received, in a form that can be compared between transports.

use serde_json::Value;

use crate::trace::Names;

/// The events of one chat as one client received them, checked on arrival: each seq of the log once, in order.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    events: Vec<Value>,
    epoch: Option<String>,
    head: u64,
}

impl Transcript {
    /// Adds a frame. Control events are ignored, except that `message_accepted` counts as its `user_message`.
    ///
    /// # Errors
    ///
    /// The frame is no JSON, is of another epoch, or leaves out, repeats or reorders events.
    pub fn take(&mut self, frame: &str) -> Result<(), String> {
        let event: Value = serde_json::from_str(frame).map_err(|e| format!("no JSON: {e}"))?;
        if event["duplicate"] == Value::Bool(true) {
            return Ok(());
        }
        let (Some(seq), Some(epoch)) = (event["seq"].as_u64(), event["epoch"].as_str()) else {
            return Ok(());
        };
        if matches!(event["event"].as_str(), Some("snapshot" | "replay_end" | "attached")) {
            return Ok(());
        }
        if *self.epoch.get_or_insert_with(|| epoch.to_owned()) != epoch {
            return Err(format!("another epoch: {frame}"));
        }
        let first = event["first_seq"].as_u64().unwrap_or(seq);
        if first != self.head + 1 || seq < first {
            return Err(format!("after {} comes {first} to {seq}: {frame}", self.head));
        }
        self.head = seq;
        self.events.push(event);
        Ok(())
    }

    /// The client's cursor: the value of `after` in `attach`.
    pub fn cursor(&self) -> Value {
        serde_json::json!({ "epoch": self.epoch, "seq": self.head })
    }

    /// The seq of the last received event; 0 before the first.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Whether an event of this kind was received.
    pub fn has(&self, event: &str) -> bool {
        self.events.iter().any(|seen| seen["event"] == event)
    }

    /// The id of the newest permission request or question.
    pub fn asked(&self) -> Option<&str> {
        let newest = self
            .events
            .iter()
            .rfind(|event| matches!(event["event"].as_str(), Some("permission_request" | "question")));
        newest?["request_id"].as_str()
    }

    /// The text of all `delta` events, joined.
    pub fn text(&self) -> String {
        let deltas = self.events.iter().filter(|event| event["event"] == "delta");
        deltas.filter_map(|event| event["text"].as_str()).collect()
    }

    /// One line per event, with adjacent deltas of a stream joined, ids replaced by names, and times hidden.
    pub fn lines(&self) -> Vec<String> {
        let mut joined: Vec<Value> = Vec::new();
        for event in &self.events {
            let mut event = event.clone();
            as_seen_by_all(&mut event);
            match joined.last_mut() {
                Some(last) if continues(last, &event) => {
                    let text = format!("{}{}", text_of(last), text_of(&event));
                    let first = last.get("first_seq").unwrap_or(&last["seq"]).clone();
                    last["text"] = text.into();
                    last["first_seq"] = first;
                    last["seq"] = event["seq"].take();
                }
                _ => joined.push(event),
            }
        }
        let mut names = Names::default();
        joined.iter().map(|event| names.hide(&event.to_string())).collect()
    }
}

/// Makes `message_accepted`, which the sender of a message receives, equal to `user_message`, which other clients
/// receive: both stand for the same event. Also removes client names and times, which differ between transports.
fn as_seen_by_all(event: &mut Value) {
    let keep = ["event", "turn_id", "epoch", "seq", "chat_id"];
    let Some(fields) = event.as_object_mut() else { return };
    fields.remove("client_id");
    let kind = fields.get("event").and_then(Value::as_str);
    if matches!(kind, Some("message_accepted" | "user_message")) {
        fields.retain(|name, _| keep.contains(&name.as_str()));
        fields.insert("event".to_owned(), "user_message".into());
    }
}

fn continues(last: &Value, event: &Value) -> bool {
    let same = ["event", "stream_id", "turn_id"].into_iter().all(|name| last[name] == event[name]);
    matches!(event["event"].as_str(), Some("delta" | "reasoning_delta")) && same
}

fn text_of(event: &Value) -> &str {
    event["text"].as_str().unwrap_or_default()
}
