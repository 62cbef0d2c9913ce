//! The commands that were sent to a host and whose places among the output are not known yet.

use bytes::Bytes;
use serde::Deserialize;

use crate::host::protocol::{CommandHead, ToHost};

/// What gateway and host have to agree on about commands. A sender of commands must hold the lock, so that they arrive in
/// the order of their offsets.
#[derive(Debug)]
pub(super) struct Awaited {
    /// The offset up to which output was decoded; `None` for a host of version 2, which finds the places itself.
    pub(super) decoded: Option<u64>,
    /// The ids of commands whose notes have not come.
    ids: Vec<String>,
}

/// The part of a [`CommandHead`] that is needed here.
#[derive(Deserialize)]
struct Id {
    id: String,
}

impl Awaited {
    pub(super) fn new(decoded: Option<u64>) -> Self {
        Self { decoded, ids: Vec::new() }
    }

    /// Makes the message for a command.
    pub(super) fn command(&mut self, head: CommandHead, bytes: Bytes) -> ToHost {
        if self.decoded.is_some() {
            self.ids.push(head.id.clone());
        }
        ToHost::Command { head, offset: self.decoded, bytes }
    }

    /// Notes that the note of a command has come, with this payload.
    pub(super) fn came_back(&mut self, head: &[u8]) {
        if !self.ids.is_empty()
            && let Ok(Id { id }) = serde_json::from_slice(head)
        {
            self.was_known(id.as_bytes());
        }
    }

    /// Notes that a command was a repeat, which gets no note.
    pub(super) fn was_known(&mut self, id: &[u8]) {
        self.ids.retain(|awaited| awaited.as_bytes() != id);
    }

    /// Notes that the host carries out no commands any more.
    pub(super) fn clear(&mut self) {
        self.ids.clear();
    }

    /// Whether output may be decoded. It must wait while the place of a command in it is unknown.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::protocol::{Action, CommandMeaning};

    #[test]
    fn output_waits_for_the_notes_of_all_commands() {
        let head = |id: &str| CommandHead {
            id: id.into(),
            action: Action::Note,
            opens_turn: false,
            meaning: CommandMeaning::Reply,
        };
        let mut awaited = Awaited::new(Some(300));
        for id in ["first", "second"] {
            let ToHost::Command { offset, .. } = awaited.command(head(id), Bytes::new()) else { panic!() };
            assert_eq!(offset, Some(300));
        }
        awaited.came_back(&serde_json::to_vec(&head("first")).unwrap());
        awaited.came_back(b"{}");
        assert!(!awaited.is_empty());
        awaited.was_known(b"second");
        assert!(awaited.is_empty());
        // A host of version 2 sends the output itself.
        let mut awaited = Awaited::new(None);
        let ToHost::Command { offset, .. } = awaited.command(head("first"), Bytes::new()) else { panic!() };
        assert!(offset.is_none() && awaited.is_empty());
    }
}
