//! The file changes that tool uses make.

use std::{borrow::Cow, fmt::Write as _, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchboard_core::wire::FileEdit;

use super::records::{Hunk, ToolReport, parse};
use crate::dialect::{diff::Change, sanitize::shown_path};

/// A change to a file that the agent asked a tool to make.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Edit {
    path: String,
    /// The change as the tool's arguments describe it.
    #[serde(default)]
    asked: Change,
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

    /// The change as clients see it, according to the agent's report on it, if there is one.
    pub(super) fn done(
        self,
        workspace: &Path,
        call_id: &str,
        tool: &str,
        report: Option<&ToolReport<'_>>,
    ) -> FileEdit {
        let path = shown_path(workspace, &self.path);
        report.and_then(reported).unwrap_or(self.asked).file_edit(path, call_id, tool)
    }
}

/// The change that the agent reports, if it reports one.
fn reported(report: &ToolReport<'_>) -> Option<Change> {
    if let Some(hunks) = report.structured_patch.as_deref().filter(|hunks| !hunks.is_empty()) {
        return Some(patched(hunks));
    }
    let (before, after) = (report.original_file.as_deref()?, parse::<Cow<'_, str>>(report.content)?);
    let mut change = Change::default();
    change.add_difference(before, &after);
    Some(change)
}

fn patched(hunks: &[Hunk<'_>]) -> Change {
    let mut change = Change::default();
    for hunk in hunks {
        let Hunk { old_start, old_lines, new_start, new_lines, lines } = hunk;
        let header = format!("@@ -{old_start},{old_lines} +{new_start},{new_lines} @@");
        for line in std::iter::once(&*header).chain(lines.iter().map(|line| &**line)) {
            change.added += u64::from(line.starts_with('+'));
            change.deleted += u64::from(line.starts_with('-'));
            // A full text refuses the rest; the lines are still counted.
            let _ = writeln!(change.diff, "{line}");
        }
    }
    change
}
