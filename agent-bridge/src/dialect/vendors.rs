//! The names that vendors of agents have chosen: environment variables, and folders for an agent's own data.

/// First parts of the names of environment variables that set up an agent.
pub(crate) const VARIABLE_PREFIXES: &[&str] = &["ANTHROPIC_", "CLAUDE_", "OPENAI_"];
/// Folders below the home directory in which agents store their own data.
pub(crate) const DATA_FOLDERS: &[&str] = &[
    ".claude",
    ".claude.json",
    ".codex",
    ".gemini",
    ".config/claude",
    ".config/opencode",
    ".local/share/opencode",
    ".local/state/opencode",
    ".cache/claude-cli-nodejs",
    ".cache/opencode",
];
/// Environment variables that contain the path of such a folder.
pub(crate) const FOLDER_VARIABLES: &[&str] = &["CLAUDE_CONFIG_DIR", "CODEX_HOME"];
/// Programs of agents and their folder, which is created if missing when that program is run.
pub(crate) const PROGRAM_FOLDERS: &[(&str, &str)] =
    &[("claude", ".claude"), ("codex", ".codex"), ("gemini", ".gemini")];
