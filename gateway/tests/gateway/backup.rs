//! A backup of a running gateway, and its restoration.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::{Value, json};

use rustix::process::Signal;

use switchboard_test_support::{Client, ECHO_AGENT, Gateway, run, switchboard};

use crate::loss::{move_in, refused};

fn command(args: &[&str], data_dir: &Path) -> (bool, String) {
    let mut command = switchboard();
    command.args(args).arg("--data-dir").arg(data_dir);
    let Output { status, stdout, stderr } = run(command, "");
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.success(), said)
}

fn asked(client: &mut impl Client, frame: Value) -> Vec<Value> {
    client.send(&frame);
    client.until("replay_end")
}

fn attached(events: &[Value]) -> &Value {
    events.iter().find(|event| event["event"] == "attached").unwrap()
}

#[test]
fn a_backup_of_a_running_gateway_is_restored_elsewhere() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.websocket();
    let chat = client.new_chat();
    client.message(&chat, "t1", "to be kept");
    client.wait_for("turn_end");
    let events = asked(&mut gateway.unix(), json!({"type": "attach", "chat_id": chat}));
    let epoch = attached(&events)["epoch"].clone();

    let copy = gateway.path("copy.db");
    let file = copy.to_str().unwrap();
    let (made, said) = command(&["backup", file], &gateway.path("data"));
    assert!(made && said.contains("1 chat ("), "{said}");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&copy).unwrap();
    let (made, said) = command(&["backup", file], &gateway.path("data"));
    assert!(!made && said.contains("exists already"), "{said}");
    assert_eq!(std::fs::read(&copy).unwrap(), before, "nothing is overwritten");
    client.message(&chat, "t2", "too late");
    client.wait_for("turn_end");

    let (done, said) = command(&["restore", file], &gateway.path("data"));
    assert!(!done && said.contains("runs on the data directory"), "{said}");
    let restored = Gateway::start_with(|serve| {
        let place = serve.get_args().position(|arg| arg == "--data-dir").unwrap();
        let data_dir = serve.get_args().nth(place + 1).map(PathBuf::from).unwrap();
        let (done, said) = command(&["restore", file], &data_dir);
        assert!(done && said.contains("1 chat ("), "{said}");
        let (done, said) = command(&["restore", file], &data_dir);
        assert!(!done && said.contains("holds chats already"), "{said}");
        serve.args(ECHO_AGENT);
    });
    restored.wait_for_log("a backup that was restored");
    let mut client = restored.unix();
    let after = json!({"epoch": epoch, "seq": 1});
    let events = asked(&mut client, json!({"type": "attach", "chat_id": chat, "after": after}));
    let attached = attached(&events);
    assert_eq!(attached["recovered"], false);
    assert_ne!(attached["epoch"], epoch, "what came after the backup is not taken for what comes now");
    let shown = serde_json::to_string(&events).unwrap();
    assert!(shown.contains("to be kept") && !shown.contains("too late"), "{shown}");
    client.message(&chat, "t1", "to be kept");
    assert_eq!(client.wait_for("message_accepted")["duplicate"], true, "what was accepted stays accepted");
    client.message(&chat, "t2", "too late");
    assert_eq!(client.wait_for("turn_end")["outcome"], "completed", "and what was lost may come again");

    // The restored journal is sound, at its first start and later.
    let mut restored = restored;
    drop(client);
    restored.signal(Signal::TERM);
    restored.wait_for_exit();
    let again = Gateway::start_with(|serve| {
        move_in(serve, &restored.path("data"));
        serve.args(ECHO_AGENT);
    });
    for log in [restored.log(), again.log()] {
        let of_journal: Vec<&str> =
            log.lines().filter(|line| line.contains(" switchboard_gateway::backend: ")).collect();
        assert!(of_journal.iter().any(|line| line.contains("the journal is open")), "{log}");
        assert!(!of_journal.iter().any(|line| line.contains("WARN")), "{log}");
    }
}

#[test]
fn a_backup_that_is_put_in_place_by_hand_is_served_or_the_refusal_says_how() {
    let mut gateway = Gateway::start(&[]);
    let mut client = gateway.websocket();
    let chat = client.new_chat();
    client.message(&chat, "t1", "to be kept");
    client.wait_for("turn_end");
    let copy = gateway.path("copy.db");
    let (made, said) = command(&["backup", copy.to_str().unwrap()], &gateway.path("data"));
    assert!(made, "{said}");
    client.message(&chat, "t2", "too late");
    client.wait_for("turn_end");
    gateway.signal(Signal::TERM);
    gateway.wait_for_exit();
    let data = gateway.path("data");
    std::fs::copy(&copy, data.join("journal.db")).unwrap();
    let said = refused(&data);
    assert!(said.contains("also if you put a backup in its place yourself"), "{said}");
    std::fs::remove_file(data.join("journal.db.commits")).unwrap();
    let again = Gateway::start_with(|serve| {
        move_in(serve, &data);
        serve.args(ECHO_AGENT);
    });
    again.wait_for_log("it may be a backup that was put in its place");
    let shown = serde_json::to_string(&asked(&mut again.unix(), json!({"type": "attach", "chat_id": chat})));
    assert!(shown.unwrap().contains("to be kept"));
}

#[test]
fn what_an_agent_was_told_before_a_backup_it_is_not_told_again() {
    let gateway = Gateway::start_with(|serve| {
        serve.args(["--agent-command", "sleep 1000", "--dialect", "text"]);
    });
    let mut client = gateway.websocket();
    let chat = client.new_chat();
    client.message(&chat, "t1", "to be done once");
    client.wait_for("turn_started");
    let copy = gateway.path("copy.db");
    let (made, said) = command(&["backup", copy.to_str().unwrap()], &gateway.path("data"));
    assert!(made, "{said}");
    let restored = Gateway::start_with(|serve| {
        let place = serve.get_args().position(|arg| arg == "--data-dir").unwrap();
        let data_dir = serve.get_args().nth(place + 1).map(PathBuf::from).unwrap();
        let (done, said) = command(&["restore", copy.to_str().unwrap()], &data_dir);
        assert!(done, "{said}");
        serve.args(ECHO_AGENT); // which would answer
    });
    let mut client = restored.websocket();
    let mut shown = Value::from(asked(&mut client, json!({"type": "attach", "chat_id": chat}))).to_string();
    if !shown.contains("turn_end") {
        shown = client.wait_for("turn_end").to_string();
    }
    assert!(shown.contains("interrupted") && shown.contains("gateway_restarted"), "{shown}");
    client.message(&chat, "t2", "and on it goes");
    assert_eq!(client.wait_for("turn_end")["outcome"], "completed");
}

#[test]
fn what_cannot_be_backed_up_or_restored_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("copy"));
    let (made, said) = command(&["backup", file.to_str().unwrap()], &data);
    assert!(!made && said.contains("data directory") && !file.exists(), "{said}");
    std::fs::write(&file, "something else").unwrap();
    let (done, said) = command(&["restore", file.to_str().unwrap()], &data);
    assert!(!done && said.contains("not a Switchboard journal"), "{said}");
    assert!(!data.exists(), "nothing is left of it");
    // Existing files are left as they are.
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    std::fs::write(data.join("token"), "secret").unwrap();
    let (done, said) = command(&["restore", file.to_str().unwrap()], &data);
    assert!(!done && said.contains("not a Switchboard journal"), "{said}");
    assert_eq!(names(&data), ["token"]);
    std::fs::write(data.join("journal.db"), "chats").unwrap();
    let (done, said) = command(&["restore", file.to_str().unwrap()], &data);
    assert!(!done && said.contains("holds chats already"), "{said}");
    assert_eq!(names(&data), ["journal.db", "token"]);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
