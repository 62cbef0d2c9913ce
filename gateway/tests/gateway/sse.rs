//! Server-sent events, through the program.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};

use switchboard_test_support::{Client, Gateway, TIMEOUT, config_file, delta_text, report_skipped};

const ELSEWHERE: &str = "https://page.example";

#[test]
fn a_conversation_begun_over_websocket_goes_on_over_a_stream_and_a_socket() {
    let gateway = Gateway::start(&[]);
    let mut first = gateway.websocket();
    let chat = first.new_chat();
    first.message(&chat, "t1", "one");
    first.wait_for("turn_end");
    drop(first);
    let mut second = gateway.sse(&format!("?chat={chat}"));
    second.wait_for("replay_end");
    second.message(&chat, "t2", "two");
    assert_eq!(delta_text(&second.until("turn_end")), "two");
    let id = second.last_id.clone().unwrap();
    drop(second);
    let mut third = gateway.unix();
    third.message(&chat, "t3", "three");
    third.wait_for("turn_end");
    let mut fourth = gateway.sse(&format!("?after={id}"));
    assert_eq!(fourth.wait_for("attached")["recovered"], true);
    assert_eq!(delta_text(&fourth.until("replay_end")), "three", "and nothing that was there before");
}

/// A client's state of its chats: the last number and the text of each.
#[derive(Debug, Default, Clone, PartialEq)]
struct Has(BTreeMap<String, (u64, String)>);

impl Has {
    /// Applies an event as the protocol says, and fails if an event is missing or comes twice.
    fn take(&mut self, event: &Value) {
        let Some(seq) = event["seq"].as_u64().filter(|_| event["event"] != "replay_end") else { return };
        let (cursor, text) = self.0.entry(event["chat_id"].as_str().unwrap().to_owned()).or_default();
        assert_eq!(event["first_seq"].as_u64().unwrap_or(seq), *cursor + 1, "after {cursor}: {event}");
        *cursor = seq;
        text.push_str(&delta_text(std::slice::from_ref(event)));
    }

    /// Resumes after an id, and returns the number of deltas that followed.
    fn go_on(&mut self, gateway: &Gateway, id: &str) -> usize {
        let mut stream = gateway.sse(&format!("?after={id}"));
        let mut deltas = 0;
        for _ in id.split(',') {
            for event in stream.until("replay_end") {
                deltas += usize::from(event["event"] == "delta");
                self.take(&event);
            }
        }
        deltas
    }
}

#[test]
fn with_two_chats_every_word_comes_once_wherever_the_stream_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_file(dir.path(), "[limits]\nmerge_bytes = 0\nconnections_per_principal = \"off\"\n");
    let args = ["--agent", "demo", "--config", config.to_str().unwrap()];
    let mut first = Gateway::start_with(|serve| {
        serve.args(args);
    });
    let mut stream = first.sse("");
    for chat in ["a", "b"] {
        stream.message(chat, "t", "fast 100");
    }
    let mut heard: Vec<(Value, Option<String>)> = Vec::new();
    while heard.iter().filter(|(event, _)| event["event"] == "turn_end").count() < 2 {
        let event = stream.next().unwrap();
        heard.push((event, stream.last_id.clone()));
    }
    let mut whole = Has::default();
    heard.iter().for_each(|(event, _)| whole.take(event));
    let said: String = (1..=100).map(|number| format!("{number} ")).collect();
    assert!(whole.0.values().all(|(_, text)| *text == said), "{whole:?}");

    first.signal(rustix::process::Signal::INT);
    first.wait_for_exit();
    let second = Gateway::start_with(|serve| {
        let data = serve.get_args().skip_while(|arg| *arg != "--data-dir").nth(1).unwrap();
        std::fs::rename(first.path("data"), data).unwrap();
        serve.args(args);
    });
    let attached = heard.iter().map(|(event, _)| event).filter(|event| event["event"] == "attached");
    let beginnings = attached.map(|event| {
        format!("{}@{}:0", event["chat_id"].as_str().unwrap(), event["epoch"].as_str().unwrap())
    });
    let beginning = beginnings.collect::<Vec<_>>().join(",");
    // Waits until the many deltas of the stream are compacted.
    let deadline = Instant::now() + TIMEOUT;
    while Has::default().go_on(&second, &beginning) > 10 {
        assert!(Instant::now() < deadline, "nothing is joined");
    }
    let mut has = Has::default();
    for (event, id) in &heard {
        has.take(event);
        let Some(id) = id else { continue };
        let mut goes_on = has.clone();
        goes_on.go_on(&second, id);
        for chat in id.split(',').map(|cursor| cursor.split('@').next().unwrap()) {
            assert_eq!(goes_on.0[chat], whole.0[chat], "from {id}");
        }
    }
}

/// The commands that the documentation shows.
#[test]
fn curl_streams_and_posts() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        report_skipped("server-sent events with curl: there is no curl");
        return;
    }
    let gateway = Gateway::start(&[]);
    let (bearer, base) = (gateway.bearer(), format!("http://{}", gateway.address));
    let mut stream = Command::new("curl")
        .args(["--silent", "-N", "-H", &bearer, &format!("{base}/sse")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(stream.stdout.take().unwrap()).lines();
    let mut events = lines.filter_map(|line| {
        let line = line.unwrap();
        line.strip_prefix("data: ").map(|data| serde_json::from_str::<Value>(data).unwrap())
    });
    let name = events.next().unwrap()["stream"].as_str().unwrap().to_owned();
    let frame =
        json!({"type": "message", "chat_id": "c-1", "content": "hello", "turn_id": "t-1"}).to_string();
    let posted = Command::new("curl")
        .args(["--silent", "--fail", "-H", &bearer, "-H", &format!("Switchboard-Stream: {name}")])
        .args(["-H", "Content-Type: application/json", "--data-binary", &frame, &format!("{base}/messages")])
        .output()
        .unwrap();
    assert!(posted.status.success() && posted.stdout.is_empty(), "{posted:?}");
    let mut text = String::new();
    for event in events {
        text.push_str(event["text"].as_str().filter(|_| event["event"] == "delta").unwrap_or_default());
        if event["event"] == "turn_end" {
            break;
        }
    }
    assert_eq!(text, "hello");
    stream.kill().unwrap();
    stream.wait().unwrap();
}

#[test]
fn pages_elsewhere_are_answered_by_name_or_not_at_all() {
    let gateway = Gateway::start(&["--allow-origin", ELSEWHERE]);
    let bearer = gateway.bearer();
    let origin = format!("Origin: {ELSEWHERE}");
    let asks = "Access-Control-Request-Method: POST";
    for path in ["/sse", "/messages"] {
        let preflight = gateway.request_head("OPTIONS", path, &[&origin, asks, "Connection: close"]);
        assert_eq!(preflight.status(), 204, "{path}");
        assert_eq!(preflight.header("access-control-allow-origin"), Some(ELSEWHERE));
        assert_eq!(preflight.header("vary"), Some("origin"));
        assert_eq!(preflight.header("access-control-allow-credentials"), None);
        let allowed = preflight.header("access-control-allow-headers").unwrap();
        for needed in ["authorization", "content-type", "last-event-id", "switchboard-stream"] {
            assert!(allowed.contains(needed), "{allowed}");
        }
        // The request itself needs its token.
        let refused = gateway.request(if path == "/sse" { "GET" } else { "POST" }, path, &[&origin]);
        assert_eq!((refused.status(), refused.header("access-control-allow-origin")), (401, Some(ELSEWHERE)));
        let hostile = [
            "Origin: null",
            "Origin: https://page.example.evil.example",
            "Origin: http://page.example",
            "Origin: https://page.example:444",
        ];
        for hostile in hostile {
            let refused = gateway.request("OPTIONS", path, &[hostile, asks]);
            assert_eq!(refused.status(), 403, "{hostile}");
            assert_eq!(refused.header("access-control-allow-origin"), None, "{hostile}");
        }
        // The gateway's own page needs no CORS headers.
        let own = format!("Origin: http://{}", gateway.address);
        assert_eq!(gateway.request("OPTIONS", path, &[&own, asks]).status(), 401);
        assert_eq!(gateway.request("OPTIONS", path, &[&origin]).status(), 401, "that is no preflight");
    }
    let stream = gateway.request_head("GET", "/sse", &[&bearer, &origin]);
    assert_eq!((stream.status(), stream.header("access-control-allow-origin")), (200, Some(ELSEWHERE)));
    // No other path has CORS headers.
    for path in ["/healthz", "/ws", "/nothing"] {
        assert_eq!(gateway.request("OPTIONS", path, &[&origin, asks]).status(), 401, "{path}");
        let other = gateway.get(path, &[&bearer, &origin]);
        assert_eq!(other.header("access-control-allow-origin"), None, "{path}");
    }
    let nobody = Gateway::start(&[]);
    assert_eq!(nobody.request("OPTIONS", "/sse", &[&origin, asks]).status(), 403);
}

/// The longest lifetime of connections does not apply to streams.
#[test]
fn a_stream_outlives_other_connections() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_file(dir.path(), "[limits]\nhttp_lifetime_ms = \"1 s\"\n");
    let gateway = Gateway::start(&["--config", config.to_str().unwrap()]);
    let mut stream = gateway.sse("?chat=c-1");
    let idle = gateway.tcp();
    // The end of the other connection shows that the lifetime has passed.
    assert_eq!(BufReader::new(idle).read_until(b'x', &mut Vec::new()).unwrap(), 0);
    stream.message("c-1", "t-1", "still here");
    assert_eq!(delta_text(&stream.until("turn_end")), "still here");
}

#[test]
fn a_stream_that_is_not_read_does_not_keep_the_gateway_from_ending() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_file(dir.path(), "[limits]\nreader_stall_ms = \"1 s\"\nshutdown_ms = \"10 s\"\n");
    let mut gateway = Gateway::start_with(|command| {
        command.args(["--agent-command", "sh -c 'cat > /dev/null; yes'", "--dialect", "text"]);
        command.args(["--config", config.to_str().unwrap()]);
    });
    let mut stream = gateway.sse("");
    stream.message("c-1", "t-1", "go");
    stream.wait_for("delta");
    // The stream is being closed because its client does not read; only its last event is unsent.
    while stream.post(&json!({"type": "ping"})) != 410 {}
    gateway.signal(rustix::process::Signal::INT);
    // After `shutdown_ms` the status would be 1. The reader itself would have 30 s for its last event.
    assert_eq!(gateway.wait_for_exit().code(), Some(0), "{}", gateway.log());
    drop(stream);
}

#[test]
fn without_authentication_streams_need_no_token_but_come_from_here() {
    let gateway = Gateway::start(&["--no-auth"]);
    for (site, expected) in [("none", 200), ("same-origin", 200), ("cross-site", 403), ("same-site", 403)] {
        let answer =
            gateway.request_head("GET", "/sse", &[&format!("Sec-Fetch-Site: {site}"), "Connection: close"]);
        assert_eq!(answer.status(), expected, "{site}");
    }
}
