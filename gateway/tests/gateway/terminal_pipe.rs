//! `switchboard chat` in a pipe.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Output, Stdio},
};

use switchboard_test_support::{Client as _, Gateway, config_file, run, switchboard, wait_for_exit};

use crate::conversation::{halves, numbers};

fn chat(gateway: &Gateway, target: &str, input: &str) -> (Option<i32>, String, String) {
    let mut command = switchboard();
    command.args(["chat", target]).arg("--data-dir").arg(gateway.path("data"));
    let Output { status, stdout, stderr } = run(command, input);
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_pipe_gets_the_answers_and_nothing_else() {
    let gateway = Gateway::start(&[]);
    let web = format!("http://{}", gateway.address);
    let with_token = format!("http://{}/#token={}", gateway.address, gateway.token());
    let unix = format!("unix:{}", gateway.path("data/socket").display());
    for target in [&web, &with_token, &unix] {
        let (status, out, err) = chat(&gateway, target, "first\n\nsecond\n");
        assert_eq!((status, &*out, &*err), (Some(0), "first\nsecond\n", ""), "{target}");
    }
}

#[test]
fn a_pipe_needs_no_token_where_the_gateway_wants_none() {
    let gateway = Gateway::start(&["--no-auth"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = switchboard();
    command.args(["chat", &format!("http://{}", gateway.address)]).arg("--data-dir").arg(elsewhere.path());
    let Output { status, stdout, stderr } = run(command, "first\n[]\n");
    assert_eq!(
        (status.code(), &*stdout, &*stderr),
        (Some(0), &b"first\n[]\n"[..], &b""[..]),
        "a message is no frame of the older vocabulary"
    );
}

#[test]
fn eight_pipes_at_once_get_their_answers_also_where_only_two_agents_may_run() {
    for flags in [&[][..], &["--max-agents", "2"]] {
        let gateway = Gateway::start(flags);
        let target = format!("http://{}", gateway.address);
        std::thread::scope(|scope| {
            for pipe in 0..8 {
                let (gateway, target) = (&gateway, &target);
                scope.spawn(move || {
                    let said = format!("hi from {pipe}\n");
                    let (status, out, err) = chat(gateway, target, &said);
                    assert_eq!((status, &*out, &*err), (Some(0), &*said, ""), "{flags:?}");
                });
            }
        });
    }
}

#[test]
fn escape_sequences_of_a_model_do_not_reach_the_terminal() {
    let gateway = Gateway::start_with(|command| {
        command.args([
            "--agent-command",
            r"printf '\033[31mred\033]0;title\007 \302\2332J\r\n'",
            "--dialect",
            "text-raw",
        ]);
    });
    let target = format!("http://{}", gateway.address);
    let (status, out, _) = chat(&gateway, &target, "x\n");
    assert_eq!((status, &*out), (Some(0), "<U+001B>[31mred<U+001B>]0;title<U+0007> <U+009B>2J\n"));
}

#[test]
fn the_token_may_come_from_the_environment_or_a_file() {
    let gateway = Gateway::start(&[]);
    let target = format!("http://{}", gateway.address);
    let elsewhere = tempfile::tempdir().unwrap();
    let chat = |change: &dyn Fn(&mut std::process::Command)| {
        let mut command = switchboard();
        command.args(["chat", &target]).arg("--data-dir").arg(elsewhere.path());
        change(&mut command);
        let output = run(command, "x\n");
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (served, err) = chat(&|_| {});
    assert!(!served && err.contains("no token was found") && err.contains("--token-file"), "{err}");
    assert!(err.contains(elsewhere.path().join("token").to_str().unwrap()), "{err}");
    // Refused in the handshake, after which the gateway would wait for a token.
    gateway.wait_for_log("no_credentials");
    let (served, err) = chat(&|command| {
        command.env("SWITCHBOARD_TOKEN", "another");
    });
    assert!(!served && err.contains("refuses the credentials"), "{err}");
    for (served, err) in [
        chat(&|command| {
            command.env("SWITCHBOARD_TOKEN", gateway.token());
        }),
        chat(&|command| {
            command.arg("--token-file").arg(gateway.path("data/token"));
        }),
    ] {
        assert!(served, "{err}");
    }
}

#[test]
fn a_failed_turn_fails_the_command() {
    let gateway = Gateway::start_with(|command| {
        command.args([
            "--agent-command",
            "sh -c 'cat > /dev/null; echo partly; echo no such model >&2; exit 3'",
            "--dialect",
            "text",
        ]);
    });
    let (status, out, err) = chat(&gateway, &format!("http://{}", gateway.address), "x\n");
    assert_eq!((status, &*out), (Some(1), "partly\n"), "{err}");
    assert!(err.contains("Failed") && err.contains('3') && err.contains("no such model"), "{err}");
    let log = gateway.log();
    let said = log.lines().find(|line| line.contains("no such model"));
    assert!(said.is_some_and(|line| line.contains("WARN")), "{log}");
}

#[test]
fn a_message_that_is_too_long_fails_a_pipe_and_says_what_to_do() {
    let gateway = Gateway::start(&[]);
    let web = format!("http://{}", gateway.address);
    let unix = format!("unix:{}", gateway.path("data/socket").display());
    for target in [&web, &unix] {
        // The last length exceeds a socket's buffer: the gateway closes while the message is being written.
        for length in [259_000, 300_000, 2_000_000] {
            let (status, out, err) = chat(&gateway, target, &format!("{}\nshort\n", "a".repeat(length)));
            assert_eq!((status, &*out), (Some(1), "short\n"), "{target} {length}: {err}");
            assert!(err.contains("Shorten it, or put the text into a file"), "{target} {length}: {err}");
        }
    }
}

#[test]
fn a_pipe_fails_where_there_is_no_room_for_another_connection_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_file(dir.path(), "[limits]\nconnections_per_principal = 1\n");
    let gateway = Gateway::start(&["--config", config.to_str().unwrap()]);
    let mut only = gateway.websocket();
    assert_eq!(only.next().unwrap()["event"], "ready");
    let web = format!("http://{}", gateway.address);
    let unix = format!("unix:{}", gateway.path("data/socket").display());
    for target in [&web, &unix] {
        let (status, out, err) = chat(&gateway, target, "x\n");
        assert_eq!((status, &*out), (Some(1), ""), "{err}");
        assert!(err.contains("the limit is 1 connections of yours at once"), "{err}");
        assert!(err.contains("Close another"), "{err}");
    }
}

#[test]
fn a_refused_client_says_why_and_what_to_do() {
    let gateway = Gateway::start(&[]);
    let target = format!("http://{}/#token=wrong", gateway.address);
    let (status, _, err) = chat(&gateway, &target, "x\n");
    assert!(status == Some(1) && err.contains("--token-file") && !err.contains("wrong"), "{err}");
    let (status, _, err) = chat(&gateway, "http://127.0.0.1:1", "x\n");
    assert!(status == Some(1) && err.contains("switchboard serve"), "{err}");
    let (status, _, err) = chat(&gateway, "nonsense", "x\n");
    assert!(status == Some(1) && err.contains("http://HOST:PORT"), "{err}");
}

/// Relays connections until the test cuts them.
struct Wire {
    listener: TcpListener,
}

impl Wire {
    fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Relays the next connection, and returns its two ends.
    fn pass_one(&self, to: SocketAddr) -> [TcpStream; 2] {
        let (client, _) = self.listener.accept().unwrap();
        let server = TcpStream::connect(to).unwrap();
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            std::thread::spawn(move || {
                // Cut or closed: closes both ends.
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        [client, server]
    }
}

#[test]
fn a_lost_connection_is_resumed_and_every_word_comes_once() {
    let wire = Wire::new();
    let gateway = halves(&["--allow-host", &wire.address().to_string()]);
    let mut command = switchboard();
    command.args(["chat", &format!("http://{}", wire.address())]).arg("--data-dir").arg(gateway.path("data"));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ends = wire.pass_one(gateway.address);
    child.stdin.take().unwrap().write_all(b"count\n").unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while text != numbers(1..=300) {
        assert_ne!(out.read_line(&mut text).unwrap(), 0, "{text}");
    }
    for end in ends {
        // The relay may have closed the other end already.
        let _ = end.shutdown(Shutdown::Both);
    }
    std::fs::write(gateway.path("work/go"), "").unwrap();
    let _ends = wire.pass_one(gateway.address);
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, numbers(1..=600));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("Connection lost"), "{said}");
    assert!(wait_for_exit(&mut child).success());
}
