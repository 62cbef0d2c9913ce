//! The agent dialects that this crate speaks, and the presets of agents known by name.

use std::{ffi::OsStr, fmt, path::PathBuf, str::FromStr};

/// The protocol between an agent and its standard input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Claude Code's stream-json; one process serves many turns.
    Claude,
    /// Plain text: the prompt on standard input, the answer on standard output; one process per prompt.
    Text,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 2] = [Self::Claude, Self::Text];

    /// The dialect's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The error for a dialect name that is not in [`Dialect::ALL`]; contains the unknown name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownDialect(pub String);

impl fmt::Display for UnknownDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown dialect {:?}; known are: claude, text", self.0)
    }
}

impl std::error::Error for UnknownDialect {}

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(name: &str) -> Result<Self, UnknownDialect> {
        Self::ALL
            .into_iter()
            .find(|dialect| dialect.name() == name)
            .ok_or_else(|| UnknownDialect(name.into()))
    }
}

/// An agent whose command and dialect are known by the agent's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentPreset {
    /// The agent's name, the value of `--agent`.
    pub name: &'static str,
    /// The agent's program, followed by its arguments.
    pub command: &'static [&'static str],
    /// The dialect that the agent speaks when it is started with these arguments.
    pub dialect: Dialect,
}

/// All presets, the preferred one first.
pub const AGENT_PRESETS: &[AgentPreset] = &[AgentPreset {
    name: "claude",
    command: &[
        "claude",
        "-p",
        "--input-format",
        "stream-json",
        "--output-format",
        "stream-json",
        "--verbose",
        "--include-partial-messages",
        // Without this option, Claude Code denies tools without asking.
        "--permission-prompt-tool",
        "stdio",
    ],
    dialect: Dialect::Claude,
}];

impl AgentPreset {
    /// The preset with this name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        AGENT_PRESETS.iter().find(|preset| preset.name == name)
    }

    /// The program and its arguments, in the form of [`ProcessConfig::command`](crate::ProcessConfig::command).
    pub fn command(&self) -> Vec<String> {
        self.command.iter().map(|&part| part.into()).collect()
    }

    /// Searches for the agent's program in the absolute directories of `path` (the value of `PATH`).
    pub fn find(&self, path: &OsStr) -> Option<PathBuf> {
        let program = self.command.first()?;
        std::env::split_paths(path)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(program))
            .find(|candidate| is_executable(candidate))
    }
}

/// The first preset whose program is in one of the directories of `path` (the value of `PATH`), and the program's path.
pub fn detect(path: &OsStr) -> Option<(&'static AgentPreset, PathBuf)> {
    AGENT_PRESETS.iter().find_map(|preset| Some((preset, preset.find(path)?)))
}

fn is_executable(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn dialects_parse_by_name() {
        for dialect in Dialect::ALL {
            assert_eq!(dialect.name().parse(), Ok(dialect));
        }
        assert!("Claude".parse::<Dialect>().is_err());
    }

    #[test]
    fn an_agent_is_found_where_it_can_be_executed() {
        let (plain, good) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&plain, &good] {
            std::fs::write(dir.path().join("claude"), "").unwrap();
        }
        let executable = good.path().join("claude");
        std::fs::set_permissions(&executable, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::join_paths([plain.path(), good.path()]).unwrap();
        assert_eq!(detect(&path).map(|(preset, found)| (preset.name, found)), Some(("claude", executable)));
        assert_eq!(detect(plain.path().as_os_str()), None);
    }
}
