//! A dialect of single words, with a handshake in two steps and commands of several lines.

use std::path::Path;

use switchboard_core::{
    agent::AgentCommand,
    wire::{Outcome, TurnReason},
};

use crate::dialect::{
    CheckpointError, Codec, Conversation, Decoded, Delivered, Dialect, Encoded, Framing, ProcessExit,
    ProcessLifetime, ProcessStart,
};

pub(super) const STEPS: &dyn Dialect = &Steps(ProcessLifetime::Instance);
pub(super) const STEPS_PER_PROMPT: &dyn Dialect = &Steps(ProcessLifetime::Prompt);

#[derive(Debug)]
struct Steps(ProcessLifetime);

impl Dialect for Steps {
    fn name(&self) -> &'static str {
        "steps"
    }

    fn framing(&self) -> Framing {
        Framing::Lines { turn_end: None }
    }

    fn lifetime(&self) -> ProcessLifetime {
        self.0
    }

    fn start(&self, session: Option<&str>) -> ProcessStart {
        let arguments = session.iter().flat_map(|session| ["--resume".into(), (*session).into()]).collect();
        ProcessStart { arguments, input: b"hello\n".into() }
    }

    fn codec(&self, _: &Conversation<'_>) -> Box<dyn Codec> {
        Box::new(StepsCodec { lifetime: self.0, cancelled: None, in_background: false })
    }

    fn restore(&self, _: &Path, _: &str) -> Result<Box<dyn Codec>, CheckpointError> {
        Ok(Box::new(StepsCodec { lifetime: self.0, cancelled: None, in_background: false }))
    }
}

#[derive(Debug)]
struct StepsCodec {
    lifetime: ProcessLifetime,
    /// What was cancelled last.
    cancelled: Option<&'static str>,
    in_background: bool,
}

impl Codec for StepsCodec {
    fn decode(&mut self, _: u64, line: &[u8], out: &mut Decoded) {
        match line {
            b"who" => out.replies.push(b"me".into()),
            b"begin" => out.begin_agent_turn(TurnReason::Background),
            b"over" => out.end_agent_turn(Outcome::Completed.into()),
            b"what" => out.replies.extend(self.cancelled.map(Into::into)),
            b"ready" => out.ready = true,
            b"background" => self.in_background = true,
            b"unknown" => out.unknown_session = true,
            b"end" => out.end_turn(Outcome::Completed, None),
            _ => out.alive(),
        }
    }

    fn encode(&self, command: &AgentCommand) -> Encoded {
        match command {
            AgentCommand::Prompt { turn_id, text, .. } => Encoded::lines([&format!("turn {turn_id}"), text]),
            AgentCommand::Cancel { .. } if self.lifetime == ProcessLifetime::Prompt => Encoded::Terminate,
            AgentCommand::Cancel { .. } => Encoded::lines(["stop"]),
            AgentCommand::Answer { request_id, .. } if request_id.as_str() == "r1" => {
                Encoded::lines([format!("no {request_id}")])
            }
            AgentCommand::Answer { .. } => Encoded::Nothing,
        }
    }

    fn delivered(&mut self, command: Delivered<'_>) {
        match command {
            Delivered::Cancel => self.cancelled = Some("the prompt's turn"),
            Delivered::CancelAgentTurn => self.cancelled = Some("the agent's turn"),
            Delivered::Prompt(_) | Delivered::Answer(_) => {}
        }
    }

    fn exited(&mut self, exit: &ProcessExit<'_>, out: &mut Decoded) {
        if self.lifetime == ProcessLifetime::Prompt {
            let outcome = if exit.cancelled { Outcome::Cancelled } else { Outcome::Completed };
            out.end_turn(outcome, None);
        }
    }

    fn works_in_background(&self) -> bool {
        self.in_background
    }

    fn set_published(&mut self, _: u64) {}

    fn checkpoint(&self) -> String {
        "null".into()
    }
}
