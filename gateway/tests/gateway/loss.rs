//! A journal of which something is missing after the gateway was killed.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use rustix::process::Signal;
use serde_json::json;

use crate::lab::{Client, ECHO, Gateway, run, switchboard};

const FILES: [&str; 3] = ["journal.db", "journal.db-wal", "journal.db.commits"];

pub(crate) fn refused(data: &Path) -> String {
    let files = || FILES.map(|file| fs::read(data.join(file)).ok());
    let before = files();
    let mut command = switchboard();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data).args(ECHO);
    let Output { status, stdout, stderr } = run(command, "");
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(stdout.is_empty());
    assert!(files() == before, "a file was touched: {said}");
    said
}

/// Gives a gateway that is about to start the data directory of another one that has gone.
pub(crate) fn move_in(serve: &Command, data: &Path) {
    let place = serve.get_args().skip_while(|arg| *arg != "--data-dir").nth(1).unwrap();
    fs::rename(data, place).unwrap();
}

/// What was set aside under a name with this end.
pub(crate) fn lost(gateway: &Gateway, end: &str) -> Option<Vec<u8>> {
    let mut names = fs::read_dir(gateway.path("data")).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.strip_prefix("journal.db.lost-").is_some_and(|time| time.ends_with(end))
    };
    names.find(|path| is_it(path)).map(|path| fs::read(path).unwrap())
}

#[test]
fn what_is_missing_after_a_kill_is_said_and_nothing_is_begun_anew() {
    for (file, emptied) in FILES[..2].iter().flat_map(|file| [(file, false), (file, true)]) {
        let mut gateway = Gateway::start(&[]);
        let mut client = gateway.websocket();
        let chat = client.new_chat();
        client.message(&chat, "t1", "to be kept");
        client.wait_for("turn_end");
        gateway.signal(Signal::KILL);
        gateway.wait();
        let data = gateway.path("data");
        let harmed = data.join(file);
        if emptied {
            fs::write(&harmed, "").unwrap()
        } else {
            fs::remove_file(&harmed).unwrap()
        }
        let kept = FILES.map(|file| fs::read(data.join(file)).ok());
        for _ in 0..2 {
            let said = refused(&data);
            assert!(said.contains("holds less than was kept") && said.contains("--accept-loss"), "{said}");
        }

        let again = Gateway::start_with(|serve| {
            move_in(serve, &data);
            serve.args(ECHO).arg("--accept-loss");
        });
        assert!(again.log().contains("lost"), "{}", again.log());
        for (end, before) in ["Z", "Z-wal", "Z.commits"].iter().zip(kept) {
            assert!(lost(&again, end) == before, "{file} {end}");
        }
    }
}

#[test]
fn a_young_journal_without_log_and_count_is_not_begun_anew_without_a_word() {
    let kill = || {
        let mut gateway = Gateway::start(&[]);
        let mut client = gateway.websocket();
        let chat = client.new_chat();
        client.message(&chat, "t1", "to be kept");
        client.wait_for("turn_end");
        gateway.signal(Signal::KILL);
        gateway.wait();
        let data = gateway.path("data");
        fs::remove_file(data.join(FILES[1])).unwrap();
        (gateway, data)
    };
    let (_gateway, data) = kill();
    let mut count = fs::read(data.join(FILES[2])).unwrap();
    let middle = count.len() / 2;
    count[middle..].iter_mut().for_each(|byte| *byte ^= 0xff);
    fs::write(data.join(FILES[2]), count).unwrap();
    assert!(refused(&data).contains("its count of commits is damaged"));

    let (_gateway, data) = kill();
    fs::remove_file(data.join(FILES[2])).unwrap();
    let again = Gateway::start_with(|serve| {
        move_in(serve, &data);
        serve.args(ECHO);
    });
    assert!(again.log().contains("journal.db.commits is missing"), "{}", again.log());

    let (_gateway, data) = kill();
    fs::write(data.join(FILES[0]), "").unwrap();
    fs::remove_file(data.join(FILES[2])).unwrap();
    assert!(refused(&data).contains("the file is empty"));
}

#[test]
fn a_whole_journal_is_served_as_ever_with_accept_loss() {
    let mut gateway = Gateway::start(&[]);
    let mut client = gateway.websocket();
    let chat = client.new_chat();
    client.message(&chat, "t1", "to be kept");
    let epoch = client.wait_for("turn_end")["epoch"].clone();
    gateway.signal(Signal::KILL);
    gateway.wait();
    let data = gateway.path("data");
    let again = Gateway::start_with(|serve| {
        move_in(serve, &data);
        serve.args(ECHO).arg("--accept-loss");
    });
    let mut client = again.websocket();
    client.send(&json!({"type": "attach", "chat_id": chat}));
    assert_eq!(client.wait_for("attached")["epoch"], epoch);
    let names = fs::read_dir(again.path("data")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("lost")));
}
