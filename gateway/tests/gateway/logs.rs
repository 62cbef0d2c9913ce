//! The log contains no secret and no message, whatever the level.

use std::{
    fs,
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    thread,
};

use rustix::{
    process::{Uid, geteuid},
    thread::set_thread_res_uid,
};
use serde_json::json;

use switchboard_test_support::{Client, ECHO_AGENT, Gateway, report_skipped};

const BODY: &str = "canary-in-a-message";
const GUESS: &str = "canary-in-a-wrong-token";
const QUERY: &str = "canary-in-a-query";
const HEADER: &str = "canary-in-a-header";

fn check(format: &str) {
    let gateway = Gateway::start_with(|command| {
        command.args(ECHO_AGENT).args(["--log", "trace", "--log-format", format]);
    });
    let token = gateway.token();
    for target in ["/", "/ws", "/healthz", "/messages", "/nothing"] {
        gateway.get(&format!("{target}?token={GUESS}&x={QUERY}"), &[&format!("Cookie: {HEADER}")]);
        gateway.get(target, &[&format!("Authorization: Bearer {GUESS}")]);
        gateway.get(&format!("{target}?token={token}"), &[&format!("X-Secret: {HEADER}")]);
        gateway.get(target, &[&gateway.bearer(), &format!("Origin: http://{HEADER}.example")]);
        gateway.raw(&[&format!("GET {target} HTTP/1.1"), &format!("Host: {HEADER}.example")]);
    }
    gateway.raw(&[&format!("{QUERY} {HEADER}")]);
    let mut client = gateway.websocket();
    let chat = client.new_chat();
    client.message(&chat, "turn-1", &format!("{BODY} \u{1b}[31m"));
    client.wait_for("turn_end");
    client.0.send(format!("{{\"type\":\"{BODY}\"").into()).unwrap();
    client.wait_for("error");
    client.send(&json!({"type": "authenticate", "token": GUESS}));
    client.send(&json!({"type": "ping", "nonce": BODY}));
    client.wait_for("pong");
    let mut client = gateway.unix();
    client.message(&chat, "turn-2", BODY);
    client.wait_for("turn_end");
    let mut client = gateway.sse(&format!("?client_id={QUERY}&chat={chat}&x={QUERY}"));
    client.message(&chat, "turn-3", BODY);
    client.wait_for("turn_end");
    client.send(&json!({"type": BODY}));
    client.wait_for("error");
    gateway.request_head("GET", "/sse", &[&gateway.bearer(), &format!("Last-Event-ID: {HEADER}@@")]);
    gateway.request_head("GET", &format!("/sse?token={token}&x={QUERY}"), &[]);
    let log = gateway.log();
    for secret in [&*token, BODY, GUESS, QUERY, HEADER] {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
    assert!(!log.contains('\u{1b}'), "an escape sequence is in the log");
    for said in ["authenticated", "authentication failed", "query", "bearer"] {
        assert!(log.contains(said), "{said} is not in the log: {log}");
    }
    if format == "json" {
        for line in log.lines() {
            assert!(
                serde_json::from_str::<serde_json::Value>(line).is_ok_and(|line| line.is_object()),
                "{line}"
            );
        }
    }
}

#[test]
fn no_canary_is_in_the_log_for_people() {
    check("human");
}

#[test]
fn no_canary_is_in_the_log_for_programs() {
    check("json");
}

/// The counts of all lines with this reason.
fn counts(log: &str, reason: &str) -> Vec<u64> {
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["reason"] == reason).map(|line| line["count"].as_u64().unwrap_or(1)).collect()
}

#[test]
fn a_flood_of_refusals_is_a_few_lines_whose_counts_add_up() {
    const EACH: u64 = 400;
    let mut gateway = Gateway::start(&["--log-format", "json"]);
    for _ in 0..EACH {
        assert_eq!(gateway.get("/healthz", &[]).status(), 401);
        assert_eq!(gateway.get("/", &["Origin: http://elsewhere.example"]).status(), 403);
    }
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    for reason in ["no_credentials", "origin_foreign"] {
        let counts = counts(&gateway.log(), reason);
        assert_eq!(counts.iter().sum::<u64>(), EACH, "{reason}: {counts:?}");
        assert!(counts.len() <= 20, "{reason}: {counts:?}");
    }
}

#[test]
fn a_flood_of_other_users_at_the_socket_is_a_few_lines_whose_counts_add_up() {
    const PEERS: u64 = 400;
    if !geteuid().is_root() {
        report_skipped("a flood of other users at the socket: only root can be another user");
        return;
    }
    let mut gateway = Gateway::start(&["--log-format", "json"]);
    let socket = gateway.path("data/socket");
    // Opens the socket to other users, so that only the check of the peer's user id is tested.
    for (name, mode) in [("", 0o755), ("data", 0o755), ("data/socket", 0o666)] {
        fs::set_permissions(gateway.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let flood = thread::spawn(move || {
        set_thread_res_uid(None, Some(Uid::from_raw(65534)), None).unwrap();
        for _ in 0..PEERS {
            // The end may be a reset.
            let _ = UnixStream::connect(&socket).unwrap().read_to_end(&mut Vec::new());
        }
    });
    flood.join().unwrap();
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    let counts = counts(&gateway.log(), "another_user");
    assert_eq!(counts.iter().sum::<u64>(), PEERS, "{counts:?}");
    assert!(counts.len() <= 20, "{counts:?}");
}
