//! Messages that were not accepted yet, kept over the end of this program: one private file each, so that two
//! programs do not overwrite each other. Sent twice, they are applied once.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use switchboard_core::ids::{ChatId, TurnId};

/// Messages that are taken up at a start.
const MOST: usize = 64;
/// Longest file that is read, in bytes.
const LONGEST: u64 = 2 * 1024 * 1024;

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unsent {
    /// For which chat; none while there is no chat yet.
    pub(super) chat: Option<ChatId>,
    /// Made once: every attempt carries it.
    pub(super) turn_id: TurnId,
    pub(super) content: String,
}

/// Where they are kept, for one gateway.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Below the data directory, by the gateway's address.
    pub(super) fn new(data_dir: &Path, gateway: &str) -> Self {
        let hash = Sha256::digest(gateway.as_bytes());
        let name: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { dir: data_dir.join("unsent").join(name) }
    }

    /// What an earlier program has left, oldest first. What cannot be read is left alone.
    pub(super) fn load(&self) -> Vec<Unsent> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let mut found: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let mut text = Vec::new();
                fs::File::open(entry.path()).ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
                let unsent: Unsent = serde_json::from_slice(&text).ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, unsent))
            })
            .collect();
        found.sort_by_key(|(written, _)| *written);
        found.truncate(MOST);
        found.into_iter().map(|(_, unsent)| unsent).collect()
    }

    /// Keeps a message, or where it is for from now on.
    pub(super) fn keep(&self, unsent: &Unsent) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let path = self.path(&unsent.turn_id);
        // Whole or not at all; the order of a file is that of its first writing.
        let written = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(unsent).map_err(io::Error::other)?)?;
        if let Some(written) = written {
            file.set_modified(written)?;
        }
        fs::rename(new, path)
    }

    /// It was accepted, or given up.
    pub(super) fn forget(&self, turn_id: &TurnId) {
        // One that is not there is forgotten.
        let _ = fs::remove_file(self.path(turn_id));
    }

    fn path(&self, turn_id: &TurnId) -> PathBuf {
        let hash = Sha256::digest(turn_id.as_str().as_bytes());
        let name: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(name)
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
        store.keep(&one).unwrap();
        store.keep(&two).unwrap();
        let one = Unsent { chat: ChatId::parse("c").ok(), ..one };
        store.keep(&one).unwrap();
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
    fn no_more_are_taken_up_than_can_be_sent() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path(), "x");
        for n in 0..MOST + 5 {
            store.keep(&unsent(&format!("t{n}"), None)).unwrap();
        }
        assert_eq!(store.load().len(), MOST);
    }
}
