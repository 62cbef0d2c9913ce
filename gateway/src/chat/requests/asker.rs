//! Whose request it is: the agent's, or a subagent's.

use crate::chat::sheet::Sheet;

/// Whose request it is.
#[derive(Debug, Clone, Default)]
pub(in crate::chat) struct Asker {
    /// The request belongs to a turn that the agent began by itself.
    pub(in crate::chat) by_itself: bool,
    /// The name of the subagent that asks; empty if it is not known.
    pub(in crate::chat) subagent: Option<String>,
}

impl Asker {
    /// Says whose request it is, where it is not the agent's in answer to a message.
    pub(super) fn introduce(&self, sheet: &mut Sheet) {
        if self.by_itself {
            sheet.say("In a turn that the agent began by itself:");
        }
        match self.subagent.as_deref() {
            Some("") => sheet.say("A subagent asks."),
            Some(name) => {
                sheet.say("A subagent asks, which has this task:");
                sheet.quote("", name);
            }
            None => {}
        }
    }
}
