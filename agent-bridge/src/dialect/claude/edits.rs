//! The file changes that tool uses make.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};
use switchboard_core::wire::FileEdit;

use crate::{
    dialect::sanitize::shown_path,
    limits::{DIFF_BYTES, DIFF_INPUT_BYTES},
};

/// Tool arguments whose value is a path.
const PATH_KEYS: [&str; 3] = ["file_path", "notebook_path", "path"];

/// A change to a file that the agent asked a tool to make.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Edit {
    path: String,
    /// Old and new text of each changed place; `None` if the texts are too long to be stored.
    pairs: Option<Vec<(String, String)>>,
}

/// The agent's report on the change.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Outcome {
    structured_patch: Vec<Hunk>,
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
        let text =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let pair = |value: &Value| (text(value, "old_string"), text(value, "new_string"));
        let (path, pairs) = match tool {
            "Edit" => (text(arguments, "file_path"), vec![pair(arguments)]),
            "MultiEdit" => {
                let edits = arguments.get("edits").and_then(Value::as_array);
                (text(arguments, "file_path"), edits.into_iter().flatten().map(pair).collect())
            }
            "Write" => (text(arguments, "file_path"), vec![(String::new(), text(arguments, "content"))]),
            "NotebookEdit" => {
                (text(arguments, "notebook_path"), vec![(String::new(), text(arguments, "new_source"))])
            }
            _ => return None,
        };
        let bytes: usize = pairs.iter().map(|(old, new)| old.len() + new.len()).sum();
        Some(Self { path, pairs: (bytes <= DIFF_INPUT_BYTES).then_some(pairs) })
    }

    /// The change as clients see it. `outcome` is the agent's report on it, as JSON.
    pub(super) fn done(self, workspace: &Path, call_id: &str, tool: &str, outcome: Option<&str>) -> FileEdit {
        let path = shown_path(workspace, &self.path);
        let outcome: Outcome = outcome.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let (added, deleted, body) = if outcome.structured_patch.is_empty() {
            compared(&self.pairs.unwrap_or_default())
        } else {
            patched(&outcome.structured_patch)
        };
        let diff = format!("--- {path}\n+++ {path}\n{body}");
        let diff = (!body.is_empty() && diff.len() <= DIFF_BYTES).then_some(diff);
        FileEdit {
            call_id: call_id.into(),
            tool: tool.into(),
            path,
            added,
            deleted,
            diff,
            diff_truncated: false,
        }
    }
}

fn patched(hunks: &[Hunk]) -> (u64, u64, String) {
    let (mut added, mut deleted, mut body) = (0, 0, String::new());
    for hunk in hunks {
        let Hunk { old_start, old_lines, new_start, new_lines, lines } = hunk;
        body.push_str(&format!("@@ -{old_start},{old_lines} +{new_start},{new_lines} @@\n"));
        for line in lines {
            added += u64::from(line.starts_with('+'));
            deleted += u64::from(line.starts_with('-'));
            body.push_str(line);
            body.push('\n');
        }
    }
    (added, deleted, body)
}

fn compared(pairs: &[(String, String)]) -> (u64, u64, String) {
    let (mut added, mut deleted, mut body) = (0, 0, String::new());
    for (old, new) in pairs {
        let diff = TextDiff::from_lines(old, new);
        for change in diff.iter_all_changes() {
            added += u64::from(change.tag() == ChangeTag::Insert);
            deleted += u64::from(change.tag() == ChangeTag::Delete);
        }
        body.push_str(&diff.unified_diff().missing_newline_hint(false).to_string());
        if !body.is_empty() && !body.ends_with('\n') {
            body.push('\n');
        }
    }
    (added, deleted, body)
}

/// Tool arguments as an event contains them: paths are shortened. The input of a permission request is not shortened.
pub(super) fn shown_arguments(workspace: &Path, mut arguments: Value) -> Value {
    for key in PATH_KEYS {
        if let Some(Value::String(path)) = arguments.get_mut(key) {
            *path = shown_path(workspace, path);
        }
    }
    arguments
}
