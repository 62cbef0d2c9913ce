//! The memory of gateway and hosts, as another process of the same user finds it.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::Command,
};

use crate::{
    lab::{Client, Gateway},
    scenes::Scene,
    site::answer,
};

pub(crate) const SCENES: &[Scene] = &[
    ("the_memory_of_gateway_and_hosts_is_nobody_elses", memory_is_private),
    ("a_gateway_without_privileges_borrows_the_output_of_its_agents", output_is_borrowed),
];

/// Root reads everything: then these gateways run as somebody else.
const NOBODY: u32 = 65534;

fn as_user(command: &mut Command) -> &mut Command {
    if rustix::process::geteuid().is_root() { command.uid(NOBODY).gid(NOBODY) } else { command }
}

fn gateway(agent: &[&str]) -> Gateway {
    Gateway::start_with(|command| {
        let data = command.get_args().skip_while(|arg| *arg != "--data-dir").nth(1).unwrap();
        let dir = Path::new(data).parent().unwrap().to_owned();
        if rustix::process::geteuid().is_root() {
            for dir in [dir.clone(), dir.join("work")] {
                chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        as_user(command.env("HOME", &dir)).args(agent);
    })
}

/// Whether another process of the gateway's user can open this.
fn can_open(path: &str) -> bool {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 3< \"$1\" && head -c 1 <&3 > /dev/null", "sh", path]);
    as_user(&mut shell).stderr(std::process::Stdio::null()).status().unwrap().success()
}

fn memory_is_private() {
    let gateway = gateway(&crate::lab::ECHO);
    let mut client = gateway.websocket();
    let chat = client.new_chat();
    assert_eq!(answer(&mut client, &chat, "turn-1", "hello"), "hello");
    let hosts = fs::read_dir(gateway.path("data/hosts")).unwrap().flatten();
    let cards = hosts.map(|host| fs::read(host.path().join("host.json")).unwrap());
    let mut pids: Vec<i64> = cards
        .map(|card| serde_json::from_slice::<serde_json::Value>(&card).unwrap()["pid"].as_i64().unwrap())
        .collect();
    assert_eq!(pids.len(), 1);
    pids.push(gateway.pid().into());
    for pid in pids {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        for secret in ["mem", "environ", "maps", "fd"] {
            let path = format!("/proc/{pid}/{secret}");
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path).unwrap()), 0, "{path}");
            assert!(!can_open(&path), "{path}");
        }
    }
    // Any other process of theirs can be looked into.
    let mut other = as_user(Command::new("sleep").arg("1000")).spawn().unwrap();
    let open = can_open(&format!("/proc/{}/environ", other.id()));
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(open);
}

fn output_is_borrowed() {
    let gateway = gateway(&["--agent", "demo", "--log", "info"]);
    let mut client = gateway.websocket();
    let chat = client.new_chat();
    for turn in ["turn-1", "turn-2"] {
        assert!(answer(&mut client, &chat, turn, "echo all of it").contains("all of it"));
    }
    let log = gateway.log();
    assert!(!log.contains("its host passes it on"), "{log}");
}
