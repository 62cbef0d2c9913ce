//! Hosts of other versions, and sockets that are no host's.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use libtest_mimic::Trial;
use switchboard_agent_bridge::list_hosts;
use switchboard_core::{
    agent::AgentExit,
    wire::{Answer, Outcome},
};
use switchboard_test_support::AlteredHost;

use crate::{
    Fixture,
    adoption::{RECORDING, received},
    deaths::impostor,
    gateway::{Log, TestGateway, completed, exit_error, shape},
    support::alive,
    trial,
    wire::{BORROW, KILL, STOP, VERSION},
};

/// Crashes a gateway, and lets its host say that it is of the version before the present one.
async fn outdated(gateway: TestGateway, fixture: &Fixture) -> (TestGateway, AlteredHost) {
    let crashed = gateway.crash().await;
    let host = AlteredHost::new(&fixture.run_dir(), |hello| hello["version"] = (VERSION - 1).into());
    (TestGateway::adopt(crashed), host)
}

/// The host has ended its agent because it was asked to, and was never asked for the agent's output.
async fn was_stopped(gateway: TestGateway, host: &AlteredHost, fixture: &Fixture) -> AgentExit {
    let (exit, events) = gateway.exit().await;
    assert!(events.is_empty(), "{events:?}");
    let kinds = host.kinds();
    assert!(kinds.contains(&STOP) && !kinds.contains(&KILL) && !kinds.contains(&BORROW), "{kinds:?}");
    assert!(!list_hosts(&fixture.hosts).unwrap()[0].live);
    assert!(alive(&fixture.mark).is_empty());
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
                let mut whole = TestGateway::start(fixture.demo());
                whole.run_turn("long 2").await;
                let expected = shape(&whole.log.events);
                whole.stop().await;
                switchboard_agent_bridge::end_orphans(&fixture.hosts, &Default::default()).unwrap();

                let mut gateway = TestGateway::start(fixture.demo());
                gateway.prompt("long 2");
                gateway.until_text().await;
                let (mut gateway, host) = outdated(gateway, &fixture).await;
                assert!(completed(&gateway.turn().await));
                assert_eq!(shape(&gateway.log.events), expected);
                let exit = was_stopped(gateway, &host, &fixture).await;
                assert_eq!(exit_error(&exit).0, "agent_host_version");
            },
        ),
        trial("an_older_host_gets_the_commands_of_its_turn", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.stub(RECORDING));
            gateway.prompt("x");
            let request = gateway.next_request().await;
            let (mut gateway, _host) = outdated(gateway, &fixture).await;
            gateway.answer(request, Answer::Allow { input_sha256: None });
            assert_eq!(gateway.turn().await.text(), "thanks");
            assert_eq!(exit_error(&gateway.exit().await.0).0, "agent_host_version");
            assert_eq!((received(&fixture, r#""type":"user""#), received(&fixture, "behavior")), (1, 1));
        }),
        trial("a_turn_under_an_older_host_can_be_cancelled", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.stub(RECORDING));
            gateway.prompt("x");
            gateway.next_request().await;
            let (mut gateway, host) = outdated(gateway, &fixture).await;
            gateway.cancel();
            assert_eq!(gateway.turn().await.end().0, Outcome::Cancelled);
            was_stopped(gateway, &host, &fixture).await;
        }),
        trial("an_older_host_survives_a_further_gateway_in_its_turn", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("long 3");
            gateway.until_text().await;
            let (mut gateway, host) = outdated(gateway, &fixture).await;
            gateway.until_text().await;
            let mut gateway = gateway.crash_and_adopt().await;
            assert!(completed(&gateway.turn().await));
            was_stopped(gateway, &host, &fixture).await;
        }),
        trial("a_prompt_for_an_older_host_without_a_turn_goes_to_the_next_instance", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.stub(RECORDING));
            gateway.prompt("x");
            let request = gateway.next_request().await;
            gateway.answer(request, Answer::Allow { input_sha256: None });
            gateway.turn().await;
            let (mut gateway, host) = outdated(gateway, &fixture).await;
            gateway.prompt("y");
            let exit = was_stopped(gateway, &host, &fixture).await;
            assert!(
                matches!(&exit, AgentExit::Unprompted(error) if error.code == "agent_host_version"),
                "{exit:?}"
            );
            assert_eq!(received(&fixture, r#""type":"user""#), 1);
        }),
        trial("a_host_that_cannot_lend_its_output_passes_it_on", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.run_turn("echo x").await;
            let crashed = gateway.crash().await;
            let host = AlteredHost::new(&fixture.run_dir(), |hello| {
                hello.as_object_mut().unwrap().remove("lends").unwrap();
            });
            let mut gateway = TestGateway::adopt(crashed);
            for text in ["y", "z"] {
                assert_eq!(gateway.run_turn(&format!("echo {text}")).await.text(), text);
            }
            assert!(!host.kinds().contains(&BORROW), "{:?}", host.kinds());
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
                    "The agent was started by another version of Switchboard, whose hosts speak version 3 of their \
                     protocol. This one knows versions 1 to 2 and cannot read the rest of the answer, so the agent was \
                     ended. Send the message again: the conversation goes on with a new agent."
                )
            );
            assert_eq!(host.kinds(), [1, KILL], "a hello and an order");
            assert!(alive(&fixture.mark).is_empty());
        }),
        trial("a_host_of_a_version_before_the_first_is_unknown", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.run_turn("echo x").await;
            let crashed = gateway.crash().await;
            let host = AlteredHost::new(&fixture.run_dir(), |hello| hello["version"] = 0.into());
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
            let host = std::thread::spawn(move || {
                let other = rustix::process::Uid::from_raw(65_534);
                // Of this thread only. The peer of a connection is the user that has called listen(2) last.
                rustix::thread::set_thread_res_uid(other, other, other).unwrap();
                rustix::net::listen(&listener, 16).unwrap();
                let (mut socket, _): (UnixStream, _) = listener.accept().unwrap();
                let mut received = Vec::new();
                socket.read_to_end(&mut received).unwrap();
                drop(lock);
                received
            });
            let (exit, _) = TestGateway::adopt((fixture.demo(), Log::after_a_cancel(), 1)).exit().await;
            assert_eq!(exit_error(&exit).0, "agent_exited");
            assert!(host.join().unwrap().is_empty(), "it learns nothing");
        }),
    ]
}
