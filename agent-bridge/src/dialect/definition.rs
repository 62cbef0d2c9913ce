//! What a dialect says.

use std::{borrow::Cow, fmt, path::Path};

use serde::{Deserialize, Serialize};

use super::{CheckpointError, Codec};

/// The protocol between an agent and its standard input and output.
pub trait Dialect: fmt::Debug + Send + Sync {
    /// The dialect's name in the configuration and on the command line.
    fn name(&self) -> &'static str;

    /// How the output of a process is cut into records.
    fn framing(&self) -> Framing;

    /// How long one process lives.
    fn lifetime(&self) -> ProcessLifetime;

    /// Environment variables for the processes. Configured ones go before them.
    fn environment(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// What a process is started with. `session` is the id of the agent's session to resume; `None` begins a new
    /// session. A dialect without sessions ignores it.
    fn start(&self, session: Option<&str>) -> ProcessStart;

    /// Makes the codec for a started process.
    fn codec(&self, conversation: &Conversation<'_>) -> Box<dyn Codec>;

    /// Makes a codec with the state of a [`Codec::checkpoint`]. `workspace` is the absolute path of the agent's working
    /// directory.
    ///
    /// # Errors
    /// If the checkpoint cannot be read or has another version.
    fn restore(&self, workspace: &Path, checkpoint: &str) -> Result<Box<dyn Codec>, CheckpointError>;
}

/// Two dialects are equal if they have the same name; for comparing configurations.
impl PartialEq for dyn Dialect {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Dialect {}

/// How the output of a process is cut into records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Each line is one record.
    Lines {
        /// Text that occurs in lines that end a turn. A host without a gateway uses it to guess when its agent has
        /// become idle; nothing else depends on it.
        turn_end: Option<Cow<'static, str>>,
    },
    /// The bytes of one read are one record.
    Reads,
}

/// How long one process of an agent lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessLifetime {
    /// One process serves all turns of an agent instance. Its exit ends the instance.
    Instance,
    /// Each prompt gets a process of its own. Its exit ends the turn.
    Prompt,
}

/// What a process is started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessStart {
    /// Arguments after those of the configured command.
    pub arguments: Vec<String>,
    /// Bytes for the process's standard input, in front of everything else that is written to it.
    pub input: Vec<u8>,
}

/// What a codec knows about the process whose output it decodes.
#[derive(Debug, Clone, Copy)]
pub struct Conversation<'a> {
    /// The agent's working directory; an absolute path.
    pub workspace: &'a Path,
    /// First part of every id that the codec makes, so that the ids of two agent instances differ.
    pub prefix: &'a str,
    /// Id of the agent's session that the process resumes; `None` if it begins a new session.
    pub session: Option<&'a str>,
    /// Number of the process within the agent instance; the first one is 1.
    pub process: u64,
}
