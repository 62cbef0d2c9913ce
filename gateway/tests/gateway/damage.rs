//! A journal of which a part is damaged on the disk.

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    lab::{Client, ECHO, Gateway, WebClient},
    loss::move_in,
};

/// A chat with an answer that has these words.
fn talk(client: &mut WebClient, words: &str) -> String {
    let chat = client.new_chat();
    client.message(&chat, "t1", words);
    client.wait_for("turn_end");
    chat
}

/// Changes words in the database, which its structure does not notice.
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

fn asked(client: &mut WebClient, frame: Value, event: &str) -> Value {
    client.send(&frame);
    client.wait_for(event)
}

#[test]
fn damage_of_one_chat_is_said_for_good_and_others_are_served() {
    let mut gateway = Gateway::start(&[]);
    let mut client = gateway.websocket();
    let (harmed, whole) = (talk(&mut client, "words that are harmed"), talk(&mut client, "all of these"));
    gateway.signal(Signal::TERM);
    gateway.wait();
    let data = gateway.path("data");
    falsify(&data, "words that are harmed");

    let again = Gateway::start_with(|serve| {
        move_in(serve, &data);
        serve.args(ECHO);
    });
    let mut client = again.websocket();
    for frame in [json!({"type": "attach", "chat_id": harmed}), json!({"type": "history", "chat_id": harmed})]
    {
        let error = asked(&mut client, frame, "error");
        assert_eq!((&error["code"], &error["retryable"]), (&json!("damaged"), &json!(false)), "{error}");
        assert_eq!(error["chat_id"], harmed.as_str());
        assert!(error["detail"].as_str().unwrap().contains("switchboard doctor"), "{error}");
    }
    assert!(again.log().contains("damaged"), "{}", again.log());
    client.send(&json!({"type": "attach", "chat_id": whole}));
    assert!(client.wait_for("snapshot").to_string().contains("all of these"));
    client.message(&whole, "t2", "on it goes");
    assert_eq!(client.wait_for("turn_end")["outcome"], "completed");
}
