//! How the gateway ends: exit statuses, times, and that no process or file remains.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use switchboard_test_support::{
    Client, ECHO_AGENT, Gateway, TIMEOUT, WebSocketClient, config_file, process, switchboard, wait_for_exit,
};

/// An agent with a helper in a session of its own.
const WITH_HELPER: &str = "sh -c 'cat > /dev/null; setsid sleep 1000 & echo started; sleep 1000'";

fn in_a_turn() -> (Gateway, WebSocketClient) {
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent-command", WITH_HELPER, "--dialect", "text"]);
    });
    let mut client = gateway.websocket();
    let chat = client.new_chat();
    client.message(&chat, "turn-1", "go");
    client.wait_for("delta");
    (gateway, client)
}

#[test]
fn ctrl_c_ends_the_turn_and_every_process() {
    let (mut gateway, mut client) = in_a_turn();
    gateway.signal(Signal::INT);
    let end = client.wait_for("turn_end");
    assert_eq!((end["outcome"].as_str(), end["turn_id"].as_str()), (Some("interrupted"), Some("turn-1")));
    while client.next().is_some() {}
    drop(client);
    assert_eq!(gateway.wait_for_exit().code(), Some(0), "{}", gateway.log());
    assert_eq!(gateway.processes().len(), 0);
    assert!(!gateway.path("data/socket").exists(), "the socket is removed");
    assert!(!gateway.path("port").exists(), "the port file is removed");
}

#[test]
fn a_killed_gateway_leaves_its_agent_to_the_next() {
    let (mut gateway, client) = in_a_turn();
    gateway.signal(Signal::KILL);
    gateway.wait_for_exit();
    drop(client);
    assert!(gateway.processes().len() >= 3, "the agent and its helper outlive a killed gateway");
    let mut next = next_gateway(&gateway, &[]);
    assert!(gateway.processes().len() >= 3, "and go on under the next one");
    stop(&mut next, Signal::INT);
    assert_eq!(gateway.processes().len(), 0);
}

#[test]
fn what_a_gateway_that_keeps_nothing_left_behind_is_ended() {
    let (mut gateway, client) = in_a_turn();
    gateway.signal(Signal::KILL);
    gateway.wait_for_exit();
    drop(client);
    let mut next = next_gateway(&gateway, &["--durability", "none"]);
    assert_eq!(gateway.processes().len(), 0);
    stop(&mut next, Signal::TERM);
}

#[test]
fn a_restart_goes_unnoticed_by_the_agent() {
    let (mut gateway, client) = in_a_turn();
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait_for_exit().code(), Some(0), "{}", gateway.log());
    drop(client);
    assert!(gateway.processes().len() >= 3, "a service restart ends no turn");
    let mut next = next_gateway(&gateway, &[]);
    stop(&mut next, Signal::INT);
    assert_eq!(gateway.processes().len(), 0);
}

#[test]
fn agents_beyond_a_limit_that_was_lowered_are_ended() {
    let mut gateway = Gateway::start(&[]);
    let mut client = gateway.websocket();
    for turn in ["t1", "t2", "t3"] {
        let chat = client.new_chat();
        client.message(&chat, turn, "hi");
        client.wait_for("turn_end");
    }
    gateway.signal(Signal::KILL);
    gateway.wait_for_exit();
    let hosts = || {
        let hosts = switchboard_agent_bridge::list_hosts(&gateway.path("data/hosts")).unwrap();
        hosts.iter().filter(|host| host.live).count()
    };
    assert_eq!(hosts(), 3, "each chat has one");
    let mut next = next_with(&gateway, &ECHO_AGENT, &["--max-agents", "1"]);
    let begun = Instant::now();
    while hosts() > 1 {
        assert!(begun.elapsed() < TIMEOUT, "{} hosts are left", hosts());
        std::thread::sleep(Duration::from_millis(5));
    }
    stop(&mut next, Signal::INT);
    assert_eq!(hosts(), 0);
}

#[test]
fn hosts_that_do_not_react_are_killed_all_at_once_when_the_time_to_shut_down_is_over() {
    // If the gateway waited for one agent after the other, it would take too long.
    const HOSTS: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let config = config_file(dir.path(), "[limits]\nshutdown_ms = \"1 s\"\n");
    let mut gateway = Gateway::start(&["--config", config.to_str().unwrap()]);
    let mut client = gateway.websocket();
    for _ in 0..HOSTS {
        let chat = client.new_chat();
        client.message(&chat, "t", "hi");
        client.wait_for("turn_end");
    }
    drop(client);
    let hosts = process::hosts(&gateway.path("data"));
    assert_eq!(hosts.len(), HOSTS);
    hosts.iter().for_each(|host| process::signal(*host, Signal::STOP));
    gateway.signal(Signal::INT);
    assert_eq!(gateway.wait_for_exit().code(), Some(1), "{}", gateway.log());
    assert_eq!(gateway.processes().len(), 0);
}

/// Another gateway on the same data directory, once it is ready.
fn next_gateway(gateway: &Gateway, flags: &[&str]) -> std::process::Child {
    next_with(gateway, &["--agent-command", WITH_HELPER, "--dialect", "text"], flags)
}

fn next_with(gateway: &Gateway, agent: &[&str], flags: &[&str]) -> std::process::Child {
    let mut next = switchboard();
    next.args(["serve", "--listen", "127.0.0.1:0"]).args(agent);
    next.args(flags).arg("--data-dir").arg(gateway.path("data"));
    let mut next =
        next.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let mut said = std::io::BufReader::new(next.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert!(line.contains("ready"), "{line}");
    next
}

fn stop(gateway: &mut std::process::Child, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(gateway.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
    assert!(wait_for_exit(gateway).success());
}

#[test]
fn a_client_that_does_not_read_does_not_keep_it_from_ending() {
    let (mut gateway, client) = in_a_turn();
    gateway.signal(Signal::INT);
    assert_eq!(gateway.wait_for_exit().code(), Some(0), "{}", gateway.log());
    drop(client);
    assert_eq!(gateway.processes().len(), 0);
}

#[test]
fn a_client_with_a_long_answer_unread_does_not_delay_a_restart() {
    let mut gateway = Gateway::start_with(|command| {
        command.args(["--agent", "demo"]);
    });
    let mut client = gateway.unix();
    let chat = client.new_chat();
    client.message(&chat, "turn-1", "fast 1000000");
    client.wait_for("delta");
    // Another client reads far more than the buffers of a socket hold.
    let mut reader = gateway.websocket();
    reader.send(&serde_json::json!({"type": "attach", "chat_id": chat}));
    let mut bytes = 0;
    while bytes < 2_000_000 {
        bytes += reader.next().unwrap()["text"].as_str().map_or(0, str::len);
    }
    drop(reader);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait_for_exit().code(), Some(0), "{}", gateway.log());
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    // If the gateway waited for this client, it would take too long.
    let config = config_file(dir.path(), "[limits]\nshutdown_ms = \"1 h\"\n");
    let mut gateway = Gateway::start_with(|command| {
        command.arg("--config").arg(config);
        let stubborn =
            "sh -c 'trap \"\" TERM INT HUP; cat > /dev/null; echo started; sleep 1000 & wait; sleep 1000'";
        command.args(["--agent-command", stubborn, "--dialect", "text"]);
    });
    let mut client = gateway.unix();
    let chat = client.new_chat();
    client.message(&chat, "turn-1", "go");
    client.wait_for("delta");
    gateway.signal(Signal::INT);
    client.wait_for("turn_end");
    gateway.signal(Signal::INT);
    // The status depends on how far the shutdown was.
    gateway.wait_for_exit();
    assert_eq!(gateway.processes().len(), 0);
}

/// An agent that ends slowly, so that the gateway is still shutting down when the second signal arrives.
const SLOW_TO_END: &str = "sh -c 'trap \"\" TERM; echo started; sleep 2'";

#[test]
fn two_sigterms_within_a_second_are_one() {
    loop {
        let mut gateway = Gateway::start_with(|command| {
            command.args(["--durability", "none", "--agent-command", SLOW_TO_END, "--dialect", "text"]);
        });
        let mut client = gateway.websocket();
        let chat = client.new_chat();
        client.message(&chat, "turn-1", "go");
        client.wait_for("delta");
        let first = Instant::now();
        gateway.signal(Signal::TERM);
        // Waits until the first signal has arrived: the system merges equal signals that are pending.
        assert_eq!(client.wait_for("turn_end")["outcome"], "interrupted");
        gateway.signal(Signal::TERM);
        let apart = first.elapsed();
        let status = gateway.wait_for_exit();
        // On a machine that was busy for a second, the signals do not count as one.
        if apart < Duration::from_millis(900) {
            assert_eq!(status.code(), Some(0), "{}", gateway.log());
            assert!(!gateway.log().contains("stopping at once"), "{}", gateway.log());
            return;
        }
    }
}
