//! Remembers the ids of spooled commands that a gateway may send again.

use std::{collections::BTreeSet, mem};

use super::protocol::{Action, CommandHead};
use crate::limits::RECENT_COMMANDS;

/// The ids of spooled commands since the newest prompt, and of those between it and the prompt before it.
///
/// A gateway that takes an agent over repeats the commands of the open turns, and the replies to output after the
/// journal's last position. A prompt is sent only after the journal has the end of the previous prompt's turn and
/// everything before it, so a command from before the previous prompt is repeated only if it is for an agent's own turn
/// that outlasts two prompts.
///
/// A turn that an agent begins by itself waits for no journal, and each gateway notes it anew, so such a note makes no
/// command old. The note itself is not remembered: it changes nothing at the agent, and between two prompts there may
/// be any number.
///
/// A turn may go on without end. After [`RECENT_COMMANDS`] commands since the newest prompt, they count as commands
/// before it. Should a gateway repeat a command that is forgotten, its decoder knows from the records that it is done.
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
        match (head.opens_turn, &head.action) {
            (true, Action::Note) => return,
            (opens_turn, _) if opens_turn || self.newest.len() >= RECENT_COMMANDS => {
                self.before = mem::take(&mut self.newest);
            }
            _ => {}
        }
        self.newest.insert(head.id.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::protocol::CommandMeaning;

    fn command(id: &str, opens_turn: bool) -> CommandHead {
        CommandHead { id: id.into(), action: Action::Write, opens_turn, meaning: CommandMeaning::Reply }
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

    #[test]
    fn a_turn_without_end_takes_no_memory_without_end() {
        let mut recent = RecentCommands::default();
        recent.insert(&command("prompt", true));
        for number in 0..3 * RECENT_COMMANDS {
            recent.insert(&command(&format!("answer{number}"), false));
            assert!(recent.newest.len() + recent.before.len() <= 2 * RECENT_COMMANDS);
            let earliest = number.saturating_sub(RECENT_COMMANDS);
            assert!(recent.contains(&format!("answer{earliest}")), "{number}");
        }
    }

    #[test]
    fn turns_that_the_agent_begins_by_itself_make_no_command_old() {
        let mut recent = RecentCommands::default();
        let commands = ["prompt", "cancel", "answer"];
        for id in commands {
            recent.insert(&command(id, id == "prompt"));
        }
        for position in 0..1000 {
            recent.insert(&CommandHead { action: Action::Note, ..command(&format!("a{position}"), true) });
        }
        assert!(commands.iter().all(|id| recent.contains(id)));
        assert_eq!(recent.newest.len() + recent.before.len(), commands.len());
    }
}
