//! The file changes that tool uses make.

use std::{fmt::Write as _, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchboard_core::wire::FileEdit;

use super::diff::{Bounded, compare};
use crate::dialect::sanitize::shown_path;

/// A change to a file that the agent asked a tool to make.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Edit {
    path: String,
    /// The change as the tool's arguments describe it.
    #[serde(default)]
    asked: Change,
}

/// Changed lines, counted and as the beginning of a unified diff without file names.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Change {
    added: u64,
    deleted: u64,
    diff: Bounded,
}

/// The agent's report on the change.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Outcome {
    structured_patch: Vec<Hunk>,
    original_file: Option<String>,
    content: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hunk {
    old_start: u64,
    old_lines: u64,
    new_start: u64,
    new_lines: u64,
    lines: Vec<String>,
}

impl Edit {
    /// The change that a tool use makes, if the tool is one that changes files.
    pub(super) fn of(tool: &str, arguments: &Value) -> Option<Self> {
        let text = |value: &Value, key: &str| -> String {
            value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let mut asked = Change::default();
        let mut compare = |value: &Value, old: &str, new: &str| {
            let old = if old.is_empty() { String::new() } else { text(value, old) };
            asked.add_difference(&old, &text(value, new));
        };
        let path = match tool {
            "Edit" => {
                compare(arguments, "old_string", "new_string");
                "file_path"
            }
            "MultiEdit" => {
                for edit in arguments.get("edits").and_then(Value::as_array).into_iter().flatten() {
                    compare(edit, "old_string", "new_string");
                }
                "file_path"
            }
            "Write" => {
                compare(arguments, "", "content");
                "file_path"
            }
            "NotebookEdit" => {
                compare(arguments, "", "new_source");
                "notebook_path"
            }
            _ => return None,
        };
        Some(Self { path: text(arguments, path), asked })
    }

    /// The change as clients see it. `outcome` is the agent's report on it, as JSON.
    pub(super) fn done(self, workspace: &Path, call_id: &str, tool: &str, outcome: Option<&str>) -> FileEdit {
        let path = shown_path(workspace, &self.path);
        let outcome: Outcome = outcome.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let Change { added, deleted, diff } = match (&outcome.original_file, &outcome.content) {
            _ if !outcome.structured_patch.is_empty() => patched(&outcome.structured_patch),
            (Some(before), Some(after)) => {
                let mut change = Change::default();
                change.add_difference(before, after);
                change
            }
            _ => self.asked,
        };
        let shown = (!diff.text.is_empty()).then(|| format!("--- {path}\n+++ {path}\n{}", diff.text));
        FileEdit {
            call_id: call_id.into(),
            tool: tool.into(),
            path,
            added,
            deleted,
            diff: shown,
            diff_truncated: diff.truncated,
        }
    }
}

fn patched(hunks: &[Hunk]) -> Change {
    let mut change = Change::default();
    for hunk in hunks {
        let Hunk { old_start, old_lines, new_start, new_lines, lines } = hunk;
        let header = format!("@@ -{old_start},{old_lines} +{new_start},{new_lines} @@");
        for line in std::iter::once(&header).chain(lines) {
            change.added += u64::from(line.starts_with('+'));
            change.deleted += u64::from(line.starts_with('-'));
            // A full text refuses the rest; the lines are still counted.
            let _ = writeln!(change.diff, "{line}");
        }
    }
    change
}

impl Change {
    fn add_difference(&mut self, old: &str, new: &str) {
        let (added, deleted) = compare(old, new, &mut self.diff);
        self.added += added;
        self.deleted += deleted;
    }
}
