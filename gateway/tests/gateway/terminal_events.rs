//! What `switchboard chat` prints of events at a terminal. The test plays the gateway.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
};

use serde_json::{Value, json};
use switchboard_test_support::TIMEOUT;

use crate::terminal::Terminal;

/// A gateway that sends what the test says, in chat `c1` at first.
struct PlayedGateway {
    frames: BufReader<UnixStream>,
    chat: &'static str,
    /// The turn of the client's message.
    turn: Value,
    seq: u64,
    _dir: tempfile::TempDir,
}

impl PlayedGateway {
    /// Starts the terminal client, which has sent a message, whose turn runs.
    fn with_turn() -> (Self, Terminal) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut terminal = Terminal::open_at(&format!("unix:{}", socket.display()), dir.path());
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut gateway =
            Self { frames: BufReader::new(stream), chat: "c1", turn: json!(null), seq: 1, _dir: dir };
        gateway.send(&json!({"event": "ready", "chat_id": "c1"}));
        terminal.wait_for("> ");
        terminal.write("go");
        let message = gateway.receive("message");
        gateway.turn = message["turn_id"].clone();
        gateway.send(&json!({"event": "message_accepted", "chat_id": "c1", "turn_id": gateway.turn,
            "starts_turn": true, "epoch": "e", "seq": 1}));
        gateway.event(json!({"event": "turn_started", "started_at_ms": 1}));
        (gateway, terminal)
    }

    fn send(&mut self, frame: &Value) {
        writeln!(self.frames.get_mut(), "{frame}").unwrap();
    }

    /// Sends an event of the chat, by default of the message's turn.
    fn event(&mut self, mut event: Value) {
        self.seq += 1;
        for (name, value) in [("chat_id", json!(self.chat)), ("epoch", json!("e")), ("seq", json!(self.seq))]
        {
            event[name] = value;
        }
        if event.get("turn_id").is_none() {
            event["turn_id"] = self.turn.clone();
        }
        self.send(&event);
    }

    fn tool(&mut self, phase: &str, call_id: &str, rest: Value) {
        let mut event = json!({"event": "tool_event", "phase": phase, "call_id": call_id, "name": "Bash"});
        event.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        self.event(event);
    }

    /// Reads the client's frames up to the first one of this type.
    fn receive(&mut self, kind: &str) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.frames.read_line(&mut line).unwrap(), 0, "no {kind}");
            let frame: Value = serde_json::from_str(&line).unwrap();
            if frame["type"] == kind {
                return frame;
            }
        }
    }
}

#[test]
fn what_a_tool_prints_while_it_runs_is_printed_by_lines_and_cleaned() {
    let (mut gateway, mut terminal) = PlayedGateway::with_turn();
    gateway.tool("start", "a", json!({"arguments": {"command": "make"}}));
    gateway.tool("update", "a", json!({"output": "compi"}));
    gateway.tool("update", "a", json!({"output": "ling\r\n\u{1b}[31mred\u{202e}\n"}));
    terminal.wait_for("[Bash] make\r\n  | compiling\r\n  | <U+001B>[31mred<U+202E>\r\n");
    gateway.tool("start", "b", json!({"arguments": {"command": "make test"}}));
    gateway.tool("update", "b", json!({"output": "one test\n"}));
    gateway.tool("update", "a", json!({"output": "linking"}));
    gateway.tool("end", "a", json!({"result": "compiling\nlinking"}));
    terminal.wait_for("[Bash] make test\r\n  | one test\r\n[Bash goes on] make\r\n  | linking\r\n");
    gateway.tool("update", "b", json!({"output": "x\n".repeat(1_000)}));
    gateway.tool("error", "b", json!({"error": "failed"}));
    terminal.wait_for("[Bash goes on] make test\r\n  | x\r\n");
    terminal.wait_for("  | (What follows is not shown.)\r\n[Bash failed] failed\r\n");
}

#[test]
fn a_tool_that_was_stopped_did_not_fail() {
    let (mut gateway, mut terminal) = PlayedGateway::with_turn();
    gateway.tool("start", "a", json!({"arguments": {"command": "make"}}));
    gateway.tool("start", "b", json!({"arguments": {"command": "make test"}}));
    gateway.tool("error", "a", json!({"error": "status 1"}));
    gateway.tool("error", "b", json!({"error": "no result came", "stopped": true}));
    terminal.wait_for("[Bash failed] status 1\r\n[Bash stopped] no result came\r\n");
}

#[test]
fn a_tool_that_a_person_denied_or_that_is_asked_for_no_longer_did_not_fail() {
    let (mut gateway, mut terminal) = PlayedGateway::with_turn();
    let resolutions = [("denied", "denied"), ("withdrawn", "not run"), ("allowed", "failed")];
    for (resolution, said) in resolutions {
        gateway.tool("start", "a", json!({"arguments": {"command": "make"}}));
        gateway.event(json!({"event": "permission_request", "request_id": resolution, "tool": "Bash",
            "input": {"command": "make"}, "call_id": "a"}));
        gateway
            .event(json!({"event": "request_resolved", "request_id": resolution, "resolution": resolution}));
        gateway.tool("error", "a", json!({"error": "no result"}));
        terminal.wait_for(&format!("\r\n[Bash {said}] no result\r\n"));
    }
    // A later use with the same id was not asked for.
    gateway.tool("start", "a", json!({"arguments": {"command": "make"}}));
    gateway.tool("error", "a", json!({"error": "status 1"}));
    terminal.wait_for("[Bash failed] status 1\r\n");
}

#[test]
fn a_message_that_came_while_a_turn_ran_is_marked_since_what_follows_does_not_answer_it() {
    let (mut gateway, mut terminal) = PlayedGateway::with_turn();
    let said = |text: &str, starts_turn: bool| json!({"event": "user_message", "text": text, "turn_id": text, "starts_turn": starts_turn, "created_at_ms": 1, "client_id": "b"});
    gateway.event(said("later", false));
    terminal.wait_for("[b, queued] later\r\n");
    gateway.event(json!({"event": "turn_end", "outcome": "completed", "latency_ms": 1}));
    gateway.event(json!({"event": "turn_end", "outcome": "completed", "latency_ms": 1, "turn_id": "later"}));
    gateway.event(said("now", true));
    terminal.wait_for("[b] now\r\n");
}

#[test]
fn what_was_printed_of_one_chat_does_not_keep_back_anything_of_another() {
    let (mut gateway, mut terminal) = PlayedGateway::with_turn();
    gateway.tool("start", "a", json!({"title": "Look around"}));
    gateway.event(json!({"event": "reasoning_delta", "stream_id": "r", "text": "x"}));
    gateway.event(json!({"event": "delta", "stream_id": "s", "text": "the first chat's"}));
    gateway.event(json!({"event": "delta", "stream_id": "s", "text": " answer", "parent_call_id": "a"}));
    terminal.wait_for("[subagent: Look around]\r\n       answer");
    terminal.write("/attach c2");
    gateway.receive("attach");
    (gateway.chat, gateway.seq) = ("c2", 0);
    gateway.send(&json!({"event": "attached", "chat_id": "c2", "epoch": "e", "head": 0, "recovered": true}));
    gateway.send(&json!({"event": "replay_end", "chat_id": "c2", "epoch": "e", "seq": 0}));
    gateway.event(json!({"event": "turn_started", "started_at_ms": 1}));
    gateway.event(json!({"event": "reasoning_delta", "stream_id": "r", "text": "x"}));
    terminal.wait_for("[thinking]");
    gateway.event(json!({"event": "stream_end", "stream_id": "s", "text": "the second chat's answer"}));
    terminal.wait_for("\r\n  the second chat's answer\r\n");
    gateway.event(json!({"event": "stream_end", "stream_id": "i", "text": "inner", "parent_call_id": "a"}));
    terminal.wait_for("[subagent]\r\n      inner");
    gateway.event(json!({"event": "turn_end", "outcome": "completed", "latency_ms": 1}));
    terminal.wait_for("\r\n> ");
}

#[test]
fn sources_pictures_and_notices_are_named_and_cleaned() {
    let (mut gateway, mut terminal) = PlayedGateway::with_turn();
    gateway.tool("start", "a", json!({"arguments": {"command": "plot"}}));
    let media =
        json!([{"media_type": "image/png", "bytes": 2048}, {"media_type": "a\u{1b}[2Jb", "bytes": 1}]);
    gateway.tool("end", "a", json!({"result": "", "media": media}));
    terminal.wait_for("[Bash: image/png, 2048 bytes]\r\n[Bash: a<U+001B>[2Jb, 1 bytes]\r\n");
    let levels = [("info", "note"), ("warning", "warning"), ("error", "error")];
    for (level, shown) in levels {
        // The client does not know the code, and shows the text.
        gateway.event(
            json!({"event": "notice", "level": level, "code": "new_code", "text": "one\ntwo\u{202e}"}),
        );
        terminal.wait_for_next(&format!("[{shown}] one two<U+202E>\r\n"));
    }
    let sources = json!([{"url": "https://a.example/", "title": "A\u{1b}"}, {"url": "https://b.example/"}]);
    gateway.event(json!({"event": "delta", "stream_id": "s", "text": "As two say."}));
    gateway
        .event(json!({"event": "stream_end", "stream_id": "s", "text": "As two say.", "sources": sources}));
    terminal.wait_for_next(
        "  As two say.\r\n[source: A<U+001B>, https://a.example/]\r\n[source: https://b.example/]\r\n",
    );
}

#[test]
fn the_list_of_chats_marks_the_open_one_and_those_that_run_or_wait() {
    let (mut gateway, mut terminal) = PlayedGateway::with_turn();
    terminal.write("/chats");
    gateway.receive("list_chats");
    let chat = |id: &str, rest: Value| {
        let mut chat =
            json!({"chat_id": id, "updated_at_ms": 1, "running": false, "head": {"epoch": "e", "seq": 1}});
        chat.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        chat
    };
    let chats = json!([
        chat("c1", json!({"title": "Build", "running": true})),
        chat("c2", json!({"title": "Deploy", "running": true, "waiting": true})),
        chat("c3", json!({})),
    ]);
    gateway.send(&json!({"event": "chats", "chats": chats}));
    terminal.wait_for("c1  Build  (open here)  (running)\r\nc2  Deploy  (waits for you)\r\nc3  New chat\r\n");
}

#[test]
fn the_end_of_one_turn_has_no_text_of_another_printed_twice() {
    let (mut gateway, mut terminal) = PlayedGateway::with_turn();
    gateway.event(json!({"event": "turn_started", "turn_id": "~1", "origin": "agent", "started_at_ms": 1}));
    gateway.event(json!({"event": "delta", "stream_id": "s", "text": "once", "turn_id": "~1"}));
    gateway.event(json!({"event": "turn_end", "outcome": "cancelled", "latency_ms": 1}));
    terminal.wait_for("  once\r\nStopped.\r\n");
    gateway.event(json!({"event": "stream_end", "stream_id": "s", "text": "once", "turn_id": "~1"}));
    gateway.event(json!({"event": "message", "text": "and no more", "turn_id": "~1"}));
    terminal.wait_for_next("  and no more\r\n");
}

#[test]
fn what_a_subagent_does_is_indented_like_its_text() {
    let (mut gateway, mut terminal) = PlayedGateway::with_turn();
    gateway.tool("start", "a", json!({"title": "Look around"}));
    gateway.tool("start", "b", json!({"arguments": {"command": "ls"}, "parent_call_id": "a"}));
    gateway.tool("update", "b", json!({"output": "a.rs\n", "parent_call_id": "a"}));
    gateway.tool("error", "b", json!({"error": "no", "parent_call_id": "a"}));
    gateway.event(json!({"event": "delta", "stream_id": "s", "text": "Nothing.", "parent_call_id": "a"}));
    gateway.tool("start", "c", json!({"arguments": {"command": "pwd"}}));
    terminal.wait_for("[Bash] Look around\r\n[subagent: Look around]\r\n    [Bash] ls\r\n      | a.rs\r\n");
    terminal.wait_for_next("    [Bash failed] no\r\n      Nothing.\r\n[Bash] pwd\r\n");
}

#[test]
fn the_prompt_comes_back_below_what_the_program_says_and_not_between_the_turns_of_a_chat() {
    let (mut gateway, mut terminal) = PlayedGateway::with_turn();
    gateway.event(json!({"event": "turn_end", "outcome": "completed", "latency_ms": 1}));
    terminal.wait_for("[ended without an answer]\r\n> ");
    terminal.write("/help");
    terminal.wait_for("commands of their own.\r\n> ");
    terminal.write("/attach c2");
    gateway.receive("attach");
    gateway.send(&json!({"event": "attached", "chat_id": "c2", "epoch": "e", "head": 4, "recovered": false}));
    let in_turn = |seq, turn_id: &str, mut event: Value| {
        event.as_object_mut().unwrap().extend(
            json!({"chat_id": "c2", "epoch": "e", "seq": seq, "turn_id": turn_id})
                .as_object()
                .unwrap()
                .clone(),
        );
        event
    };
    let ended = json!({"event": "turn_end", "outcome": "completed", "latency_ms": 1});
    let events = json!([
        in_turn(1, "t8", json!({"event": "message", "text": "one"})),
        in_turn(2, "t8", ended.clone()),
        in_turn(3, "t9", json!({"event": "message", "text": "two"})),
        in_turn(4, "t9", ended),
    ]);
    gateway.send(
        &json!({"event": "snapshot", "chat_id": "c2", "epoch": "e", "seq": 4, "part": 0, "more": false,
        "events": events, "state": {"queue": [], "requests": []}}),
    );
    gateway.send(&json!({"event": "replay_end", "chat_id": "c2", "epoch": "e", "seq": 4}));
    terminal.wait_for("/attach c2\r\n");
    terminal.wait_for("  one\r\n");
    terminal.wait_for_next("  two\r\n> ");
}

#[test]
fn a_question_stays_on_the_screen_below_what_comes_beside_it_and_takes_an_answer() {
    let (mut gateway, mut terminal) = PlayedGateway::with_turn();
    gateway.event(
        json!({"event": "permission_request", "request_id": "r", "tool": "Bash", "input": {"command": "ls"}}),
    );
    terminal.wait_for("Allow it this once? y, n, or why not: ");
    gateway.event(json!({"event": "message", "text": "beside", "turn_id": "~1"}));
    terminal.wait_for_next("\r\n  beside\r\n\u{1b}[7m ? \u{1b}[0m Allow it this once? y, n, or why not: ");
    terminal.write("y");
    assert_eq!(gateway.receive("respond")["decision"], "allow");
}
