//! Why an agent instance ends, according to its records.

use std::{sync::Arc, time::Duration};

use switchboard_core::{agent::AgentExit, wire::TurnError};
use tokio::time::Instant;

use super::{SessionState, backoff::Backoff};
use crate::{
    dialect::{Dialect, ProcessLifetime},
    exec::{status::describe_end, stderr_tail::LastWords},
    host::protocol::SpawnFailure,
};

/// What a session knows about its agent.
#[derive(Debug, Clone)]
pub(crate) struct SessionConfig {
    /// The agent's name in error sentences.
    pub(crate) agent: String,
    pub(crate) dialect: &'static dyn Dialect,
    /// How long a process may take until it is ready.
    pub(crate) start: Duration,
    /// How long a process that is to resume a session may be silent before it is ready.
    pub(crate) resume: Duration,
    /// How long a process may run after it closed its output.
    pub(crate) closed_output: Duration,
    /// The delays after failed starts, shared by all instances of the agent.
    pub(crate) backoff: Arc<Backoff>,
    pub(crate) last_words: LastWords,
}

/// How an agent instance has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Exit(AgentExit),
    /// A process could not be started. The caller finds the words for the reason, and calls [`Backoff::failed`].
    SpawnFailed(SpawnFailure),
}

/// Why an agent instance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReason {
    SpawnFailed(SpawnFailure),
    /// The agent does not know a session although it was to begin a new one.
    NoSession,
    Exited,
    /// The process has closed its output and does not exit.
    ClosedOutput,
    /// The process is not ready in time.
    NotReady,
}

impl SessionState {
    /// Why the instance has ended according to its records; `None` if it has not ended.
    pub(super) fn end_reason(&self, lifetime: ProcessLifetime) -> Option<EndReason> {
        if let Some(failure) = self.spawn_failed {
            return Some(EndReason::SpawnFailed(failure));
        }
        if self.running || self.exited.is_none() || lifetime == ProcessLifetime::Prompt {
            return None;
        }
        match (self.resume_failed(), self.unknown_session) {
            // The agent is started again without the session.
            (true, _) => None,
            (false, true) => Some(EndReason::NoSession),
            (false, false) => Some(EndReason::Exited),
        }
    }

    /// Whether the last process has exited and could not resume its session, in whatever words it said so.
    pub(super) fn resume_failed(&self) -> bool {
        self.resumed && self.exited.is_some() && (!self.ready || self.unknown_session)
    }

    /// Whether a turn is open, the prompt's or one of the agent's own.
    pub(crate) fn in_turn(&self) -> bool {
        self.turn_open || self.agent_turn
    }
}

impl SessionConfig {
    /// How the instance has ended according to all its records; `None` if it has not ended.
    pub(crate) fn end(&self, now: Instant, state: &SessionState) -> Option<End> {
        state.end_reason(self.dialect.lifetime()).map(|reason| self.end_for(now, reason, state))
    }

    /// The end for a reason. A failed start delays the next one.
    pub(super) fn end_for(&self, now: Instant, reason: EndReason, state: &SessionState) -> End {
        let (how, words) = match &state.exited {
            Some(exited) if reason == EndReason::Exited => {
                (describe_end(exited.code, exited.signal), self.last_words.report(&exited.stderr))
            }
            Some(_) | None => Default::default(),
        };
        let why_no_start = match reason {
            EndReason::ClosedOutput => {
                return End::Exit(gone("agent_closed_output", "The agent closed its output."));
            }
            EndReason::SpawnFailed(failure) => return End::SpawnFailed(failure),
            EndReason::Exited if state.ready => {
                return End::Exit(gone("agent_exited", &format!("The agent {how}.{words}")));
            }
            EndReason::Exited => &format!("it {how} before it was ready"),
            EndReason::NoSession => "it refused to begin a session",
            EndReason::NotReady => "it did not answer in time",
        };
        self.backoff.failed(now);
        End::Exit(start_failed(&self.agent, why_no_start, &words))
    }
}

/// The exit of an instance whose agent could not be started. `why` contains no path.
pub(crate) fn start_failed(agent: &str, why: &str, last_words: &str) -> AgentExit {
    let detail = format!("The agent \"{agent}\" could not be started: {why}.{last_words}");
    AgentExit::StartFailed(TurnError { code: "agent_start_failed".into(), detail })
}

/// The exit of an instance whose agent is gone.
pub(crate) fn gone(code: &str, detail: &str) -> AgentExit {
    AgentExit::Gone(TurnError { code: code.into(), detail: detail.into() })
}
