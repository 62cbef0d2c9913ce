//! Records the prompts and the output of agents by turn, and checks that the log and the clients have exactly the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use switchboard_conformance::journal_model::Journal;
use switchboard_core::{
    agent::AgentEvent,
    ids::{ChatKey, TurnId},
};

use super::{
    agents::{ASIDE, LATE},
    feed::counted,
};

#[derive(Debug, Default)]
pub struct Recorder {
    /// The prompts that agents got and that must not be sent again.
    prompted: BTreeSet<(ChatKey, TurnId)>,
    written: BTreeMap<(ChatKey, TurnId), Written>,
}

/// The output of agents in a turn.
#[derive(Debug, Default)]
struct Written {
    text: String,
    /// An agent has ended the turn.
    ended: bool,
    /// Events of the turn may be missing or doubled in the log, because the journal has lost some of them.
    doubtful: bool,
}

impl Recorder {
    /// An agent gets the prompt of a turn, and begins the turn.
    pub fn prompted(&mut self, chat: &ChatKey, turn_id: &TurnId, text: &str, journal: &Journal) {
        let message = (chat.clone(), turn_id.clone());
        assert!(!self.prompted.contains(&message), "a prompt is sent once: {turn_id}");
        // A prompt whose turn the journal loses may be sent again.
        let is_kept = !journal.lossy || is_started(journal, chat, turn_id);
        let is_first = !self.written.contains_key(&message);
        // If the journal has lost events and the gateway has not noticed yet, the next gateway may not know this agent.
        let is_stale = journal.is_stale(chat);
        self.written.entry(message.clone()).or_default().doubtful |= !is_kept || !is_first || is_stale;
        if is_kept {
            self.prompted.insert(message);
        }
        let open = journal.chat(chat).map_or_else(Vec::new, |record| record.turns);
        let has_started = open
            .iter()
            .any(|turn| turn.turn_id == *turn_id && turn.text == text && turn.started_at_ms.is_some());
        // Commands arrive late: the turn may have ended meanwhile, and the chat may have been deleted.
        let has_ended = || {
            journal.whole_log(chat).iter().any(|event| {
                event.frame.as_str().contains("\"event\":\"turn_end\"")
                    && event.frame.as_str().contains(&format!("\"turn_id\":\"{turn_id}\""))
            })
        };
        assert!(has_started || journal.lossy || has_ended(), "a prompt is durable before it is sent");
    }

    /// An agent wrote these events in its turn. `texts`: how many texts the agent had written before.
    pub fn wrote<'a>(
        &mut self,
        chat: &ChatKey,
        turn_id: &TurnId,
        events: impl IntoIterator<Item = &'a AgentEvent>,
        mut texts: u64,
    ) {
        let written = self.written.entry((chat.clone(), turn_id.clone())).or_default();
        for event in events {
            if let AgentEvent::Text { text, .. } = event {
                texts += 1;
                written.text.push_str(&counted(texts, text));
            } else if let AgentEvent::Reasoning { text, .. }
            | AgentEvent::Message { text }
            | AgentEvent::TextEnd { text: Some(text), .. } = event
            {
                written.text.push_str(text);
            } else if let AgentEvent::ToolStarted { call_id, .. } = event {
                written.text.push_str(&tool("start", call_id));
            } else if let AgentEvent::ToolEnded { call_id, .. } = event {
                written.text.push_str(&tool("end", call_id));
            } else if let AgentEvent::TurnEnded { .. } = event {
                written.ended = true;
            }
        }
    }

    /// The journal has lost committed appends. Every turn that is open or unknown in the journal may be prompted again,
    /// and its events may come again.
    pub fn lost(&mut self, journal: &Journal) {
        for ((chat, turn), written) in &mut self.written {
            written.doubtful |= is_open_or_unknown(journal, chat, turn);
        }
        self.prompted.retain(|(chat, turn)| !is_open_or_unknown(journal, chat, turn));
    }

    /// Compares the text of a whole turn, from the log or from a client, with the output of the agent: each piece once
    /// and in order.
    pub fn check(&self, chat: &ChatKey, end: &Value, text: &str) {
        let turn = end["turn_id"].as_str().expect("a turn");
        let key = (chat.clone(), TurnId::parse(turn).expect("a turn id"));
        let none = Written::default();
        let written = self.written.get(&key).unwrap_or(&none);
        if written.doubtful {
            // An append of unknown outcome that leaves no trace in a chat's record may be made twice.
            let doubtful = self.written.iter().filter(|((of, _), written)| of == chat && written.doubtful);
            let all: BTreeSet<&str> = doubtful.flat_map(|(_, written)| words(&written.text)).collect();
            let unknown = words(text).find(|word| !all.contains(word));
            assert_eq!(unknown, None, "{turn}: {text:?} of {all:?}");
            return;
        }
        let by_agent = matches!(end["outcome"].as_str(), Some("completed" | "failed"));
        let whole = match end["error"]["code"].as_str() {
            None => {
                assert!(!by_agent || written.ended, "{turn}: the agent has not ended this turn: {end}");
                by_agent
            }
            Some(code) => code == "agent_exited",
        };
        if whole {
            assert_eq!(text, written.text, "{turn}: all that was written: {end}");
        } else {
            let shown = written.text.starts_with(text);
            assert!(
                shown,
                "{turn}: the beginning of what was written: {text:?} of {:?}: {end}",
                written.text
            );
        }
    }
}

/// The text that an event of the log or of a page adds to its turn.
pub fn text_of(event: &Value) -> String {
    let text = || event["text"].as_str().unwrap_or("").to_owned();
    match event["event"].as_str() {
        Some("delta" | "stream_end") if event["stream_id"] == ASIDE => String::new(),
        Some("delta" | "reasoning_delta" | "stream_end") => text(),
        // A progress message may belong to the turn before.
        Some("message") if event["kind"].is_null() => text(),
        // Agents end their tool uses well; the hub ends those that are open at the end of a turn.
        Some("tool_event") if event["phase"] == "error" || event["call_id"] == LATE => String::new(),
        Some("tool_event") => {
            let field = |name: &str| event[name].as_str().expect("a text").to_owned();
            tool(&field("phase"), &field("call_id"))
        }
        _ => String::new(),
    }
}

fn tool(phase: &str, call_id: &str) -> String {
    format!("<{phase} {call_id}>")
}

/// The numbers of the pieces of a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('[').skip(1).filter_map(|rest| rest.split_once(']').map(|(word, _)| word))
}

/// Whether the journal has a turn and its start. If only the start is lost, the turn is queued for the next gateway.
fn is_started(journal: &Journal, chat: &ChatKey, turn: &TurnId) -> bool {
    let open = journal.chat(chat).map_or_else(Vec::new, |record| record.turns);
    let waits = open.iter().any(|open| open.turn_id == *turn && open.started_at_ms.is_none());
    journal.has_turn(chat, turn.as_str()) && !waits
}

fn is_open_or_unknown(journal: &Journal, chat: &ChatKey, turn: &TurnId) -> bool {
    let open = journal.chat(chat).map_or_else(Vec::new, |record| record.turns);
    !journal.has_turn(chat, turn.as_str()) || open.iter().any(|open| open.turn_id == *turn)
}
