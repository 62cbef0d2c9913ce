//! The dialect `claude`: Claude Code's stream-json, one JSON object per line in both directions.
//!
//! Follows the behaviour of version 2.1.329, recorded in the fixtures. Only a `result` line ends a turn. Text that
//! begins with `/` and names one of the agent's commands (`/clear`, `/context`) is executed by the agent; the codec
//! passes it on unchanged.

mod below;
mod blocks;
mod budget;
mod citing;
mod clock;
mod decode;

mod edits;
mod elicitation;
mod encode;
mod growing;
mod lines;
mod media;
mod notices;
mod piece;
mod questions;
mod records;
mod requests;
mod result;
mod sent_notices;
mod skipped;
mod sources;
mod state;
mod subagents;
mod tasks;
#[cfg(test)]
mod tests;
mod texts;
mod titles;
mod tools;
mod turns;
mod whole;

use std::path::Path;

use switchboard_core::agent::AgentCommand;

use self::state::ClaudeCodec;
use super::{
    CheckpointError, Codec, Conversation, Decoded, Delivered, Dialect, Encoded, Framing, ProcessExit,
    ProcessLifetime, ProcessStart,
};

/// The dialect `claude`.
#[derive(Debug)]
pub(super) struct Claude;

impl Dialect for Claude {
    fn name(&self) -> &'static str {
        "claude"
    }

    fn framing(&self) -> Framing {
        Framing::Lines { turn_end: Some(r#""type":"result""#.into()) }
    }

    fn lifetime(&self) -> ProcessLifetime {
        ProcessLifetime::Instance
    }

    fn start(&self, session: Option<&str>) -> ProcessStart {
        let arguments = session.iter().flat_map(|session| ["--resume".into(), (*session).into()]).collect();
        let mut input = encode::initialize();
        input.push(b'\n');
        ProcessStart { arguments, input }
    }

    fn codec(&self, conversation: &Conversation<'_>) -> Box<dyn Codec> {
        let Conversation { workspace, prefix, session, .. } = conversation;
        Box::new(match session {
            Some(session) => ClaudeCodec::resumed(workspace, prefix, session),
            None => ClaudeCodec::new(workspace, prefix),
        })
    }

    fn restore(&self, workspace: &Path, checkpoint: &str) -> Result<Box<dyn Codec>, CheckpointError> {
        Ok(Box::new(ClaudeCodec::restore(workspace, checkpoint)?))
    }
}

impl Codec for ClaudeCodec {
    fn decode(&mut self, position: u64, line: &[u8], out: &mut Decoded) {
        self.decode_line(position, line, out);
    }

    fn skipped(&mut self, position: u64, prefix: &[u8], bytes: u64, out: &mut Decoded) {
        self.skipped_line(position, prefix, bytes, out);
    }

    fn encode(&self, command: &AgentCommand) -> Encoded {
        Encoded::lines(self.line_for(command))
    }

    fn delivered(&mut self, command: Delivered<'_>) {
        match command {
            Delivered::Prompt(turn_id) => self.prompted(turn_id),
            Delivered::Cancel => self.cancelled(),
            Delivered::CancelAgentTurn => {
                if let Some(turn) = &mut self.state.agent_turn {
                    turn.cancelled = true;
                }
            }
            Delivered::Answer(request_id) => self.answered(request_id),
        }
    }

    fn exited(&mut self, _: &ProcessExit<'_>, out: &mut Decoded) {
        self.tasks_end(out);
    }

    fn works_in_background(&self) -> bool {
        self.has_background_work()
    }

    /// Earlier versions of the gateway named requests by the agent's own ids, so answers to requests from records that
    /// an earlier gateway has published may use those ids.
    fn set_published(&mut self, position: u64) {
        self.published = position;
    }

    fn checkpoint(&self) -> String {
        serde_json::to_string(&self.state).unwrap_or_default()
    }
}
