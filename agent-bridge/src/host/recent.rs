//! Remembers the ids of spooled commands that a gateway may send again.

use std::{collections::BTreeSet, mem};

use super::protocol::CommandHead;

/// The ids of spooled commands of the newest turn and of the turn before it.
///
/// A gateway that takes an agent over repeats the commands of the open turn, and the replies to output after the
/// journal's last position. A turn begins only after the journal has the end of the previous turn and everything before
/// it, so a command from two turns ago is never repeated.
#[derive(Debug, Default)]
pub(crate) struct RecentCommands {
    newest: BTreeSet<String>,
    before: BTreeSet<String>,
}

impl RecentCommands {
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.newest.contains(id) || self.before.contains(id)
    }

    pub(crate) fn insert(&mut self, head: &CommandHead) {
        if head.opens_turn {
            self.before = mem::take(&mut self.newest);
        }
        self.newest.insert(head.id.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::protocol::{Action, CommandMeaning};

    fn command(id: &str, opens_turn: bool) -> CommandHead {
        CommandHead { id: id.into(), action: Action::Note, opens_turn, meaning: CommandMeaning::Reply }
    }

    #[test]
    fn commands_of_two_turns_are_known_and_no_more_however_many_turns_there_are() {
        let mut recent = RecentCommands::default();
        recent.insert(&command("start1", false));
        for turn in 0..1000 {
            recent.insert(&command(&format!("prompt{turn}"), true));
            recent.insert(&command(&format!("answer{turn}"), false));
            let known = |turn: u32| {
                [recent.contains(&format!("prompt{turn}")), recent.contains(&format!("answer{turn}"))]
            };
            assert_eq!(known(turn), [true; 2]);
            if turn == 0 {
                assert!(recent.contains("start1"));
            } else {
                assert_eq!(known(turn - 1), [true; 2]);
            }
            assert!(recent.newest.len() + recent.before.len() <= 4);
        }
    }
}
