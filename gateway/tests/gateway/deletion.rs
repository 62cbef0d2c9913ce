//! The data of a deleted chat is erased from the disk.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::json;

use switchboard_test_support::{Client, Gateway, TIMEOUT};

/// All files below a directory, except those that are removed meanwhile.
fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
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
        let bytes = std::fs::read(path).unwrap_or_default();
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
    assert_eq!(std::fs::read_dir(gateway.path("data/hosts")).unwrap().count(), 1);
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
    assert_eq!(std::fs::read_dir(gateway.path("data/hosts")).unwrap().count(), 0);
    for frame in [
        json!({"type": "attach", "chat_id": chat}),
        json!({"type": "message", "chat_id": chat, "turn_id": "t1", "content": format!("echo {secret}")}),
    ] {
        other.send(&frame);
        assert_eq!(other.wait_for("error")["code"], "unknown_chat");
    }
}
