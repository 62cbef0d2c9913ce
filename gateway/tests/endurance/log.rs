//! A chat's log as one client gets it, checked with each event.

use std::collections::HashSet;

use serde_json::{Value, json};

use switchboard_test_support::Client;

/// A turn of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) id: String,
    /// Its deltas, one after the other.
    pub(crate) text: String,
    /// How it ended, once it has.
    pub(crate) outcome: Option<String>,
}

/// A client's copy of a chat's log. Fails if a number is missing or comes twice, or a turn begins or ends twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) chat: String,
    epoch: String,
    /// The number of the last event.
    cursor: u64,
    pub(crate) turns: Vec<Turn>,
    started: HashSet<String>,
}

impl Log {
    /// A log that begins with the `attached` of a chat without events.
    pub(crate) fn begin(attached: &Value) -> Self {
        assert_eq!(attached["head"], 0, "{attached}");
        let text = |name: &str| attached[name].as_str().unwrap().to_owned();
        Self::empty(text("chat_id"), text("epoch"))
    }

    /// The same chat before its first event, for a client that reads all of it.
    pub(crate) fn emptied(&self) -> Self {
        Self::empty(self.chat.clone(), self.epoch.clone())
    }

    fn empty(chat: String, epoch: String) -> Self {
        Self { chat, epoch, cursor: 0, turns: Vec::new(), started: HashSet::new() }
    }

    /// Subscribes at this log's cursor.
    pub(crate) fn attach(&self, client: &mut dyn Client) {
        client.send(&json!({"type": "attach", "chat_id": self.chat, "after": self.cursor()}));
    }

    pub(crate) fn cursor(&self) -> Value {
        json!({"epoch": self.epoch, "seq": self.cursor})
    }

    /// Reads until an event satisfies the condition, and returns it. Events of other chats are skipped.
    pub(crate) fn until(&mut self, client: &mut dyn Client, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = client.next().unwrap_or_else(|| panic!("the connection ended: {self:?}"));
            if event["event"] == "error" {
                panic!("{event} after {self:?}");
            }
            if event["chat_id"] == *self.chat {
                self.take(&event);
                if wanted(&event) {
                    return event;
                }
            }
        }
    }

    pub(crate) fn until_kind(&mut self, client: &mut dyn Client, kind: &str) -> Value {
        self.until(client, |event| event["event"] == kind)
    }

    /// Reads until a turn ends, and returns its outcome and its text.
    pub(crate) fn until_end(&mut self, client: &mut dyn Client, turn: &str) -> (String, String) {
        let ended = |turns: &[Turn]| turns.iter().rev().any(|is| is.id == turn && is.outcome.is_some());
        if !ended(&self.turns) {
            self.until(client, |event| event["event"] == "turn_end" && event["turn_id"] == *turn);
        }
        let turn = self.turns.iter().rev().find(|is| is.id == turn).unwrap();
        (turn.outcome.clone().unwrap(), turn.text.clone())
    }

    fn take(&mut self, event: &Value) {
        if event["event"] == "attached" {
            assert_eq!(event["recovered"], true, "the cursor {} is not served: {event}", self.cursor);
            assert_eq!(event["epoch"], *self.epoch, "{event}");
        }
        let numbered = event.get("seq").is_some() && event["event"] != "replay_end";
        if numbered && event["duplicate"] != true {
            self.number(event);
        }
    }

    /// Applies an event of the log.
    fn number(&mut self, event: &Value) {
        let seq = event["seq"].as_u64().unwrap();
        let first = event["first_seq"].as_u64().unwrap_or(seq);
        assert_eq!(event["epoch"], *self.epoch, "{event}");
        assert!(first == self.cursor + 1 && seq >= first, "it does not follow {}: {event}", self.cursor);
        self.cursor = seq;
        let turn = event["turn_id"].as_str().unwrap_or_default();
        match event["event"].as_str().unwrap() {
            "turn_started" => {
                assert!(self.started.insert(turn.to_owned()), "it starts again: {event}");
                assert!(self.turns.last().is_none_or(|last| last.outcome.is_some()), "two run: {event}");
                self.turns.push(Turn { id: turn.to_owned(), text: String::new(), outcome: None });
            }
            "turn_end" => {
                let outcome = event["outcome"].as_str().unwrap().to_owned();
                match self.turns.last_mut().filter(|last| last.id == turn) {
                    Some(last) => {
                        assert_eq!(last.outcome, None, "it ends again: {event}");
                        last.outcome = Some(outcome);
                    }
                    // The turn was cancelled in the queue.
                    None => assert_eq!(outcome, "cancelled", "{event}"),
                }
            }
            "delta" => {
                let last = self.turns.last_mut().filter(|last| last.id == turn && last.outcome.is_none());
                let last = last.unwrap_or_else(|| panic!("of no turn that runs: {event}"));
                last.text.push_str(event["text"].as_str().unwrap());
            }
            _ => {}
        }
    }
}
