//! Tool uses of an agent, and the files that they change, as events show them.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::absent::is_false;

#[cfg(feature = "schema")]
use {schemars::JsonSchema, ts_rs::TS};

/// A tool use in the older vocabulary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ToolHint {
    /// Version of this shape: 1.
    pub version: u8,
    /// Whether the tool use begins, has succeeded or has failed.
    pub phase: ToolPhase,
    /// The id of the tool use.
    pub call_id: String,
    /// The tool, as the agent names it.
    pub name: String,
}

/// A phase of a tool use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum ToolPhase {
    /// The tool use begins.
    Start,
    /// The tool use goes on: there are more arguments, or there is more output.
    Update,
    /// The tool use has succeeded.
    End,
    /// The tool use has failed or was denied.
    Error,
}

/// A file that a tool use concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ToolLocation {
    /// The file's path relative to the workspace; for a file outside the workspace only its name.
    pub path: String,
    /// The line, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub line: Option<u32>,
}

/// A picture or another medium in a tool's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct ToolMedia {
    /// The medium's type, such as `image/png`.
    pub media_type: String,
    /// The medium's size in bytes.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub bytes: u64,
}

/// A page that an agent cites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct Source {
    /// The page's address. It comes from the agent and may have any scheme.
    pub url: String,
    /// The page's title, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub title: Option<String>,
}

/// A changed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct FileEdit {
    /// The id of the tool use that changed the file.
    pub call_id: String,
    /// The tool, as the agent names it.
    pub tool: String,
    /// The file's path relative to the workspace; for a file outside the workspace only its name.
    pub path: String,
    /// Lines added.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub added: u64,
    /// Lines deleted.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub deleted: u64,
    /// The change as a unified diff, if it is known and small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub diff: Option<String>,
    /// Whether `diff` is only the beginning of the change, or is missing, because the change is too large.
    #[serde(default, skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
    pub diff_truncated: bool,
}
