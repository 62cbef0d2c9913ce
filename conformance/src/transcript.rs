//! What a client saw of a chat, in a form that can be compared between transports.

use serde_json::Value;

use crate::trace::Names;

/// The events of one chat as one client has them, checked as they come: each place of the log once, in order.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    events: Vec<Value>,
    epoch: Option<String>,
    head: u64,
}

impl Transcript {
    /// Takes a frame. Control events are passed over, but `message_accepted` stands for its `user_message`.
    /// The error says what is missing, repeated or out of order.
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

    /// Where the client stands: the value of `after` in `attach`.
    pub fn cursor(&self) -> Value {
        serde_json::json!({ "epoch": self.epoch, "seq": self.head })
    }

    /// The last place that was seen.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Whether an event of this kind was seen.
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

    /// All text of the answers, joined.
    pub fn text(&self) -> String {
        let deltas = self.events.iter().filter(|event| event["event"] == "delta");
        deltas.filter_map(|event| event["text"].as_str()).collect()
    }

    /// One line an event, with adjacent deltas of one stream joined, ids named and times hidden.
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

/// Who sent a message is told that it was accepted, the others see it: both is the same place of the log. What a
/// client calls itself, and when things happened, is not part of the conversation.
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
