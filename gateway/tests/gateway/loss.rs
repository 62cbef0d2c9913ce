//! Journals of which a part is missing after the gateway was killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use switchboard_test_support::{Client, ECHO_AGENT, Gateway, run, switchboard};

const FILES: [&str; 3] = ["journal.db", "journal.db-wal", "journal.db.commits"];

pub(crate) fn refused(data: &Path) -> String {
    let files = || FILES.map(|file| fs::read(data.join(file)).ok());
    let before = files();
    let mut command = switchboard();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data).args(ECHO_AGENT);
    let Output { status, stdout, stderr } = run(command, "");
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(stdout.is_empty());
    assert!(files() == before, "a file was touched: {said}");
    said
}

/// Moves the data directory of a gateway that has ended to one that is about to start.
pub(crate) fn move_in(serve: &Command, data: &Path) {
    let place = serve.get_args().skip_while(|arg| *arg != "--data-dir").nth(1).unwrap();
    fs::rename(data, place).unwrap();
}

/// The files that were set aside under a name with this ending.
pub(crate) fn lost(gateway: &Gateway, end: &str) -> Option<Vec<u8>> {
    let mut names = fs::read_dir(gateway.path("data")).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.strip_prefix("journal.db.lost-").is_some_and(|time| time.ends_with(end))
    };
    names.find(|path| is_it(path)).map(|path| fs::read(path).unwrap())
}

/// A gateway that was killed after one finished turn.
struct Killed {
    /// Owns the directory.
    _gateway: Gateway,
    data: PathBuf,
    chat: String,
    /// The epoch of the chat.
    epoch: Value,
}

impl Killed {
    fn after_a_turn() -> Self {
        let mut gateway = Gateway::start(&[]);
        let mut client = gateway.websocket();
        let chat = client.new_chat();
        client.message(&chat, "t1", "to be kept");
        let epoch = client.wait_for("turn_end")["epoch"].take();
        gateway.signal(Signal::KILL);
        gateway.wait_for_exit();
        Self { data: gateway.path("data"), _gateway: gateway, chat, epoch }
    }

    fn file(&self, index: usize) -> PathBuf {
        self.data.join(FILES[index])
    }

    /// Starts the next gateway on the same data directory.
    fn next_gateway(&self, args: &[&str]) -> Gateway {
        Gateway::start_with(|serve| {
            move_in(serve, &self.data);
            serve.args(ECHO_AGENT).args(args);
        })
    }
}

#[test]
fn what_is_missing_after_a_kill_is_said_and_nothing_is_begun_anew() {
    for (file, emptied) in [(0, false), (0, true), (1, false), (1, true)] {
        let killed = Killed::after_a_turn();
        if emptied {
            fs::write(killed.file(file), "").unwrap()
        } else {
            fs::remove_file(killed.file(file)).unwrap()
        }
        let files = FILES.map(|file| fs::read(killed.data.join(file)).ok());
        for _ in 0..2 {
            let said = refused(&killed.data);
            assert!(
                said.contains("lacks data that was committed") && said.contains("--accept-loss"),
                "{said}"
            );
        }

        let next = killed.next_gateway(&["--accept-loss"]);
        assert!(next.log().contains("lost"), "{}", next.log());
        for (end, before) in ["Z", "Z-wal", "Z.commits"].iter().zip(files) {
            assert!(lost(&next, end) == before, "{} {end}", FILES[file]);
        }
    }
}

#[test]
fn a_young_journal_without_log_and_count_is_not_begun_anew_without_a_word() {
    let without_log = || {
        let killed = Killed::after_a_turn();
        fs::remove_file(killed.file(1)).unwrap();
        killed
    };
    let killed = without_log();
    let mut count = fs::read(killed.file(2)).unwrap();
    let middle = count.len() / 2;
    count[middle..].iter_mut().for_each(|byte| *byte ^= 0xff);
    fs::write(killed.file(2), count).unwrap();
    assert!(refused(&killed.data).contains("its count of commits is damaged"));

    let killed = without_log();
    fs::remove_file(killed.file(2)).unwrap();
    let next = killed.next_gateway(&[]);
    assert!(next.log().contains("journal.db.commits is missing"), "{}", next.log());

    let killed = without_log();
    fs::write(killed.file(0), "").unwrap();
    fs::remove_file(killed.file(2)).unwrap();
    assert!(refused(&killed.data).contains("the file is empty"));
}

#[test]
fn a_whole_journal_is_served_as_ever_with_accept_loss() {
    let killed = Killed::after_a_turn();
    let next = killed.next_gateway(&["--accept-loss"]);
    let mut client = next.websocket();
    client.send(&json!({"type": "attach", "chat_id": killed.chat}));
    assert_eq!(client.wait_for("attached")["epoch"], killed.epoch);
    let names = fs::read_dir(next.path("data")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("lost")));
}
