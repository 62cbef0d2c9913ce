//! Which dialects are spoken here, and which agents are known by name.

use std::{ffi::OsStr, fmt, path::PathBuf, str::FromStr};

/// How an agent talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Claude Code's stream-json: one process over many turns.
    Claude,
    /// The prompt on standard input, the answer on standard output: one process for each message.
    Text,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Claude, Self::Text];

    /// Its name on the command line.
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

/// There is no dialect of this name.
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

/// An agent that is known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentPreset {
    /// Its name, for `--agent`.
    pub name: &'static str,
    /// Its program and arguments.
    pub command: &'static [&'static str],
    /// What it then speaks.
    pub dialect: Dialect,
}

/// The known agents, the preferred one first.
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
        // Without it, tools are denied without asking.
        "--permission-prompt-tool",
        "stdio",
    ],
    dialect: Dialect::Claude,
}];

impl AgentPreset {
    /// The known agent of this name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        AGENT_PRESETS.iter().find(|preset| preset.name == name)
    }

    /// Its command as a configuration holds it.
    pub fn command(&self) -> Vec<String> {
        self.command.iter().map(|&part| part.into()).collect()
    }

    /// Where its program is, looked for in the directories of `path` (the value of `PATH`).
    pub fn find(&self, path: &OsStr) -> Option<PathBuf> {
        let program = self.command.first()?;
        std::env::split_paths(path)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(program))
            .find(|candidate| is_executable(candidate))
    }
}

/// The first known agent whose program is in the directories of `path` (the value of `PATH`), and where.
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
