//! Whether another process of the same user can read the memory of gateway and hosts, and which secrets it contains.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::Command,
};

use tokio_tungstenite::tungstenite::{
    client::IntoClientRequest as _,
    http::{HeaderValue, header},
};

use switchboard_test_support::{Client, ECHO_AGENT, Gateway, eventually, report_skipped};

use crate::{scenes::Scene, site::answer};

pub(crate) const SCENES: &[Scene] = &[
    ("the_memory_of_gateway_and_hosts_is_nobody_elses", memory_is_private),
    ("the_token_does_not_lie_in_memory", token_is_not_in_memory),
    ("a_gateway_without_privileges_moves_the_output_of_its_agents", output_is_moved),
];

/// Root can read everything, so under root these gateways run as this user.
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
    let gateway = gateway(&ECHO_AGENT);
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
    // Other processes of that user can be read.
    let mut other = as_user(Command::new("sleep").arg("1000")).spawn().unwrap();
    let open = can_open(&format!("/proc/{}/environ", other.id()));
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(open);
}

fn output_is_moved() {
    let gateway = gateway(&["--agent", "demo", "--log", "info"]);
    let mut client = gateway.websocket();
    let chat = client.new_chat();
    for turn in ["turn-1", "turn-2"] {
        assert!(answer(&mut client, &chat, turn, "echo all of it").contains("all of it"));
    }
    let log = gateway.log();
    assert!(!log.contains("its host passes it on"), "{log}");
}

/// The bytes in front of each occurrence of these bytes in the memory of a process.
fn found(pid: u32, wanted: &[u8]) -> Vec<String> {
    const BEFORE: usize = 48;
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut found = Vec::new();
    // Only writable memory: program and libraries are on the disk.
    for map in maps.lines().filter(|map| map.contains(" rw")) {
        let (start, end) = map.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut bytes = Vec::new();
        memory.seek(SeekFrom::Start(start)).unwrap();
        // The region may have been unmapped meanwhile.
        let _ = (&mut memory).take(end - start).read_to_end(&mut bytes);
        found.extend(memchr::memmem::find_iter(&bytes, wanted).map(|at| {
            String::from_utf8_lossy(&bytes[at.saturating_sub(BEFORE)..at]).escape_debug().to_string()
        }));
    }
    found
}

fn token_is_not_in_memory() {
    if !rustix::process::geteuid().is_root() {
        // Other users cannot read the memory, as another test shows.
        return report_skipped("the token in a gateway's memory: only root can look there");
    }
    let gateway = Gateway::start(&[]);
    let token = gateway.token();
    let looks = || found(gateway.pid(), token.as_bytes());
    // The start-up text is overwritten after it was printed.
    eventually("it is gone once it was announced", || looks().is_empty());
    for _ in 0..20 {
        assert_eq!(gateway.get("/healthz", &[&gateway.bearer()]).status(), 200);
        assert_eq!(gateway.get(&format!("/healthz?token={token}"), &[]).status(), 200);
    }
    let mut client = gateway.websocket();
    client.new_chat();
    let mut request = format!("ws://{}/ws", gateway.address).into_client_request().unwrap();
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("switchboard.v1"));
    let mut client = gateway.websocket_with(request).unwrap().0;
    client.send(&serde_json::json!({"type": "authenticate", "token": token}));
    client.wait_for("ready");
    // A token that a client sent remains only in its read buffer, until that memory is used again.
    let of_ours =
        |before: &String| !["Bearer ", "token=", "\"token\\\":\\\""].iter().any(|end| before.ends_with(end));
    eventually("only what was read is left", || !looks().iter().any(of_ours));
    let ours: Vec<String> = looks().into_iter().filter(|before| before.contains("://")).collect();
    assert!(ours.is_empty(), "{ours:?}");
    // The search works: it finds the hash.
    let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(token.as_bytes()).into();
    assert!(!found(gateway.pid(), &hash).is_empty());
}
