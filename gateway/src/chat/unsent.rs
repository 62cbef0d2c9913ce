//! Storage for messages that were not accepted yet when this program ends. Each message has a private file of its own,
//! so that two programs do not overwrite each other's. If both send a message, the gateway applies it once.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use switchboard_core::ids::{ChatId, TurnId};

/// Most messages that are loaded at a start.
const MOST: usize = 64;
/// Longest file that is read, in bytes.
const LONGEST: u64 = 2 * 1024 * 1024;

/// A message that the gateway has not accepted yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unsent {
    /// The chat of the message; `None` for a chat that is still to be created.
    pub(super) chat: Option<ChatId>,
    /// The id of the message's turn, the same in every attempt to send the message.
    pub(super) turn_id: TurnId,
    pub(super) content: String,
}

/// The folder with the unsent messages for one gateway.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store for the gateway at the address `gateway`, in a folder below the data directory.
    pub(super) fn new(data_dir: &Path, gateway: &str) -> Self {
        let hash = Sha256::digest(gateway.as_bytes());
        let name: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { dir: data_dir.join("unsent").join(name) }
    }

    /// Loads the stored messages, oldest first. Files that cannot be read are skipped and stay.
    pub(super) fn load(&self) -> Vec<Unsent> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let mut found: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let path = entry.path();
                let mut text = Vec::new();
                fs::File::open(&path).ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
                let unsent: Unsent = serde_json::from_slice(&text).ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, path.extension().is_some(), unsent))
            })
            .collect();
        found.sort_by_key(|(written, is_new, _)| (*written, *is_new));
        let mut seen = HashSet::new();
        // If a program ended between writing and renaming, a message exists twice, or only under its temporary name.
        found.retain(|(_, _, unsent)| seen.insert(unsent.turn_id.clone()));
        found.truncate(MOST);
        found.into_iter().map(|(_, _, unsent)| unsent).collect()
    }

    /// Stores a message, or replaces it, for example when its chat has become known.
    ///
    /// # Errors
    ///
    /// The folder or the file cannot be written.
    pub(super) fn save(&self, unsent: &Unsent) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let [path, new] = self.paths(&unsent.turn_id);
        // Written under a temporary name and renamed. The time of the first write is preserved, since it gives the
        // order.
        let written = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(unsent).map_err(io::Error::other)?)?;
        if let Some(written) = written {
            file.set_modified(written)?;
        }
        fs::rename(new, path)
    }

    /// Removes a message that was accepted or given up.
    pub(super) fn forget(&self, turn_id: &TurnId) {
        for path in self.paths(turn_id) {
            // A missing file is fine.
            let _ = fs::remove_file(path);
        }
    }

    /// The path of a message's file, and the temporary path that it is written to first.
    fn paths(&self, turn_id: &TurnId) -> [PathBuf; 2] {
        let hash = Sha256::digest(turn_id.as_str().as_bytes());
        let name: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let path = self.dir.join(name);
        let new = path.with_extension("new");
        [path, new]
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn unsent(turn: &str, chat: Option<&str>) -> Unsent {
        Unsent {
            chat: chat.map(|chat| ChatId::parse(chat).unwrap()),
            turn_id: TurnId::parse(turn).unwrap(),
            content: format!("say {turn}"),
        }
    }

    #[test]
    fn what_is_kept_is_private_and_comes_back_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "http://127.0.0.1:8765");
        assert_eq!(store.load(), []);
        let (one, two) = (unsent("../odd", None), unsent("t2", Some("c")));
        store.save(&one).unwrap();
        store.save(&two).unwrap();
        let one = Unsent { chat: ChatId::parse("c").ok(), ..one };
        store.save(&one).unwrap();
        let mut loaded = store.load();
        loaded.sort_by_key(|unsent| unsent.turn_id.to_string());
        assert_eq!(loaded, [one.clone(), two.clone()]);
        for entry in fs::read_dir(&store.dir).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(Store::new(dir.path(), "http://elsewhere:1").load(), [], "another gateway's");
        fs::write(store.dir.join("garbage"), "{").unwrap();
        store.forget(&one.turn_id);
        store.forget(&one.turn_id);
        assert_eq!(store.load(), [two]);
    }

    #[test]
    fn a_program_that_ended_before_it_renamed_a_file_leaves_one_message_that_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "x");
        let (one, two) = (unsent("t1", Some("c")), unsent("t2", None));
        store.save(&one).unwrap();
        let [path, new] = store.paths(&one.turn_id);
        fs::rename(&path, &new).unwrap();
        store.save(&two).unwrap();
        let [path, new] = store.paths(&two.turn_id);
        fs::copy(path, new).unwrap();
        assert_eq!(store.load(), [one.clone(), two.clone()]);
        store.forget(&one.turn_id);
        store.forget(&two.turn_id);
        assert_eq!(fs::read_dir(&store.dir).unwrap().count(), 0);
    }

    #[test]
    fn no_more_are_taken_up_than_can_be_sent() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "x");
        for n in 0..MOST + 5 {
            store.save(&unsent(&format!("t{n}"), None)).unwrap();
        }
        assert_eq!(store.load().len(), MOST);
    }
}
