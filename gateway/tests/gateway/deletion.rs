//! The data of a deleted chat is erased from the disk.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::{Value, json};

use switchboard_test_support::{
    Client, Gateway, TIMEOUT, becomes_true, config_file, eventually, report_skipped,
};

/// All files below a directory, except those that are removed meanwhile.
fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&entry.path(), into);
        } else {
            into.push(entry.path());
        }
    }
}

/// The files of the data directory that contain a text.
fn holding(gateway: &Gateway, text: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    files(&gateway.path("data"), &mut all);
    let holds = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    all.into_iter().filter(holds).collect()
}

#[test]
fn a_deleted_chat_leaves_neither_process_nor_text() {
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent", "demo"]);
    });
    let (mut client, mut other) = (gateway.websocket(), gateway.unix());
    let chat = client.new_chat();
    let secret = "nobody-else-knows";
    client.message(&chat, "t1", &format!("echo {secret}"));
    client.wait_for("turn_end");
    client.message(&chat, "t2", &format!("permission touch {secret}"));
    client.wait_for("permission_request");
    other.send(&json!({"type": "attach", "chat_id": chat}));
    other.wait_for("replay_end");
    assert!(!holding(&gateway, secret).is_empty(), "the journal, and the host's spool");
    assert_eq!(fs::read_dir(gateway.path("data/hosts")).unwrap().count(), 1);
    client.send(&json!({"type": "delete_chat", "chat_id": chat}));
    for client in [&mut client as &mut dyn Client, &mut other] {
        assert_eq!(client.wait_for("turn_end")["outcome"], "cancelled");
        while client.wait_for("session_updated")["scope"] != "deleted" {}
    }
    // The log is cut, and the directory removed, by threads of their own.
    let until = Instant::now() + TIMEOUT;
    while !holding(&gateway, secret).is_empty() && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(holding(&gateway, secret), Vec::<PathBuf>::new());
    assert_eq!(fs::read_dir(gateway.path("data/hosts")).unwrap().count(), 0);
    for frame in [
        json!({"type": "attach", "chat_id": chat}),
        json!({"type": "message", "chat_id": chat, "turn_id": "t1", "content": format!("echo {secret}")}),
    ] {
        other.send(&frame);
        assert_eq!(other.wait_for("error")["code"], "unknown_chat");
    }
}

/// A small file system in memory, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::DirBuilder::new().mode(0o700).create(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-n", "-t", "tmpfs", "-o", "size=40m,mode=0700", "tmpfs"]).arg(&at);
        mount.output().is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    fn fill(&self) {
        assert!(fs::write(self.0.join("filler"), vec![1; 64 << 20]).is_err(), "it is larger than the disk");
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-n", "--lazy"]).arg(&self.0).status();
        // The gateway's directory could not be removed while this was mounted in it.
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// The answer to a frame, by the kinds that answer it.
fn answer(client: &mut impl Client, frame: &Value, kinds: &[&str]) -> Value {
    client.send(frame);
    loop {
        let event = client.next().unwrap();
        if kinds.iter().any(|kind| event["event"] == *kind) {
            return event;
        }
    }
}

#[test]
fn a_deletion_that_a_full_disk_refuses_changes_nothing_and_works_when_there_is_room() {
    let mut disk = None;
    let gateway = Gateway::start_with(|command| {
        let data =
            command.get_args().skip_while(|arg| *arg != "--data-dir").nth(1).map(PathBuf::from).unwrap();
        disk = SmallDisk::mount(data.clone());
        let config = config_file(data.parent().unwrap(), "[limits]\njournal_retry_ms = 50\n");
        command.args(["--agent", "demo", "--config"]).arg(config);
    });
    let Some(disk) = &disk else {
        return report_skipped("a deletion on a full disk: no file system can be mounted (this needs root)");
    };
    let (mut client, mut other) = (gateway.websocket(), gateway.unix());
    let (chat, filler) = (client.new_chat(), client.new_chat());
    let secret = "nobody-else-knows";
    client.message(&chat, "t1", &format!("echo {secret}"));
    client.wait_for("turn_end");
    let attach = json!({"type": "attach", "chat_id": chat});
    let log = |client: &mut dyn Client| {
        client.send(&json!({"type": "history", "chat_id": chat}));
        client.wait_for("history")["events"].take()
    };
    let before = log(&mut client);
    assert!(before.to_string().contains(secret));

    disk.fill();
    // What was allocated for the journal before may still take some messages.
    let mut turn = 0;
    eventually("the journal takes nothing more", || {
        turn += 1;
        let message =
            json!({"type": "message", "chat_id": filler, "content": "x", "turn_id": format!("t{turn}")});
        let taken = answer(&mut client, &message, &["message_accepted", "error"]);
        taken["code"] == "unavailable"
    });
    let delete = json!({"type": "delete_chat", "chat_id": chat});
    for _ in 0..3 {
        let refusal = answer(&mut client, &delete, &["error", "session_updated"]);
        assert_eq!(
            (&refusal["code"], &refusal["chat_id"]),
            (&json!("unavailable"), &json!(chat)),
            "{refusal}"
        );
        assert!(refusal["retryable"] == true, "{refusal}");
        assert_eq!(log(&mut other), before, "nothing of it is gone");
        let chats = answer(&mut other, &json!({"type": "list_chats"}), &["chats"]);
        assert!(chats.to_string().contains(&chat), "{chats}");
    }

    disk.free();
    eventually("it is deleted", || {
        answer(&mut client, &delete, &["error", "session_updated"])["scope"] == "deleted"
    });
    assert_eq!(answer(&mut other, &attach, &["attached", "error"])["code"], "unknown_chat");
    assert!(becomes_true(|| holding(&gateway, secret).is_empty()), "{:?}", holding(&gateway, secret));
}
