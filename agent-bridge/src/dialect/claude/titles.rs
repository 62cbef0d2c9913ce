//! What a tool use does, as one line for people and as the files that it concerns.

use std::path::Path;

use serde_json::Value;
use switchboard_core::wire::ToolLocation;

use crate::dialect::sanitize::{line, shown_path};

/// Tool arguments whose value is a path.
const PATH_KEYS: [&str; 3] = ["file_path", "notebook_path", "path"];

/// Longest title, in bytes.
const TITLE_BYTES: usize = 200;

/// One line that says what a tool use does, if its arguments tell.
pub(super) fn title(workspace: &Path, tool: &str, arguments: &Value) -> Option<String> {
    let text = |key| text(arguments, key);
    let file = || locations(workspace, arguments).into_iter().next().map(|file| file.path);
    let of_the_tool = match tool {
        "Bash" => text("description").or_else(|| text("command")).map(str::to_owned),
        "Read" => file().map(|file| format!("Read {file}")),
        "Write" => file().map(|file| format!("Write {file}")),
        "Edit" | "MultiEdit" | "NotebookEdit" => file().map(|file| format!("Edit {file}")),
        "Grep" | "Glob" => text("pattern").map(|pattern| format!("Search for {pattern}")),
        "WebFetch" | "web_fetch" => text("url").map(|url| format!("Fetch {url}")),
        "WebSearch" | "web_search" => text("query").map(|query| format!("Search the web for {query}")),
        _ => text("description").map(str::to_owned),
    };
    of_the_tool.map(|title| line(&title, TITLE_BYTES)).filter(|title| !title.is_empty())
}

/// The files that a tool use concerns.
pub(super) fn locations(workspace: &Path, arguments: &Value) -> Vec<ToolLocation> {
    let paths = PATH_KEYS.iter().filter_map(|key| text(arguments, key));
    let number = arguments.get("offset").and_then(Value::as_u64);
    let number = number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
    let files = paths.map(|path| ToolLocation { path: shown_path(workspace, path), line: number });
    // The workspace itself has no path relative to it.
    files.filter(|file| !file.path.is_empty()).collect()
}

fn text<'a>(arguments: &'a Value, key: &str) -> Option<&'a str> {
    arguments.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn titles_are_one_line() {
        let workspace = Path::new("/workspace");
        for (tool, arguments, expected) in [
            ("Bash", json!({"command": "make\n  all", "description": ""}), Some("make all")),
            ("Bash", json!({"command": "make", "description": "Build\u{1b}[31m it"}), Some("Build it")),
            ("Read", json!({"file_path": "/workspace/src/a.rs"}), Some("Read src/a.rs")),
            ("Edit", json!({"file_path": "/etc/passwd"}), Some("Edit passwd")),
            ("Grep", json!({"pattern": "fn .*", "path": "/workspace"}), Some("Search for fn .*")),
            ("WebSearch", json!({"query": "rust"}), Some("Search the web for rust")),
            ("Task", json!({"description": "Look around", "prompt": "x"}), Some("Look around")),
            ("mcp__x__y", json!({"path": 7}), None),
            ("Bash", json!("text"), None),
        ] {
            assert_eq!(title(workspace, tool, &arguments).as_deref(), expected, "{tool} {arguments}");
        }
        let long = title(workspace, "Bash", &json!({"command": "é".repeat(200)})).unwrap();
        assert!(long.len() <= TITLE_BYTES + '…'.len_utf8() && long.ends_with('…'));
    }

    #[test]
    fn locations_are_relative_inside_and_names_outside() {
        let place = |path: &str, line| ToolLocation { path: path.into(), line };
        for (arguments, expected) in [
            (json!({"file_path": "/workspace/src/a.rs", "offset": 12}), vec![place("src/a.rs", Some(12))]),
            (json!({"notebook_path": "/home/me/n.ipynb", "offset": -1}), vec![place("n.ipynb", None)]),
            (json!({"command": "cat /etc/passwd"}), vec![]),
            (json!({"pattern": "x", "path": "/workspace/"}), vec![]),
        ] {
            assert_eq!(locations(Path::new("/workspace"), &arguments), expected, "{arguments}");
        }
    }
}
