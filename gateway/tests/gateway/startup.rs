//! First runs, and starts that must not succeed.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Output,
};

use switchboard_test_support::{Client, Gateway, config_file, run, switchboard};

/// Runs `serve`, which must fail, and returns its error.
fn refused(dir: &Path, args: &[&str]) -> String {
    let mut command = switchboard();
    command.arg("serve").arg("--data-dir").arg(dir).args(args);
    let Output { status, stdout, stderr } = run(command, "");
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "{args:?} started");
    assert!(stdout.is_empty(), "{}", String::from_utf8_lossy(&stdout));
    assert!(stderr.lines().count() >= 2, "what and what to do: {stderr}");
    stderr
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn the_demo_agent_is_named_as_such_where_no_agent_is_found() {
    let gateway = Gateway::start_with(|command| {
        command.env("PATH", "/nonexistent");
    });
    let line = gateway.announced.lines().find(|line| line.trim_start().starts_with("Agent")).unwrap();
    assert!(line.contains("demo (no other was found on PATH; --agent knows "), "{line}");
    let mut client = gateway.websocket();
    assert_eq!(client.next().unwrap()["agent"]["agent"], "demo");
    let chat = client.new_chat();
    client.message(&chat, "t1", "Please review my code.");
    let mut answer = String::new();
    loop {
        let event = client.next().unwrap();
        match event["event"].as_str() {
            Some("delta") => answer.push_str(event["text"].as_str().unwrap()),
            Some("turn_end") => break,
            _ => {}
        }
    }
    assert!(answer.contains("demo agent"), "{answer}");
}

#[test]
fn the_first_run_makes_private_files() {
    let gateway = Gateway::start(&[]);
    assert_eq!(mode(&gateway.path("data")), 0o700);
    for file in ["token", "lock", "socket"] {
        assert_eq!(mode(&gateway.path("data").join(file)), 0o600, "{file}");
    }
    let token = gateway.token();
    assert_eq!(token.len(), 64);
    assert!(
        gateway.announced.contains(&format!("http://{}/#token={token}", gateway.address)),
        "{}",
        gateway.announced
    );
    assert_eq!(std::fs::read_to_string(gateway.path("port")).unwrap(), format!("{}\n", gateway.address));
}

#[test]
fn a_second_gateway_on_a_data_directory_says_so() {
    let gateway = Gateway::start(&[]);
    let said = refused(&gateway.path("data"), &["--listen", "127.0.0.1:0"]);
    assert!(said.contains("Another gateway") && said.contains(&gateway.pid().to_string()), "{said}");
    assert!(said.contains("--data-dir"), "{said}");
}

#[test]
fn a_taken_port_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refused(dir.path(), &["--listen", &address]);
    assert!(said.contains(&address) && said.contains("taken") && said.contains("127.0.0.1:0"), "{said}");
}

#[test]
fn nobody_opens_to_the_network_by_accident() {
    let dir = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let said = refused(dir.path(), &["--listen", address, "--no-auth", "--allow-host", "a.example"]);
        assert!(said.contains("--no-auth"), "{said}");
        let said = refused(dir.path(), &["--listen", address]);
        assert!(said.contains("--allow-host"), "{said}");
    }
}

#[test]
fn a_wildcard_is_shown_as_loopback_and_answers_to_the_names_it_was_given() {
    let mut args = vec!["--listen", "0.0.0.0:0", "--allow-host", "app.example"];
    // Not every machine has IPv6.
    if TcpListener::bind("[::1]:0").is_ok() {
        args.extend(["--listen", "[::1]:0"]);
    }
    let gateway = Gateway::start(&args);
    let ports = std::fs::read_to_string(gateway.path("port")).unwrap();
    let bound: Vec<SocketAddr> = ports.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(bound.len(), args.len() / 2, "{ports}");
    let port = bound[1].port();
    let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    for address in [bound[0], loopback].iter().chain(bound.get(2)) {
        let url = format!("http://{address}/#token=");
        assert!(gateway.announced.contains(&url), "{url} in {}", gateway.announced);
    }
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        (format!("app.example:{port}"), 200),
        ("app.example".to_owned(), 200),
        (format!("0.0.0.0:{port}"), 403),
        (format!("10.0.0.1:{port}"), 403),
    ] {
        let answer = gateway.raw(&["GET / HTTP/1.1", &format!("Host: {host}"), "Connection: close"]);
        assert_eq!(answer.status(), status, "{host}");
    }
}

#[test]
fn settings_that_cannot_be_are_named_with_what_they_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("[limits]\nframe_bytes = \"1 furlong\"\n", ["frame_bytes", "1 MiB"]),
        ("[limits]\nagents = 0\n", ["agents", "from 1 to 10000"]),
        ("[limits]\nframes = 1\n", ["frames", "frame_bytes"]),
        ("liste = \"127.0.0.1:0\"\n", ["liste", "switchboard serve --help"]),
        ("listen = \"127.0.0.1\"\n", ["--listen", "127.0.0.1:8765"]),
        ("agent = \"nobody\"\nlisten = \"127.0.0.1:0\"\n", ["nobody", "claude"]),
        ("base-path = \"x\"\n", ["--base-path", "/switchboard"]),
    ];
    for (text, parts) in cases {
        let config = config_file(dir.path(), text);
        let said = refused(&dir.path().join("data"), &["--config", config.to_str().unwrap()]);
        for part in parts {
            assert!(said.contains(part), "{text}: {said}");
        }
    }
    let said = refused(dir.path(), &["--config", "/does/not/exist.toml"]);
    assert!(said.contains("cannot be read"), "{said}");
}

#[test]
fn a_token_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("mine");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let args = ["--listen", "127.0.0.1:0", "--token-file", token.to_str().unwrap()];
    assert!(refused(&dir.path().join("data"), &args).contains("chmod 600"));
}

#[test]
fn a_rotated_token_counts_with_the_next_handshake() {
    let gateway = Gateway::start(&[]);
    let old = gateway.bearer();
    let draft = gateway.path("data/token.draft");
    std::fs::write(&draft, "fedcba9876543210fedcba9876543210\n").unwrap();
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&draft, gateway.path("data/token")).unwrap();
    assert_eq!(gateway.get("/healthz", &[&old]).status(), 401);
    assert_eq!(gateway.get("/healthz", &[&gateway.bearer()]).status(), 200);
}

#[test]
fn doctor_says_what_is_wrong_and_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let doctor = |args: &[&str]| {
        let mut command = switchboard();
        command.arg("doctor").arg("--data-dir").arg(dir.path().join("data")).args(args);
        let output = run(command, "");
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (good, said) = doctor(&["--listen", "127.0.0.1:0", "--agent", "demo"]);
    assert!(good && said.contains("ok ") && !said.contains("FAIL"), "{said}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (good, said) = doctor(&["--listen", &taken.local_addr().unwrap().to_string()]);
    assert!(!good && said.contains("FAIL") && said.contains("taken"), "{said}");
    let (good, said) = doctor(&["--agent", "nobody"]);
    assert!(!good && said.contains("nobody"), "{said}");
    let (_, said) = doctor(&["--listen", "127.0.0.1:0", "--agent", "demo"]);
    assert!(!said.contains("claude"), "it would not be asked: {said}");
}

#[test]
fn what_keeps_a_gateway_from_starting_doctor_says_beforehand() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let gateway = Gateway::start(&[]);
    let running = gateway.path("data");
    let served = running.join("socket");
    let open = dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (served, open) = (served.to_str().unwrap(), open.join("socket"));
    let cases: [(&Path, [&str; 2], &str); 8] = [
        (&running, ["--agent", "demo"], "already"),
        (&data, ["--unix", served], "served by another process"),
        (&data, ["--listen", &format!("unix:{served}")], "served by another process"),
        (&data, ["--unix", open.to_str().unwrap()], "0700"),
        (&data, ["--port-file", "/does/not/exist/port"], "cannot be written"),
        (&data, ["--agent-command=/nowhere/agent", "--dialect=text"], "\"/nowhere/agent\" was not found"),
        (
            &data,
            ["--agent-command=/etc/passwd --x", "--dialect=claude"],
            "\"/etc/passwd\" may not be executed",
        ),
        (&data, ["--dialect", "text"], "without a command"),
    ];
    for (data, args, why) in cases {
        let args = [&["--listen", "127.0.0.1:0"], &args[..]].concat();
        let mut doctor = switchboard();
        doctor.arg("doctor").arg("--data-dir").arg(data).args(&args);
        let output = run(doctor, "");
        let said = String::from_utf8(output.stdout).unwrap();
        let found = said.lines().any(|line| line.starts_with("FAIL") && line.contains(why));
        assert!(!output.status.success() && found, "{args:?}: {said}");
        assert!(refused(data, &args).contains(why), "{args:?}");
    }
}

#[test]
fn doctor_and_serve_judge_a_data_directory_alike() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let (empty, open, file) = (make("empty", 0o755), make("open", 0o755), dir.path().join("file"));
    std::fs::write(open.join("token"), "x").unwrap();
    std::fs::write(&file, "x").unwrap();
    let (hosts_file, hosts_open) = (make("hosts-file", 0o700), make("hosts-open", 0o700));
    std::fs::write(hosts_file.join("hosts"), "x").unwrap();
    make("hosts-open/hosts", 0o755);
    let cases = [
        (empty, None),
        (dir.path().join("new/one"), None),
        (open, Some("open to others (mode 755)")),
        (file.clone(), Some("is no directory")),
        (file.join("below"), Some("is no directory")),
        (hosts_file, Some("hosts is no directory")),
        (hosts_open, Some("hosts is open to others")),
    ];
    for (data, why) in cases {
        let mut doctor = switchboard();
        doctor.args(["doctor", "--listen", "127.0.0.1:0", "--agent", "demo", "--data-dir"]).arg(&data);
        let output = run(doctor, "");
        let said = String::from_utf8(output.stdout).unwrap();
        match why {
            Some(why) => {
                let found = said.lines().any(|line| line.starts_with("FAIL") && line.contains(why));
                assert!(!output.status.success() && found, "{data:?}: {said}");
                let refusal = refused(&data, &["--listen", "127.0.0.1:0", "--agent", "demo"]);
                assert!(refusal.contains(why), "{data:?}: {refusal}");
            }
            None => {
                assert!(output.status.success(), "{data:?}: {said}");
                drop(switchboard_gateway::data_dir::DataDir::open(&data).unwrap());
            }
        }
    }
}

#[test]
fn why_a_host_cannot_start_is_in_the_turn_and_in_the_log() {
    type Harm = fn(&Path);
    let cases: [(Harm, &str); 2] = [
        (|hosts| std::fs::write(hosts, "x").unwrap(), "something else is where its directory is to be"),
        (
            |hosts| {
                std::fs::create_dir(hosts).unwrap();
                std::fs::set_permissions(hosts, std::fs::Permissions::from_mode(0o755)).unwrap();
            },
            "closed to others (mode 0700)",
        ),
    ];
    for (harm, why) in cases {
        let gateway = Gateway::start(&[]);
        harm(&gateway.path("data/hosts"));
        let mut client = gateway.websocket();
        let chat = client.new_chat();
        client.message(&chat, "t1", "hello");
        let end = client.wait_for("turn_end");
        assert_eq!(
            (&end["outcome"], &end["error"]["code"]),
            (&"failed".into(), &"agent_start_failed".into())
        );
        let detail = end["error"]["detail"].as_str().unwrap();
        assert!(detail.contains(why) && detail.contains("folder hosts of the data directory"), "{detail}");
        let path = gateway.path("data");
        assert!(!detail.contains(path.to_str().unwrap()), "{detail}");
        gateway.wait_for_log(why);
        let log = gateway.log();
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains(why)), "{log}");
    }
}
