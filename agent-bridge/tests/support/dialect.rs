//! A dialect that only the tests know: the process is asked to open a session in the second step of its handshake, a
//! prompt becomes two lines, and answers carry the id of the turn that they belong to.

use std::path::Path;

use serde::{Deserialize, Serialize};
use switchboard_agent_bridge::dialect::{
    CheckpointError, Codec, Conversation, Decoded, Delivered, Dialect, Encoded, Framing, ProcessExit,
    ProcessLifetime, ProcessStart,
};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent},
    wire::{Outcome, TurnReason},
};

pub(crate) const WORDS: &dyn Dialect = &Words;

/// An agent that speaks the dialect, as a shell script. It repeats what is said, and does not end a turn that says
/// `hang`. After a turn that says `work` it works by itself. It knows the session `known` only.
pub(crate) const WORDS_AGENT: &str = r#"
    while read -r word rest; do case "$word" in
        hello) echo who;;
        open) case "$rest" in new) echo opened fresh;; known) echo opened known;; *) echo unknown;; esac;;
        turn) turn=$rest;;
        say) echo "text $turn $rest"; echo 'done another'; [ "$rest" = hang ] || echo "done $turn"
            [ "$rest" != work ] || echo works;;
        stop) [ "$rest" = work ] && echo rests || echo "done $rest";;
    esac; done"#;

#[derive(Debug)]
struct Words;

impl Dialect for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    fn framing(&self) -> Framing {
        Framing::Lines { turn_end: Some("done ".into()) }
    }

    fn lifetime(&self) -> ProcessLifetime {
        ProcessLifetime::Instance
    }

    fn start(&self, _: Option<&str>) -> ProcessStart {
        ProcessStart { arguments: Vec::new(), input: b"hello\n".into() }
    }

    fn codec(&self, conversation: &Conversation<'_>) -> Box<dyn Codec> {
        let session = conversation.session.unwrap_or("new").into();
        Box::new(WordsCodec {
            prefix: conversation.prefix.into(),
            session,
            turn: None,
            cancelled: false,
            works: false,
        })
    }

    fn restore(&self, _: &Path, checkpoint: &str) -> Result<Box<dyn Codec>, CheckpointError> {
        let codec: WordsCodec = serde_json::from_str(checkpoint)?;
        Ok(Box::new(codec))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct WordsCodec {
    prefix: String,
    session: String,
    /// The agent's id of the open turn.
    turn: Option<String>,
    cancelled: bool,
    /// Whether the agent works by itself.
    works: bool,
}

impl Codec for WordsCodec {
    fn decode(&mut self, position: u64, line: &[u8], out: &mut Decoded) {
        let line = String::from_utf8_lossy(line);
        let (word, rest) = line.split_once(' ').unwrap_or((&*line, ""));
        match word {
            "who" => out.replies.push(format!("open {}", self.session).into_bytes()),
            "opened" => {
                out.ready = true;
                out.events.push(AgentEvent::Session { token: rest.into() });
            }
            "unknown" => out.unknown_session = true,
            "text" => {
                let stream = || format!("{}{position}", self.prefix).as_str().into();
                let text = rest.split_once(' ').map_or("", |(_, text)| text);
                out.events.push(AgentEvent::Text { stream: stream(), text: text.into() });
                out.events.push(AgentEvent::TextEnd {
                    stream: stream(),
                    text: None,
                    void: false,
                    sources: Vec::new(),
                });
            }
            "done" if self.turn.as_deref() == Some(rest) => {
                self.turn = None;
                out.end_turn(if self.cancelled { Outcome::Cancelled } else { Outcome::Completed }, None);
            }
            "works" => {
                self.works = true;
                out.begin_agent_turn(TurnReason::Background);
            }
            "rests" => {
                self.works = false;
                let outcome = if self.cancelled { Outcome::Cancelled } else { Outcome::Completed };
                out.end_agent_turn(outcome.into());
            }
            _ => out.alive(),
        }
    }

    fn encode(&self, command: &AgentCommand) -> Encoded {
        match command {
            AgentCommand::Prompt { turn_id, text, .. } => {
                Encoded::lines([format!("turn {turn_id}"), format!("say {text}")])
            }
            AgentCommand::Cancel { .. } => {
                let turns = self.turn.iter().map(String::as_str).chain(self.works.then_some("work"));
                Encoded::lines(turns.map(|turn| format!("stop {turn}")))
            }
            AgentCommand::Answer { .. } => Encoded::Nothing,
        }
    }

    fn delivered(&mut self, command: Delivered<'_>) {
        match command {
            Delivered::Prompt(turn) => (self.turn, self.cancelled) = (Some(turn.to_string()), false),
            Delivered::Cancel | Delivered::CancelAgentTurn => self.cancelled = true,
            Delivered::Answer(_) => {}
        }
    }

    fn exited(&mut self, _: &ProcessExit<'_>, _: &mut Decoded) {}

    fn set_published(&mut self, _: u64) {}

    fn checkpoint(&self) -> String {
        serde_json::to_string(self).unwrap()
    }
}
