//! What people do with a gateway: each scene in a chat of its own, which is deleted at the end.

use std::io::Write as _;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use switchboard_test_support::{Client, Gateway, Rng};

use crate::log::Log;

/// A way to connect.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Over {
    WebSocket,
    Sse,
    Unix,
}

pub(crate) const WAYS: [Over; 3] = [Over::WebSocket, Over::Sse, Over::Unix];

/// Connects, and reads `ready`.
pub(crate) fn connect(gateway: &Gateway, over: Over) -> Box<dyn Client> {
    let mut client: Box<dyn Client> = match over {
        Over::WebSocket => {
            // Without the subprotocol, a line that is no JSON is a message.
            let mut request = format!("ws://{}/ws", gateway.address).into_client_request().unwrap();
            let bearer = format!("Bearer {}", gateway.token());
            for (name, value) in [("Authorization", &*bearer), ("Sec-WebSocket-Protocol", "switchboard.v1")] {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            Box::new(gateway.websocket_with(request).unwrap_or_else(|error| panic!("{error}")).0)
        }
        // It has read its `ready` already.
        Over::Sse => return Box::new(gateway.sse("")),
        Over::Unix => Box::new(gateway.unix()),
    };
    client.wait_for("ready");
    client
}

/// A visitor: plays scenes, each with a client of its own.
pub(crate) struct Visitor<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) rng: Rng,
    /// The number of messages sent, for unique turn ids.
    messages: u64,
    /// The prefix of turn ids.
    name: String,
}

/// A chat, a client that is attached to it, and the log that the client has received.
struct Open {
    client: Box<dyn Client>,
    log: Log,
}

pub(crate) type Scene = fn(&mut Visitor<'_>, Over);

pub(crate) const SCENES: [(&str, Scene); 10] = [
    ("converse", |visitor, over| visitor.converses(over)),
    ("drop and resume", |visitor, over| visitor.drops_and_resumes(over)),
    ("two watch", |visitor, over| visitor.watches(over)),
    ("cancel", |visitor, over| visitor.cancels(over)),
    ("permission", |visitor, over| visitor.answers_a_permission_request(over)),
    ("questions", |visitor, over| visitor.answers_questions(over)),
    ("agent dies", |visitor, over| visitor.sees_an_agent_die(over)),
    ("browse", |visitor, over| visitor.browses(over)),
    ("malformed frames", |visitor, over| visitor.sends_malformed_frames(over)),
    ("vanish", |visitor, over| visitor.vanishes(over)),
];

/// Frames to be damaged. None of them makes a chat.
const FRAMES: [&str; 6] = [
    r#"{"type":"attach","chat_id":"nowhere","after":{"epoch":"e","seq":1}}"#,
    r#"{"type":"history","chat_id":"nowhere","before":"x","limit":3}"#,
    r#"{"type":"respond","chat_id":"nowhere","request_id":"r","decision":"allow"}"#,
    r#"{"type":"cancel","chat_id":"nowhere","turn_id":"t"}"#,
    r#"{"type":"delete_chat","chat_id":"nowhere"}"#,
    r#"{"type":"set_goal_state","chat_id":"nowhere","goal_state":{"active":true}}"#,
];

/// Malformed requests.
const REQUESTS: [&[&str]; 3] =
    [&["GET / HTTP/9.9"], &["nothing"], &["GET /ws HTTP/1.1", "Host: localhost", "Upgrade: websocket"]];

impl<'a> Visitor<'a> {
    pub(crate) fn new(gateway: &'a Gateway, name: String, rng: Rng) -> Self {
        Self { gateway, rng, messages: 0, name }
    }

    fn open(&self, over: Over) -> Open {
        let mut client = connect(self.gateway, over);
        client.send(&json!({"type": "new_chat"}));
        let log = Log::begin(&client.wait_for("attached"));
        Open { client, log }
    }

    /// Sends a message, and returns its turn id.
    fn says(&mut self, open: &mut Open, content: &str) -> String {
        self.messages += 1;
        let turn = format!("{}-{}", self.name, self.messages);
        open.client.message(&open.log.chat, &turn, content);
        turn
    }

    fn says_and_waits(&mut self, open: &mut Open, content: &str) -> (String, String) {
        let turn = self.says(open, content);
        open.log.until_end(&mut *open.client, &turn)
    }

    fn any_way(&mut self) -> Over {
        *self.rng.pick(&WAYS).unwrap()
    }

    /// A unique text to echo.
    fn words(&mut self) -> String {
        let count = 3 + self.rng.below(20);
        let words: Vec<String> = (0..count).map(|n| format!("{n}:{:x}", self.rng.below(1 << 20))).collect();
        words.join(" ")
    }

    fn converses(&mut self, over: Over) {
        let mut open = self.open(over);
        for _ in 0..1 + self.rng.below(3) {
            let words = self.words();
            assert_eq!(self.says_and_waits(&mut open, &format!("echo {words}")), completed(&words));
        }
        delete(open);
    }

    /// The connection is lost in the middle of an answer, more than once.
    fn drops_and_resumes(&mut self, over: Over) {
        let mut open = self.open(over);
        let words = self.words();
        let turn = self.says(&mut open, &format!("echo {words}"));
        open.log.until_kind(&mut *open.client, "turn_started");
        for _ in 0..1 + self.rng.below(3) {
            open.client = connect(self.gateway, self.any_way());
            open.log.attach(&mut *open.client);
            open.log.until_kind(&mut *open.client, "replay_end");
        }
        assert_eq!(open.log.until_end(&mut *open.client, &turn), completed(&words));
        delete(open);
    }

    /// A second client attaches, from the beginning or in the middle, and receives the same log.
    fn watches(&mut self, over: Over) {
        let mut open = self.open(over);
        let mut other = Open { client: connect(self.gateway, self.any_way()), log: open.log.clone() };
        other.log.attach(&mut *other.client);
        other.log.until_kind(&mut *other.client, "replay_end");
        let words = [self.words(), self.words()];
        let first = self.says(&mut open, &format!("echo {}", words[0]));
        open.log.until_kind(&mut *open.client, "turn_started");
        let second = self.says(&mut other, &format!("echo {}", words[1]));
        for watcher in [&mut open, &mut other] {
            assert_eq!(watcher.log.until_end(&mut *watcher.client, &first), completed(&words[0]));
            assert_eq!(watcher.log.until_end(&mut *watcher.client, &second), completed(&words[1]));
        }
        assert_eq!(open.log, other.log);
        delete(open);
        until_deleted(&mut *other.client, &other.log.chat);
    }

    fn cancels(&mut self, over: Over) {
        let mut open = self.open(over);
        let turn = self.says(&mut open, "hang");
        let waiting = self.says(&mut open, "hang");
        open.log.until_kind(&mut *open.client, "turn_started");
        for turn in [waiting, turn] {
            open.client.send(&json!({"type": "cancel", "chat_id": open.log.chat, "turn_id": turn}));
            open.log.until(&mut *open.client, |event| {
                event["event"] == "turn_end" && event["turn_id"] == *turn && event["outcome"] == "cancelled"
            });
        }
        delete(open);
    }

    fn answers_a_permission_request(&mut self, over: Over) {
        let mut open = self.open(over);
        let turn = self.says(&mut open, "permission make all");
        let request = open.log.until_kind(&mut *open.client, "permission_request");
        let (decision, resolution) =
            if self.rng.below(2) == 0 { ("allow", "allowed") } else { ("deny", "denied") };
        open.client
            .send(&json!({"type": "respond", "chat_id": open.log.chat, "request_id": request["request_id"],
            "decision": decision}));
        let resolved = open.log.until_kind(&mut *open.client, "request_resolved");
        assert_eq!(resolved["resolution"], resolution, "{resolved}");
        let (outcome, text) = open.log.until_end(&mut *open.client, &turn);
        assert_eq!(outcome, "completed");
        assert_eq!(text.contains("I pretended to run `make all`"), decision == "allow", "{text}");
        delete(open);
    }

    fn answers_questions(&mut self, over: Over) {
        let mut open = self.open(over);
        let turn = self.says(&mut open, "question");
        let question = open.log.until_kind(&mut *open.client, "question");
        open.client.send(
            &json!({"type": "respond", "chat_id": open.log.chat, "request_id": question["request_id"],
            "decision": "answer", "answers": {"Which language should the example be in?": "Rust",
                "What should it have?": ["Tests", "Comments"]}}),
        );
        let (outcome, text) = open.log.until_end(&mut *open.client, &turn);
        assert!(outcome == "completed" && text.contains("**Rust**"), "{outcome}: {text}");
        delete(open);
    }

    /// The next message is answered by another agent.
    fn sees_an_agent_die(&mut self, over: Over) {
        let mut open = self.open(over);
        assert_eq!(self.says_and_waits(&mut open, "die 3").0, "interrupted");
        let words = self.words();
        assert_eq!(self.says_and_waits(&mut open, &format!("echo {words}")), completed(&words));
        delete(open);
    }

    /// Lists chats, renames a chat, reads its history and disconnects.
    fn browses(&mut self, over: Over) {
        let mut open = self.open(over);
        let words = self.words();
        assert_eq!(self.says_and_waits(&mut open, &format!("echo {words}")), completed(&words));
        let chat = open.log.chat.clone();
        let mut ask = |frame: Value, kind: &str| {
            open.client.send(&frame);
            open.client.wait_for(kind)
        };
        let mut found = false;
        let mut list = json!({"type": "list_chats", "limit": 2});
        loop {
            let page = ask(list, "chats");
            found |= page["chats"].as_array().unwrap().iter().any(|one| one["chat_id"] == *chat);
            let Some(before) = page.get("before") else { break };
            list = json!({"type": "list_chats", "limit": 2, "before": before});
        }
        assert!(found, "{chat} is in no list");
        ask(json!({"type": "rename_chat", "chat_id": chat, "title": words}), "session_updated");
        let mut history = json!({"type": "history", "chat_id": chat, "limit": 3});
        let mut events = 0;
        loop {
            let page = ask(history, "history");
            let of_page = page["events"].as_array().unwrap();
            events += of_page.iter().map(covers).sum::<u64>();
            let Some(before) = page.get("before") else { break };
            history = json!({"type": "history", "chat_id": chat, "limit": 3, "before": before});
        }
        assert_eq!(open.log.cursor()["seq"], events, "history has each number once");
        open.client.send(&json!({"type": "detach", "chat_id": chat}));
        delete(open);
    }

    /// Sends damaged frames. Each is refused, or accepted if it is valid, and the connection stays open.
    fn sends_malformed_frames(&mut self, over: Over) {
        let mut client = connect(self.gateway, over);
        for n in 0..10 {
            let mut frame = (*self.rng.pick(&FRAMES).unwrap()).to_owned();
            let at = usize::try_from(self.rng.below(frame.len() as u64)).unwrap();
            if self.rng.below(2) == 0 {
                frame.truncate(at);
            } else {
                let with = ["}", "[", "\"", "\u{0}", "\\u", "9", "\u{202e}"];
                frame.replace_range(at..=at, self.rng.pick(&with).unwrap());
            }
            client.send_text(&frame);
            let nonce = format!("{n}");
            client.send(&json!({"type": "ping", "nonce": nonce}));
            while client.wait_for("pong")["nonce"] != nonce {}
        }
        let request = self.rng.pick(&REQUESTS).unwrap();
        let status = self.gateway.raw(request).status();
        assert!(status >= 400, "{request:?} gets {status}");
    }

    /// Disconnects in the middle of a frame and of an answer, while another client deletes the chat.
    fn vanishes(&mut self, over: Over) {
        let mut open = self.open(over);
        let turn = self.says(&mut open, "long 2");
        open.log.until(&mut *open.client, |event| event["event"] == "delta" && event["turn_id"] == *turn);
        drop(open.client);
        let mut half = self.gateway.tcp();
        half.write_all(b"GET /ws HTTP/1.1\r\nHost: lo").unwrap();
        drop(half);
        let client = connect(self.gateway, self.any_way());
        delete(Open { client, log: open.log });
    }
}

fn completed(text: &str) -> (String, String) {
    ("completed".to_owned(), text.to_owned())
}

/// How many numbers of the log an event has.
fn covers(event: &Value) -> u64 {
    let seq = event["seq"].as_u64().unwrap();
    seq - event["first_seq"].as_u64().unwrap_or(seq) + 1
}

/// Deletes the chat, and waits until it is gone.
fn delete(mut open: Open) {
    open.client.send(&json!({"type": "delete_chat", "chat_id": open.log.chat}));
    until_deleted(&mut *open.client, &open.log.chat);
}

fn until_deleted(client: &mut dyn Client, chat: &str) {
    loop {
        let event = client.wait_for("session_updated");
        if event["chat_id"] == *chat && event["scope"] == "deleted" {
            return;
        }
    }
}
