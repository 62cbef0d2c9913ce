//! Agents whose command and dialect are known by the agent's name.

use std::{ffi::OsStr, path::PathBuf};

use super::{CLAUDE, Dialect};

/// An agent whose command and dialect are known by the agent's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentPreset {
    /// The agent's name, the value of `--agent`.
    pub name: &'static str,
    /// The agent's program, followed by its arguments.
    pub command: &'static [&'static str],
    /// The dialect that the agent speaks when it is started with these arguments.
    pub dialect: &'static dyn Dialect,
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
    dialect: CLAUDE,
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
