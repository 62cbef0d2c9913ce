//! `switchboard chat`, as it is used in a pipe.

use std::process::Output;

use crate::lab::{Gateway, run, switchboard};

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
fn escape_sequences_of_a_model_do_not_reach_the_terminal() {
    let gateway = Gateway::start_with(|command| {
        command.args([
            "--agent-command",
            r"printf '\033[31mred\033]0;title\007 \302\2332J\r\n'",
            "--dialect",
            "text",
        ]);
    });
    let target = format!("http://{}", gateway.address);
    let (status, out, _) = chat(&gateway, &target, "x\n");
    assert_eq!((status, &*out), (Some(0), "[31mred]0;title 2J\n"));
}

#[test]
fn a_failed_turn_fails_the_command() {
    let gateway = Gateway::start_with(|command| {
        command.args([
            "--agent-command",
            "sh -c 'cat > /dev/null; echo partly; exit 3'",
            "--dialect",
            "text",
        ]);
    });
    let (status, out, err) = chat(&gateway, &format!("http://{}", gateway.address), "x\n");
    assert_eq!((status, &*out), (Some(1), "partly\n"), "{err}");
    assert!(err.contains("Failed") && err.contains('3'), "{err}");
}

#[test]
fn who_is_not_let_in_is_told_why() {
    let gateway = Gateway::start(&[]);
    let target = format!("http://{}/#token=wrong", gateway.address);
    let (status, _, err) = chat(&gateway, &target, "x\n");
    assert!(status == Some(1) && err.contains("--token-file") && !err.contains("wrong"), "{err}");
    let (status, _, err) = chat(&gateway, "http://127.0.0.1:1", "x\n");
    assert!(status == Some(1) && err.contains("switchboard serve"), "{err}");
    let (status, _, err) = chat(&gateway, "nonsense", "x\n");
    assert!(status == Some(1) && err.contains("http://HOST:PORT"), "{err}");
}
