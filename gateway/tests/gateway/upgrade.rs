//! Another version of the program takes over what the one before has left.

use std::path::Path;

use rustix::process::Signal;
use serde_json::json;
use switchboard_agent_bridge::{kill_all_hosts, list_hosts};
use switchboard_test_support::{Client, EarlierHost, Gateway, delta_text};

use crate::loss::move_in;

#[test]
fn a_turn_ends_under_its_older_host_and_the_next_message_gets_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let agent = format!(
        "sh -c 'read -r line; echo \"begins $line\"; while ! [ -e {} ]; do sleep 0.01; done; echo ends'",
        gate.display()
    );
    let arguments = ["--agent-command", &agent, "--dialect", "text"];
    let mut gateway = Gateway::start_with(|command| {
        command.args(arguments);
    });
    let mut client = gateway.websocket();
    let chat = client.new_chat();
    client.message(&chat, "turn-1", "one\n");
    client.wait_for("delta");
    gateway.signal(Signal::KILL);
    gateway.wait_for_exit();
    drop(client);

    let instances = |gateway: &Gateway| {
        let hosts = list_hosts(&gateway.path("data/hosts")).unwrap();
        hosts.into_iter().filter(|host| host.live).map(|host| host.instance).collect::<Vec<_>>()
    };
    let older = instances(&gateway);
    let mut host = None;
    let next = Gateway::start_with(|command| {
        move_in(command, &gateway.path("data"));
        command.args(arguments);
        let data = command.get_args().skip_while(|arg| *arg != "--data-dir").nth(1).unwrap();
        let hosts = Path::new(data).join("hosts");
        let older = hosts.join(older[0].0.to_string());
        // A host of the version before takes the place of the one that was there.
        kill_all_hosts(&hosts).unwrap();
        host = Some(EarlierHost::new(&older, |_, _| None));
    });
    let host = host.unwrap();
    let mut client = next.websocket();
    client.send(&json!({"type": "attach", "chat_id": chat}));
    client.wait_for("attached");
    std::fs::write(&gate, "").unwrap();
    host.output("ends\n");
    host.exited();
    let events = client.until("turn_end");
    assert!(delta_text(&events).ends_with("ends\n"), "{events:?}");
    assert_eq!(events.last().unwrap()["outcome"], "completed");
    // At once: the older host may not have been stopped yet.
    client.message(&chat, "turn-2", "two\n");
    let events = client.until("turn_end");
    assert_eq!(events.last().unwrap()["outcome"], "completed", "{events:?}");
    assert_eq!(delta_text(&events), "begins two\nends\n");
    next.wait_for_log("an agent's host is of an earlier version");
    let newer = instances(&next);
    assert!(newer.len() == 1 && newer != older, "{older:?}, then {newer:?}");
}
