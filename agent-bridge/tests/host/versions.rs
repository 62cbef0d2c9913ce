//! Hosts of other versions, and sockets that are no host's.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use switchboard_core::{
    agent::AgentExit,
    wire::{Answer, Outcome},
};
use switchboard_test_support::{AlteredHost, EarlierHost};

use crate::{
    Fixture,
    deaths::impostor,
    gateway::{Log, TestGateway, completed, exit_error, shape},
    support::{READY, alive},
    trial,
    wire::{KILL, RETURN, STOP, VERSION},
};

/// What the agent says at the beginning of each answer.
const BEGIN: &str = r#"{"type":"system","subtype":"init","session_id":"s"}
{"type":"stream_event","event":{"type":"message_start","message":{"id":"m1","role":"assistant","content":[]}}}
{"type":"stream_event","event":{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}}"#;
const ASKS: &str = r#"{"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"x"},"tool_use_id":"t1"}}"#;

/// An agent that ends its turn when it is interrupted or gets an answer.
fn asking(_head: &Value, input: &str) -> Option<String> {
    if input.contains("interrupt") {
        return Some(
            r#"{"type":"result","is_error":true,"terminal_reason":"aborted_tools"}"#.to_owned() + "\n",
        );
    }
    input
        .contains("behavior")
        .then(|| r#"{"type":"result","is_error":false,"result":"thanks"}"#.to_owned() + "\n")
}

/// A piece of the streamed answer `text`.
fn piece(text: &str) -> String {
    let event =
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    format!("{}\n", json!({"type": "stream_event", "event": event}))
}

/// A gateway that adopts an older host in the middle of a turn, and all that the agent has written in it so far.
fn in_turn(fixture: &Fixture, output: &str) -> (TestGateway, EarlierHost) {
    let host = EarlierHost::new(&fixture.run_dir(), asking);
    let log = Log::of_a_turn("x");
    host.noted("start1", &json!({"start": {"session": null}}));
    host.output(&format!("{READY}\n"));
    host.noted(&format!("c1:{}", log.turn()), &json!({"prompt": {"turn": log.turn()}}));
    host.output(&format!("{BEGIN}\n{output}"));
    (TestGateway::adopt((fixture.demo(), log, 0)), host)
}

/// The host has ended its agent because it was asked to.
async fn was_stopped(gateway: TestGateway, host: &EarlierHost) -> AgentExit {
    let (exit, events) = gateway.exit().await;
    assert!(events.is_empty(), "{events:?}");
    let kinds = host.kinds();
    assert!(kinds.contains(&STOP) && !kinds.contains(&KILL), "{kinds:?}");
    assert!(host.has_ended());
    exit
}

/// Connects a gateway to an impostor that answers the hello with these bytes and then closes the connection. Returns
/// the code of the error.
async fn answered_by_impostor(fixture: &Fixture, answer: &'static [u8]) -> String {
    let (lock, listener) = impostor(&fixture.run_dir());
    let host = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.read_exact(&mut [0; 17]).unwrap();
        socket.write_all(answer).unwrap();
        drop(lock);
    });
    let (exit, events) = TestGateway::adopt((fixture.demo(), Log::after_a_cancel(), 1)).exit().await;
    host.join().unwrap();
    assert!(events.is_empty(), "{events:?}");
    exit_error(&exit).0.to_owned()
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a_turn_under_an_older_host_ends_as_usual_and_then_the_host_is_stopped",
            |fixture| async move {
                let (mut gateway, host) = in_turn(&fixture, "");
                host.output(&piece("one "));
                gateway.until_text().await;
                host.output(&piece("two"));
                host.output("{\"type\":\"result\",\"is_error\":false,\"result\":\"one two\"}\n");
                gateway.read_again_from(0);
                let turn = gateway.turn().await;
                assert!(completed(&turn) && turn.text() == "one two");
                let exit = was_stopped(gateway, &host).await;
                assert_eq!(exit_error(&exit).0, "agent_host_version");
            },
        ),
        trial("an_older_host_gets_the_commands_of_its_turn", |fixture| async move {
            let (mut gateway, host) = in_turn(&fixture, &format!("{ASKS}\n"));
            let request = gateway.next_request().await;
            gateway.answer(request, Answer::Allow { input_sha256: None });
            assert_eq!(gateway.turn().await.text(), "thanks");
            assert_eq!(exit_error(&was_stopped(gateway, &host).await).0, "agent_host_version");
        }),
        trial("a_turn_under_an_older_host_can_be_cancelled", |fixture| async move {
            let (mut gateway, host) = in_turn(&fixture, &format!("{ASKS}\n"));
            gateway.next_request().await;
            gateway.cancel();
            assert_eq!(gateway.turn().await.end().0, Outcome::Cancelled);
            was_stopped(gateway, &host).await;
        }),
        trial("an_older_host_survives_a_further_gateway_in_its_turn", |fixture| async move {
            let (mut gateway, host) = in_turn(&fixture, &piece("one "));
            gateway.until_text().await;
            let mut gateway = gateway.crash_and_adopt().await;
            host.output(&piece("two"));
            gateway.until_text().await;
            let mut gateway = gateway.crash_and_adopt().await;
            host.output("{\"type\":\"result\",\"is_error\":false,\"result\":\"one two\"}\n");
            gateway.read_again_from(0);
            let turn = gateway.turn().await;
            assert!(completed(&turn) && turn.text() == "one two");
            was_stopped(gateway, &host).await;
        }),
        trial("a_prompt_for_an_older_host_without_a_turn_goes_to_the_next_instance", |fixture| async move {
            let done = "{\"type\":\"result\",\"is_error\":false,\"result\":\"done\"}\n";
            let (mut gateway, host) = in_turn(&fixture, done);
            gateway.prompt("y");
            gateway.turn().await;
            let exit = was_stopped(gateway, &host).await;
            assert!(
                matches!(&exit, AgentExit::Unprompted(error) if error.code == "agent_host_version"),
                "{exit:?}"
            );
        }),
        trial("the_spool_of_a_dead_older_host_is_decoded_to_its_end", |fixture| async move {
            let log = Log::of_a_turn("x");
            let dir = fixture.run_dir();
            std::fs::create_dir_all(&dir).unwrap();
            let record = |kind: u8, position: u64, count: u32, payload: &str| {
                let mut frame = (13 + payload.len() as u32).to_le_bytes().to_vec();
                frame.push(kind);
                frame.extend(position.to_le_bytes());
                frame.extend(count.to_le_bytes());
                frame.extend(payload.bytes());
                frame
            };
            let command =
                |id: &str, told: Value| json!({"id": id, "action": "write", "told": told}).to_string();
            let records = [
                record(3, 1, 1, &command("start1", json!({"start": {"session": null}}))),
                record(2, 2, 1, &format!("{READY}\n")),
                record(3, 3, 1, &command("c1", json!({"prompt": {"turn": log.turn()}}))),
                record(2, 4, 5, &format!("{BEGIN}\n{}{}", piece("one "), piece("two"))),
                // Half a record, in the middle of which the host was killed.
                record(2, 9, 1, &piece("three"))[..20].to_vec(),
            ];
            std::fs::write(dir.join("spool.1"), records.concat()).unwrap();
            let (exit, events) = TestGateway::adopt((fixture.demo(), log, 0)).exit().await;
            assert_eq!(exit_error(&exit).0, "agent_exited");
            assert!(shape(&events).iter().any(|line| line.ends_with(": one two")), "{events:?}");
        }),
        trial("a_host_whose_pipe_cannot_be_had_passes_the_output_on", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.run_turn("echo x").await;
            let crashed = gateway.crash().await;
            // It serves no connection that asks for the pipe.
            let host = AlteredHost::new(&fixture.run_dir(), |_| {});
            let mut gateway = TestGateway::adopt(crashed);
            for text in ["y", "z"] {
                assert_eq!(gateway.run_turn(&format!("echo {text}")).await.text(), text);
            }
            assert!(host.kinds().contains(&RETURN), "{:?}", host.kinds());
            gateway.stop().await;
        }),
        trial("a_host_of_an_unknown_version_is_a_clear_error", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("slow 1000");
            gateway.until_text().await;
            let crashed = gateway.crash().await;
            let host = AlteredHost::new(&fixture.run_dir(), |hello| hello["version"] = (VERSION + 1).into());
            let (exit, _) = TestGateway::adopt(crashed).exit().await;
            assert_eq!(
                exit_error(&exit),
                (
                    "agent_host_version",
                    "The agent was started by another version of Switchboard, whose hosts speak version 4 of their \
                     protocol. This one knows versions 2 to 3 and cannot read the rest of the answer, so the agent was \
                     ended. Send the message again: the conversation goes on with a new agent."
                )
            );
            assert_eq!(host.kinds(), [1, KILL], "a hello and an order");
            assert!(alive(&fixture.mark).is_empty());
        }),
        trial("a_host_of_a_version_that_is_too_old_is_unknown", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.run_turn("echo x").await;
            let crashed = gateway.crash().await;
            let host = AlteredHost::new(&fixture.run_dir(), |hello| hello["version"] = 1.into());
            let (exit, _) = TestGateway::adopt(crashed).exit().await;
            assert_eq!(exit_error(&exit).0, "agent_host_version");
            assert_eq!(host.kinds(), [1, KILL]);
        }),
        trial("a_host_that_changes_its_version_is_ended", |fixture| async move {
            // It says that it is of the version before, whatever version it is greeted in, until it is greeted so.
            let (lock, listener) = impostor(&fixture.run_dir());
            let host = std::thread::spawn(move || {
                let answer = |version: u32| {
                    let answer = format!(r#"{{"version":{version}}}"#);
                    let mut frame = (13 + answer.len() as u32).to_le_bytes().to_vec();
                    frame.push(1);
                    frame.extend_from_slice(&[0; 12]);
                    frame.extend_from_slice(answer.as_bytes());
                    let (mut socket, _) = listener.accept().unwrap();
                    socket.read_exact(&mut [0; 17]).unwrap();
                    socket.write_all(&frame).unwrap();
                    socket
                };
                drop(answer(VERSION - 1));
                let mut order = [0; 5];
                answer(VERSION).read_exact(&mut order).unwrap();
                drop(lock);
                order
            });
            let (exit, _) = TestGateway::adopt((fixture.demo(), Default::default(), 0)).exit().await;
            assert_eq!(exit_error(&exit).0, "agent_host_version");
            assert_eq!(host.join().unwrap(), [1, 0, 0, 0, KILL]);
        }),
        trial("an_impostor_that_answers_with_garbage_is_no_host", |fixture| async move {
            for garbage in [
                &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
                &[0; 64],
                &[0xff; 64],
                // Heads of a hello: without a payload, with no JSON, with no version, and with one that is no number.
                b"\x0d\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0",
                b"\x0f\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0{]",
                b"\x0f\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0{}",
                b"\x1c\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0{\"version\":\"2\"}",
                // A record in place of a hello.
                b"\x0f\0\0\0\x02\x01\0\0\0\0\0\0\0\x01\0\0\0x\n",
            ] {
                assert_eq!(answered_by_impostor(&fixture, garbage).await, "agent_exited", "{garbage:?}");
                std::fs::remove_dir_all(fixture.run_dir()).unwrap();
            }
        }),
        trial("a_socket_of_another_user_is_no_host", |fixture| async move {
            if !rustix::process::geteuid().is_root() {
                #[allow(
                    clippy::print_stderr,
                    reason = "a test that was skipped must not look like one that passed"
                )]
                {
                    eprintln!("skipped: this user cannot act as another one");
                }
                return;
            }
            let (lock, listener) = impostor(&fixture.run_dir());
            let (listens, until_it_listens) = std::sync::mpsc::channel();
            let host = std::thread::spawn(move || {
                let other = rustix::process::Uid::from_raw(65_534);
                // Of this thread only. The peer of a connection is the user that has called listen(2) last.
                rustix::thread::set_thread_res_uid(other, other, other).unwrap();
                rustix::net::listen(&listener, 16).unwrap();
                listens.send(()).unwrap();
                let (mut socket, _): (UnixStream, _) = listener.accept().unwrap();
                let mut received = Vec::new();
                socket.read_to_end(&mut received).unwrap();
                drop(lock);
                received
            });
            until_it_listens.recv().unwrap();
            let (exit, _) = TestGateway::adopt((fixture.demo(), Log::after_a_cancel(), 1)).exit().await;
            assert_eq!(exit_error(&exit).0, "agent_exited");
            assert!(host.join().unwrap().is_empty(), "it learns nothing");
        }),
    ]
}
