//! Journals that are partly damaged on the disk.

use std::{fs, path::Path, process::Output};

use rustix::process::Signal;
use serde_json::{Value, json};

use switchboard_test_support::{Client, ECHO_AGENT, Gateway, WebSocketClient, run, switchboard};

use crate::loss::{lost, move_in, refused};

/// Makes a chat with an answer that contains these words.
fn talk(client: &mut WebSocketClient, words: &str) -> String {
    let chat = client.new_chat();
    client.message(&chat, "t1", words);
    client.wait_for("turn_end");
    chat
}

/// Changes words in the database file, which leaves the database's structure intact.
fn falsify(data: &Path, words: &str) {
    let file = data.join("journal.db");
    let mut bytes = fs::read(&file).unwrap();
    let places: Vec<usize> =
        (0..bytes.len() - words.len()).filter(|at| bytes[*at..].starts_with(words.as_bytes())).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 1;
    }
    fs::write(file, bytes).unwrap();
}

/// Runs `doctor`, which must fail, and returns what it says about the gateway's journal.
fn doctor(gateway: &Gateway) -> String {
    let mut command = switchboard();
    command
        .args(["doctor", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(gateway.path("data"))
        .args(ECHO_AGENT);
    let Output { status, stdout, .. } = run(command, "");
    assert!(!status.success());
    String::from_utf8(stdout).unwrap()
}

fn asked(client: &mut WebSocketClient, frame: Value, event: &str) -> Value {
    client.send(&frame);
    client.wait_for(event)
}

#[test]
fn damage_of_one_chat_is_said_for_good_and_others_are_served() {
    let mut gateway = Gateway::start(&[]);
    let mut client = gateway.websocket();
    let (harmed, whole) = (talk(&mut client, "words that are harmed"), talk(&mut client, "all of these"));
    gateway.signal(Signal::TERM);
    gateway.wait_for_exit();
    let data = gateway.path("data");
    falsify(&data, "words that are harmed");

    let again = Gateway::start_with(|serve| {
        move_in(serve, &data);
        serve.args(ECHO_AGENT);
    });
    let mut client = again.websocket();
    for frame in [json!({"type": "attach", "chat_id": harmed}), json!({"type": "history", "chat_id": harmed})]
    {
        let error = asked(&mut client, frame, "error");
        assert_eq!((&error["code"], &error["retryable"]), (&json!("damaged"), &json!(false)), "{error}");
        assert_eq!(error["chat_id"], harmed.as_str());
        assert!(error["detail"].as_str().unwrap().contains("switchboard doctor"), "{error}");
    }
    again.wait_for_log("a part of the journal is damaged");
    let said = doctor(&again);
    assert!(said.contains(&format!("The chat {harmed} of owner is damaged: event ")), "{said}");
    assert!(!said.contains(&whole), "{said}");
    client.send(&json!({"type": "attach", "chat_id": whole}));
    assert!(client.wait_for("snapshot").to_string().contains("all of these"));
    client.message(&whole, "t2", "on it goes");
    assert_eq!(client.wait_for("turn_end")["outcome"], "completed");
}

#[test]
fn a_damaged_database_is_refused_until_that_is_accepted_and_then_what_is_left_is_served() {
    let mut gateway = Gateway::start(&[]);
    let mut client = gateway.websocket();
    let chats: Vec<String> = (0..14).map(|n| talk(&mut client, &format!("words of chat {n} "))).collect();
    gateway.signal(Signal::TERM);
    gateway.wait_for_exit();
    let data = gateway.path("data");
    let file = data.join("journal.db");
    let mut bytes = fs::read(&file).unwrap();
    // The page of the database with the words of the tenth chat.
    let words = b"words of chat 10 ";
    let at = bytes.windows(words.len()).rposition(|window| window == words).unwrap() / 4096 * 4096;
    bytes[at..at + 4096].fill(0xaa);
    fs::write(&file, &bytes).unwrap();
    let said = doctor(&gateway);
    assert!(said.contains("The journal is damaged: ") && said.contains("--accept-loss"), "{said}");
    let said = refused(&data);
    assert!(said.contains("is damaged (") && said.contains("--accept-loss"), "{said}");

    let again = Gateway::start_with(|serve| {
        move_in(serve, &data);
        serve.args(ECHO_AGENT).arg("--accept-loss");
    });
    again.wait_for_log("what could be read of it is served");
    assert_eq!(lost(&again, "Z"), Some(bytes));
    let mut client = again.websocket();
    let mut served = 0;
    for (n, chat) in chats.iter().enumerate() {
        let page = asked(&mut client, json!({"type": "history", "chat_id": chat}), "history");
        served += usize::from(page.to_string().contains(&format!("words of chat {n} ")));
    }
    assert!((7..14).contains(&served), "{served} of 14");
    client.message(&chats[10], "t2", "on it goes");
    assert_eq!(client.wait_for("turn_end")["outcome"], "completed");
}

#[test]
fn a_database_to_which_nothing_leads_is_refused_and_kept_and_the_log_says_that_all_is_lost() {
    let mut gateway = Gateway::start(&[]);
    talk(&mut gateway.websocket(), "words of before");
    gateway.signal(Signal::TERM);
    gateway.wait_for_exit();
    let data = gateway.path("data");
    let mut bytes = fs::read(data.join("journal.db")).unwrap();
    // The schema, first with the head of the file and then without.
    let whole = bytes.clone();
    for begin in [0, 100] {
        bytes.clone_from(&whole);
        bytes[begin..4096].fill(0xaa);
        fs::write(data.join("journal.db"), &bytes).unwrap();
        let said = doctor(&gateway);
        assert!(said.contains("damaged") && said.contains("--accept-loss"), "{said}");
        let said = refused(&data);
        assert!(said.contains("is damaged (") && said.contains("--accept-loss"), "{said}");
        assert_eq!(fs::read(data.join("journal.db")).unwrap(), bytes, "it is left as it is");
    }
    let again = Gateway::start_with(|serve| {
        move_in(serve, &data);
        serve.args(ECHO_AGENT).arg("--accept-loss");
    });
    again.wait_for_log("nothing leads to what the journal has of most chats any more");
    assert_eq!(lost(&again, "Z"), Some(bytes));
    assert!(again.log().contains("the files were copied aside"), "{}", again.log());
    talk(&mut again.websocket(), "words of after");
}
