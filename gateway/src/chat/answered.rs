//! Whether a turn was answered. The agent may take a message into a turn that it began by itself: then both turns end
//! one right after the other, and the answer is in the agent's.

use std::collections::{HashMap, HashSet};

use switchboard_core::{
    ids::TurnId,
    wire::{ChatBody, ChatEvent, TurnOrigin},
};

/// Bytes of an agent's own turn that are held.
const HELD_BYTES: usize = 1024 * 1024;

/// How the agent answered a turn that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// With a text in the turn, or the beginning of the turn is not known.
    There,
    /// In the turn of its own that ended right before, in which it said something. The text is empty unless it was held.
    InItsOwnTurn(String),
    /// Not at all.
    Nowhere,
}

/// What was said in the running turns.
#[derive(Debug, Default)]
pub(super) struct RunningTurns {
    /// Turns whose start is known, and whether the agent said something in them.
    said: HashMap<TurnId, bool>,
    /// The turn that the agent began by itself last.
    own: Option<TurnId>,
    /// The text of `own`, if it is to be held.
    held: String,
    /// Streams of which `held` has deltas.
    streamed: HashSet<String>,
    /// The number of the event that ended the agent's own turn, if the agent said something in it.
    ended: Option<u64>,
}

impl RunningTurns {
    /// Notes what an event says. `hold`: the text of the agent's own turn is not printed, and needed if it turns out
    /// to be the answer to a message.
    pub(super) fn note(&mut self, event: &ChatEvent, hold: bool) {
        let Some(turn_id) = event.place.turn_id.as_ref().filter(|_| event.place.parent_call_id.is_none())
        else {
            return;
        };
        let hold = hold && self.own.as_ref() == Some(turn_id);
        let (text, ends) = match &event.body {
            ChatBody::TurnStarted { origin, .. } => {
                if *origin == TurnOrigin::Agent {
                    self.own = Some(turn_id.clone());
                    self.held.clear();
                    self.streamed.clear();
                }
                self.said.insert(turn_id.clone(), false);
                return;
            }
            ChatBody::Delta { stream_id, text } => {
                if hold {
                    self.streamed.insert(stream_id.clone());
                }
                (Some(text), false)
            }
            ChatBody::StreamEnd { text, stream_id, void: false, .. } => {
                (text.as_ref().filter(|_| !self.streamed.contains(stream_id)), true)
            }
            ChatBody::Message { text, kind: None, .. } => (Some(text), true),
            ChatBody::UserMessage { .. }
            | ChatBody::StreamEnd { void: true, .. }
            | ChatBody::ReasoningDelta { .. }
            | ChatBody::ReasoningEnd { .. }
            | ChatBody::Message { kind: Some(_), .. }
            | ChatBody::ToolEvent { .. }
            | ChatBody::Task(_)
            | ChatBody::FileEdit { .. }
            | ChatBody::Notice { .. }
            | ChatBody::PermissionRequest(_)
            | ChatBody::Question(_)
            | ChatBody::RequestResolved { .. }
            | ChatBody::TurnEnd { .. }
            | ChatBody::GoalState { .. } => return,
        };
        if let Some(said) = self.said.get_mut(turn_id) {
            *said |= text.is_some();
        }
        if hold {
            let line_end = if ends { "\n" } else { "" };
            for text in [text.map_or("", String::as_str), line_end] {
                if self.held.len() + text.len() <= HELD_BYTES {
                    self.held.push_str(text);
                }
            }
        }
    }

    /// How the turn was answered that this event, a `turn_end`, ends.
    pub(super) fn end(&mut self, event: &ChatEvent) -> Answered {
        let said = event.place.turn_id.as_ref().and_then(|turn_id| self.said.remove(turn_id));
        let is_agents = matches!(&event.body, ChatBody::TurnEnd { origin: TurnOrigin::Agent, .. });
        let follows = self.ended.take().is_some_and(|ended| ended + 1 == event.place.seq);
        if is_agents && said != Some(false) {
            self.ended = Some(event.place.seq);
        }
        match said {
            Some(false) if follows && !is_agents => Answered::InItsOwnTurn(std::mem::take(&mut self.held)),
            Some(false) => Answered::Nowhere,
            Some(true) | None => Answered::There,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64, turn: &str, rest: &str) -> ChatEvent {
        let text = format!(r#"{{"chat_id":"d","epoch":"e","seq":{seq},"turn_id":"{turn}",{rest}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    const STARTED: &str = r#""event":"turn_started","started_at_ms":1"#;
    const BY_ITSELF: &str =
        r#""event":"turn_started","started_at_ms":1,"origin":"agent","reason":"background""#;
    const ENDED: &str = r#""event":"turn_end","outcome":"completed","latency_ms":1"#;
    const ITS_END: &str = r#""event":"turn_end","outcome":"completed","latency_ms":1,"origin":"agent""#;

    fn text(text: &str) -> String {
        format!(r#""event":"delta","stream_id":"s","text":"{text}""#)
    }

    fn after(events: &[(&str, &str)]) -> RunningTurns {
        let mut turns = RunningTurns::default();
        for (seq, (turn, rest)) in (1..).zip(events) {
            let event = event(seq, turn, rest);
            turns.note(&event, *turn != "t");
        }
        turns
    }

    #[test]
    fn a_message_may_be_answered_in_the_agents_own_turn() {
        let whole = r#""event":"stream_end","stream_id":"s","text":"one two""#;
        let said = [
            ("own", BY_ITSELF),
            ("t", STARTED),
            ("own", &*text("one ")),
            ("other", STARTED),
            ("other", &*text("somebody else's ")),
            ("own", &*text("two")),
            ("own", whole),
        ];
        let mut turns = after(&said);
        assert_eq!(turns.end(&event(8, "own", ITS_END)), Answered::There);
        assert_eq!(turns.end(&event(9, "t", ENDED)), Answered::InItsOwnTurn("one two\n".into()));
        // A turn that ends later was not taken into the agent's.
        let mut turns = after(&said);
        assert_eq!(turns.end(&event(8, "own", ITS_END)), Answered::There);
        assert_eq!(turns.end(&event(10, "t", ENDED)), Answered::Nowhere);
    }

    #[test]
    fn a_message_that_is_taken_into_a_silent_turn_of_the_agents_is_not_answered() {
        let tool = r#""event":"tool_event","phase":"start","call_id":"k","name":"Bash""#;
        let mut turns = after(&[("own", BY_ITSELF), ("t", STARTED), ("own", tool)]);
        assert_eq!(turns.end(&event(4, "own", ITS_END)), Answered::Nowhere);
        assert_eq!(turns.end(&event(5, "t", ENDED)), Answered::Nowhere);
        // Of a turn whose beginning is not known, nobody can tell that it was silent.
        let mut turns = after(&[("t", STARTED)]);
        assert_eq!(turns.end(&event(2, "own", ITS_END)), Answered::There);
        assert_eq!(turns.end(&event(3, "t", ENDED)), Answered::InItsOwnTurn(String::new()));
    }

    #[test]
    fn a_subagents_text_is_no_answer_and_an_unknown_beginning_is_no_silence() {
        let inner = format!(r#"{},"parent_call_id":"c""#, text("inner"));
        assert_eq!(after(&[("t", STARTED), ("t", &inner)]).end(&event(3, "t", ENDED)), Answered::Nowhere);
        assert_eq!(after(&[("t", STARTED), ("t", &text("x"))]).end(&event(3, "t", ENDED)), Answered::There);
        assert_eq!(after(&[]).end(&event(3, "t", ENDED)), Answered::There);
    }

    #[test]
    fn the_text_that_is_held_is_bounded() {
        let long = text(&"x".repeat(HELD_BYTES));
        let mut turns = after(&[("own", BY_ITSELF), ("t", STARTED), ("own", &long), ("own", &text("y"))]);
        turns.end(&event(5, "own", ITS_END));
        assert_eq!(turns.end(&event(6, "t", ENDED)), Answered::InItsOwnTurn("x".repeat(HELD_BYTES)));
    }
}
