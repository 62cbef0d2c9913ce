//! Names the subagents of an agent for people.

use std::collections::VecDeque;

use serde_json::Value;
use switchboard_core::wire::{ChatBody, ChatEvent, ToolPhase};

use super::text::safe_line;

/// Tool uses whose name is held: the newest ones.
const USES: usize = 256;
/// Characters of a name.
const NAME_CHARACTERS: usize = 80;

/// The tool uses of a chat, each of which may have begun a subagent.
#[derive(Debug, Default)]
pub(super) struct Subagents {
    uses: VecDeque<(String, String)>,
}

impl Subagents {
    /// Notes what the event says about a tool use.
    pub(super) fn note(&mut self, event: &ChatEvent) {
        let ChatBody::ToolEvent { phase: ToolPhase::Start, call_id, name, title, arguments, .. } =
            &event.body
        else {
            return;
        };
        let about = title.clone().or_else(|| arguments.as_ref().and_then(telling)).unwrap_or(name.clone());
        if self.uses.len() == USES {
            self.uses.pop_front();
        }
        self.uses.push_back((call_id.clone(), safe_line(&about, NAME_CHARACTERS)));
    }

    /// The name of the subagent that this tool use began, safe to print; `None` if it is not known.
    pub(super) fn name(&self, call_id: &str) -> Option<&str> {
        self.uses.iter().rev().find(|(known, _)| known == call_id).map(|(_, name)| &**name)
    }
}

/// What a tool use does: its title, and its arguments in short. An agent chose the title, so it does not stand for the
/// arguments.
pub(super) fn about(title: Option<&str>, arguments: &str) -> String {
    match title {
        Some(title) if title.contains(arguments) || arguments.contains(title) => title.to_owned(),
        Some(title) => format!("{title}: {arguments}"),
        None => arguments.to_owned(),
    }
}

/// A tool's arguments in short: the most telling text argument, or all arguments as JSON.
pub(super) fn summary(arguments: &Value) -> String {
    telling(arguments).unwrap_or_else(|| arguments.to_string())
}

fn telling(arguments: &Value) -> Option<String> {
    let telling = ["command", "file_path", "path", "pattern", "url", "query", "description", "prompt"];
    telling.iter().find_map(|name| arguments.get(name)?.as_str()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_does_not_hide_a_command() {
        assert_eq!(about(Some("Tidy up"), "rm -rf ~"), "Tidy up: rm -rf ~");
        assert_eq!(about(Some("Read a.rs"), "a.rs"), "Read a.rs");
        assert_eq!(about(Some("Look around"), "Look around in all of it"), "Look around");
        assert_eq!(about(None, "ls"), "ls");
    }
}
