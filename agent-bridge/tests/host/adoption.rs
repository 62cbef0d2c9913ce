//! A gateway ends, and the next gateway adopts its agents.

use libtest_mimic::Trial;
use switchboard_agent_bridge::HostConfig;
use switchboard_core::{
    agent::{AgentCommand, AgentEvent},
    wire::{Answer, Outcome},
};
use switchboard_runtime::AgentControl;
use switchboard_test_support::report_skipped;

use crate::{
    Fixture,
    gateway::{Log, TestGateway, completed, exit_error, shape},
    support::eventually,
    trial,
};

/// Writes every line of its input to a file; asks for permission at a prompt; ends the turn at an answer or an
/// interrupt.
pub(crate) const RECORDING: &str = r#"
while read -r line; do
    printf '%s\n' "$line" >> received
    case "$line" in
        *can_use_tool*) ;;
        *'"type":"user"'*) echo '{"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"x"},"tool_use_id":"t1"}}' ;;
        *'"subtype":"interrupt"'*) echo '{"type":"result","is_error":true,"terminal_reason":"aborted_tools"}' ;;
        *'"type":"control_response"'*) echo '{"type":"result","is_error":false,"result":"thanks"}' ;;
    esac
done"#;

pub(crate) fn received(fixture: &Fixture, what: &str) -> usize {
    let received = std::fs::read_to_string(fixture.workspace().join("received")).unwrap_or_default();
    received.lines().filter(|line| line.contains(what)).count()
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("every_event_comes_once_and_in_order", |fixture| async move {
            let mut whole = TestGateway::start(fixture.demo());
            whole.run_turn("long 2").await;
            let expected = shape(&whole.log.events);
            whole.stop().await;
            switchboard_agent_bridge::end_orphans(&fixture.hosts, &Default::default()).unwrap();

            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("long 2");
            gateway.until_text().await;
            let mut gateway = gateway.crash_and_adopt().await;
            gateway.until_text().await;
            let mut gateway = gateway.crash_and_adopt().await;
            gateway.turn().await;
            assert_eq!(shape(&gateway.log.events), expected);
            assert_eq!(gateway.run_turn("echo and on").await.text(), "and on");
            gateway.stop().await;
        }),
        trial("a_turn_that_ended_without_a_gateway_is_reported_once", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("fast 3000");
            gateway.until_text().await;
            let crashed = gateway.crash().await;
            let spooled = || spool_holds(&fixture, br#""type":"result""#);
            eventually("the answer is complete", spooled).await;
            let mut gateway = TestGateway::adopt(crashed);
            gateway.turn().await;
            gateway.read_again_from(0);
            let turn = gateway.turn().await;
            let expected: String = (1..=3000).map(|n| format!("{n} ")).collect();
            assert_eq!(turn.text(), expected);
            // No event of that turn is repeated.
            assert_eq!(gateway.run_turn("echo next").await.text(), "next");
            gateway.stop().await;
        }),
        trial("a_permission_stays_open_and_its_answer_arrives_once", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.stub(RECORDING));
            gateway.prompt("x");
            let request = gateway.next_request().await;
            let mut gateway = gateway.crash_and_adopt().await;
            gateway.answer(request, Answer::Allow { input_sha256: None });
            // The answer may have arrived or not: the next gateway sends it again.
            let mut gateway = gateway.crash_and_adopt().await;
            assert_eq!(gateway.turn().await.text(), "thanks");
            let gateway = gateway.crash_and_adopt().await;
            gateway.stop().await;
            assert_eq!((received(&fixture, r#""type":"user""#), received(&fixture, "behavior")), (1, 1));
        }),
        trial("a_cancel_in_flight_arrives_once", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.stub(RECORDING));
            gateway.prompt("x");
            gateway.next_request().await;
            gateway.cancel();
            let mut gateway = gateway.crash_and_adopt().await;
            assert_eq!(gateway.turn().await.end().0, Outcome::Cancelled);
            gateway.stop().await;
            assert_eq!(received(&fixture, "cancel-"), 1);
        }),
        trial("a_command_that_is_repeated_is_carried_out_once", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.stub(RECORDING));
            gateway.prompt("x");
            let request = gateway.next_request().await;
            let again = gateway.log.commands.clone();
            for command in &again {
                gateway.control(AgentControl::Command(command.clone()));
            }
            gateway.answer(request, Answer::Allow { input_sha256: None });
            let answer = gateway.log.commands.last().cloned().unwrap();
            gateway.control(AgentControl::Command(answer));
            gateway.turn().await;
            for command in again {
                gateway.control(AgentControl::Command(command));
            }
            gateway.prompt("y");
            let request = gateway.next_request().await;
            gateway.answer(request, Answer::Deny { message: None });
            gateway.turn().await;
            gateway.stop().await;
            assert_eq!((received(&fixture, r#""type":"user""#), received(&fixture, "behavior")), (2, 2));
        }),
        trial("a_prompt_that_was_not_spooled_is_sent", |fixture| async move {
            // The gateway crashes right after the prompt, whether or not the host has it.
            let mut gateway = TestGateway::start(fixture.stub(RECORDING));
            gateway.prompt("x");
            let mut gateway = gateway.crash_and_adopt().await;
            let request = gateway.next_request().await;
            gateway.answer(request, Answer::Allow { input_sha256: None });
            assert_eq!(gateway.turn().await.text(), "thanks");
            gateway.stop().await;
            assert_eq!(received(&fixture, r#""type":"user""#), 1);
        }),
        trial("a_refusal_in_flight_is_sent_once", |fixture| async move {
            // The codec refuses the unknown request; the gateway crashes before and after.
            let script = r#"read -r prompt
                echo '{"type":"control_request","request_id":"odd","request":{"subtype":"from_the_future"}}'
                while read -r line; do printf '%s\n' "$line" >> received; echo '{"type":"result","is_error":false,"result":"so be it"}'; done"#;
            let mut gateway = TestGateway::start(fixture.stub(script));
            gateway.prompt("x");
            let gateway = gateway.crash_and_adopt().await;
            let mut gateway = gateway.crash_and_adopt().await;
            assert_eq!(gateway.turn().await.text(), "so be it");
            let mut gateway = gateway.crash_and_adopt().await;
            gateway.receive_available();
            gateway.stop().await;
            assert_eq!(received(&fixture, "odd"), 1);
        }),
        trial("text_answers_are_adopted", |fixture| async move {
            let script = r#"read -r line; echo first; while ! [ -e gate ]; do sleep 0.01; done; echo second"#;
            let mut gateway = TestGateway::start(fixture.text(script));
            gateway.prompt("x\n");
            gateway.until_text().await;
            let mut gateway = gateway.crash_and_adopt().await;
            std::fs::write(fixture.workspace().join("gate"), "").unwrap();
            let turn = gateway.turn().await;
            assert!(completed(&turn));
            assert_eq!(
                shape(&gateway.log.events),
                ["1-1: first\nsecond\n", "1-1 ends, void false", "Completed"]
            );
            assert_eq!(gateway.run_turn("y\n").await.text(), "first\nsecond\n");
            gateway.stop().await;
        }),
        trial("a_second_gateway_waits_until_the_first_is_gone", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("long 3");
            gateway.until_text().await;
            // The first gateway still runs, and moves the agent's output.
            let mut second = TestGateway::adopt((gateway.config.clone(), gateway.log.of_the_same_turn(), 0));
            assert!(completed(&gateway.turn().await));
            second.receive_available();
            assert!(second.log.events.is_empty());
            gateway.crash().await;
            let turn = second.turn().await;
            assert!(completed(&turn) && turn.text().starts_with("**1.**"));
            second.stop().await;
        }),
        trial("a_gateway_that_leaves_sends_nothing_more", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("long 2");
            gateway.until_text().await;
            gateway.agent.leave();
            gateway.control(AgentControl::Stop);
            gateway.control(AgentControl::Kill);
            let mut gateway = gateway.crash_and_adopt().await;
            assert!(completed(&gateway.turn().await));
            gateway.stop().await;
        }),
        trial("a_gateway_whose_loop_has_ended_leaves_its_agents", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("long 2");
            gateway.until_text().await;
            gateway.drop_channels();
            let mut gateway = gateway.crash_and_adopt().await;
            assert!(completed(&gateway.turn().await));
            gateway.stop().await;
        }),
        trial("a_gateway_that_lacks_trimmed_records_gets_an_error", |fixture| async move {
            let mut config = fixture.demo();
            config.process.limits.host.spool_bytes = 512 * 1024;
            let mut gateway = TestGateway::start(config);
            for _ in 0..3 {
                gateway.run_turn("fast 1000").await;
            }
            let trimmed = || !fixture.run_dir().join("output.0").exists();
            eventually("what is committed elsewhere is gone", trimmed).await;
            let (config, ..) = gateway.crash().await;
            let (exit, events) = TestGateway::adopt((config, Default::default(), 0)).exit().await;
            assert_eq!(exit_error(&exit).0, "agent_host_lost");
            assert!(events.is_empty(), "{events:?}");
        }),
        trial("a_full_disk_pauses_everything_until_there_is_room", |mut fixture| async move {
            fixture.hosts = fixture.workspace.join("disk");
            let Some(_disk) = Disk::mount(&fixture.hosts) else { return };
            let mut gateway = TestGateway::start(fixture.demo());
            // What is in files already has a page with room for the next command.
            gateway.run_turn("echo x").await;
            let ballast = fixture.hosts.join("ballast");
            let mut file = std::fs::File::create(&ballast).unwrap();
            while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
            let spooled = || -> u64 {
                let files = std::fs::read_dir(fixture.run_dir()).unwrap().flatten();
                files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
            };
            let (before, from) = (spooled(), gateway.log.events.len());
            gateway.prompt("fast 10000");
            // It hears again and again that the agent waits.
            for _ in 0..5 {
                assert!(gateway.receive().await);
            }
            let mut gateway = gateway.crash_and_adopt().await;
            // Only what fits into the files' last pages is written.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            assert!(spooled() < before + 2 * 8192);
            drop(file);
            std::fs::remove_file(ballast).unwrap();
            let expected: String = (1..=10_000).map(|n| format!("{n} ")).collect();
            gateway.turn().await;
            gateway.read_again_from(from);
            assert!(gateway.turn().await.text() == expected);
            gateway.stop().await;
        }),
        trial("a_full_spool_pauses_the_agent_and_loses_nothing", |fixture| async move {
            // At least four times the longest record, which repeats the whole answer.
            const SPOOL: u64 = 2 * 1024 * 1024;
            let mut config = fixture.demo();
            config.process.limits.host.spool_bytes = SPOOL;
            let mut gateway = TestGateway::start(config);
            gateway.prompt("fast 60000");
            gateway.until_text().await;
            let crashed = gateway.crash().await;
            let size = || -> u64 {
                let files = std::fs::read_dir(fixture.run_dir()).unwrap().flatten();
                files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
            };
            eventually("the spool is full", || size() >= SPOOL).await;
            // At most one frame over the limit.
            assert!(size() < SPOOL + 1024 * 1024, "{}", size());
            let mut gateway = TestGateway::adopt(crashed);
            gateway.turn().await;
            gateway.read_again_from(0);
            let expected: String = (1..=60_000).map(|n| format!("{n} ")).collect();
            assert!(gateway.turn().await.text() == expected);
            assert!(size() < SPOOL + 1024 * 1024, "{}", size());
            assert!(gateway.log.checkpoints > 10, "{}", gateway.log.checkpoints);
            gateway.stop().await;
        }),
        trial("what_the_agent_writes_is_in_the_spool_before_anybody_sees_it", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            for turn in 0..20 {
                let text = format!("seen-{turn}");
                gateway.prompt(&format!("echo {text}"));
                gateway.until_text().await;
                assert!(spool_holds(&fixture, text.as_bytes()) && spool_holds(&fixture, b"turn-"));
                gateway.turn().await;
                if turn % 5 == 0 {
                    gateway = gateway.crash_and_adopt().await;
                }
            }
            gateway.stop().await;
        }),
        trial("an_agent_that_is_stopped_in_a_turn_is_interrupted", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.stub(RECORDING));
            gateway.prompt("x");
            gateway.next_request().await;
            gateway.stop().await;
            assert_eq!(received(&fixture, "interrupt"), 1);
        }),
        trial("a_line_longer_than_a_pipe_arrives_as_any_other", |fixture| async move {
            let script = r#"
while read -r line; do
    case "$line" in
        *long*) printf '{"type":"result","is_error":false,"result":"'; head -c 3000000 /dev/zero | tr '\0' x; echo '"}' ;;
        *'"type":"user"'*) echo '{"type":"result","is_error":false,"result":"short"}' ;;
    esac
done"#;
            let mut gateway = TestGateway::start(fixture.stub(script));
            for _ in 0..3 {
                assert_eq!(gateway.run_turn("x").await.text(), "short");
                assert!(gateway.run_turn("long").await.text() == "x".repeat(3_000_000));
                gateway = gateway.crash_and_adopt().await;
            }
            gateway.stop().await;
        }),
        trial("records_that_are_not_committed_stay_in_the_spool", |fixture| async move {
            let mut config = fixture.demo();
            config.process.limits.host.spool_bytes = 4 * 1024 * 1024;
            let mut gateway = TestGateway::start(config);
            gateway.prompt("fast 40000");
            gateway.until_text().await;
            // The gateway has the records, but not in its journal, when it crashes.
            gateway.discard(1).await;
            let mut gateway = gateway.crash_and_adopt().await;
            gateway.read_again_from(0);
            let expected: String = (1..=40_000).map(|n| format!("{n} ")).collect();
            assert!(gateway.turn().await.text() == expected);
            gateway.stop().await;
        }),
        trial("cancelled_before_the_agent_received_the_prompt", |fixture| async move {
            // A prompt and its cancel arrive before the agent is ready.
            let script = r#"while ! [ -e gate ]; do sleep 0.01; done
                echo '{"type":"control_response","response":{"subtype":"success","request_id":"initialize"}}'
                read -r line; read -r line; echo '{"type":"result","is_error":false,"result":"at last"}'; read -r line"#;
            let config = fixture.config(&["sh", "-c", script], switchboard_agent_bridge::dialect::CLAUDE);
            let mut gateway = TestGateway::start(config);
            gateway.prompt("x");
            eventually("the agent has been started", || {
                fixture.run_dir().join("host.json").exists() && !fixture.agents().is_empty()
            })
            .await;
            let mut gateway = gateway.crash_and_adopt().await;
            gateway.cancel();
            assert_eq!(gateway.turn().await.end().0, Outcome::Cancelled);
            gateway.prompt("y");
            let mut gateway = gateway.crash_and_adopt().await;
            std::fs::write(fixture.workspace().join("gate"), "").unwrap();
            assert_eq!(gateway.turn().await.text(), "at last");
            gateway.stop().await;
        }),
        trial("a_host_that_was_started_after_a_cancel_and_got_no_command_is_adopted", |fixture| async move {
            // A prompt that waited for the start was cancelled, which used the first position; then the gateway crashed
            // after it had started the host for the next prompt and before it had sent the prompt.
            let config = fixture.demo();
            let mut host = started_from(&fixture, &config, 2);
            let mut gateway = TestGateway::adopt((config, Log::after_a_cancel(), 1));
            gateway.prompt("echo after all");
            let told = gateway.log.commands.clone();
            let turn = gateway.turn().await;
            assert_eq!(turn.text(), "after all");
            // The same when the host has output, and has died before the next gateway.
            let (config, mut log, read) = gateway.crash().await;
            eventually("the result is spooled", || spool_holds(&fixture, br#""type":"result""#)).await;
            host.kill().unwrap();
            host.wait().unwrap();
            log.forget_all_but_the_cancel(told);
            let (exit, log) = TestGateway::adopt((config, log, read)).exit_and_log().await;
            assert_eq!(exit_error(&exit).0, "agent_exited");
            let said = shape(&log.events);
            assert!(said.iter().any(|line| line.ends_with("after all")), "{said:?}");
        }),
        trial("a_turn_that_the_log_lost_is_ended_before_the_next", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.stub(RECORDING));
            gateway.prompt("x");
            eventually("the turn has begun", || received(&fixture, r#""type":"user""#) == 1).await;
            let (config, mut log, read) = gateway.crash().await;
            eventually("the agent has asked", || spool_holds(&fixture, b"can_use_tool")).await;
            log.lose_prompt();
            let mut gateway = TestGateway::adopt((config, log, read));
            gateway.prompt("y");
            // Whatever the host has of the end of the one turn and the prompt of the other.
            let mut gateway = gateway.crash_and_adopt().await;
            let request = gateway.next_request().await;
            gateway.answer(request, Answer::Allow { input_sha256: None });
            let turn = gateway.turn().await;
            assert_eq!((turn.text(), turn.end().0), ("thanks".to_owned(), Outcome::Completed));
            let asked = gateway.log.events.iter().filter(|event| matches!(event, AgentEvent::Permission(_)));
            assert_eq!(asked.count(), 1, "{:?}", gateway.log.events);
            gateway.stop().await;
            assert_eq!((received(&fixture, r#""type":"user""#), received(&fixture, "interrupt")), (2, 1));
        }),
        trial("a_lost_turn_is_not_taken_for_the_one_before_it", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.stub(RECORDING));
            gateway.prompt("x");
            let request = gateway.next_request().await;
            gateway.answer(request, Answer::Allow { input_sha256: None });
            gateway.discard(1).await;
            gateway.prompt("y");
            eventually("the next turn has begun", || received(&fixture, r#""type":"user""#) == 2).await;
            let (config, mut log, read) = gateway.crash().await;
            log.lose_prompt();
            let mut gateway = TestGateway::adopt((config, log, read));
            assert_eq!(gateway.turn().await.text(), "thanks");
            gateway.prompt("z");
            let request = gateway.next_request().await;
            gateway.answer(request, Answer::Allow { input_sha256: None });
            assert_eq!(gateway.turn().await.text(), "thanks");
            gateway.stop().await;
            assert_eq!((received(&fixture, r#""type":"user""#), received(&fixture, "interrupt")), (3, 1));
        }),
        trial("a_text_command_that_the_log_lost_is_ended_before_the_next", |fixture| async move {
            let script = r#"read -r line; echo "$line"; while ! [ -e gate ]; do sleep 0.01; done; echo end"#;
            let mut gateway = TestGateway::start(fixture.text(script));
            gateway.prompt("x\n");
            eventually("the turn has begun", || spool_holds(&fixture, b"x\n")).await;
            let (config, mut log, read) = gateway.crash().await;
            log.lose_prompt();
            let mut gateway = TestGateway::adopt((config, log, read));
            gateway.prompt("y\n");
            gateway.until_text().await;
            std::fs::write(fixture.workspace().join("gate"), "").unwrap();
            assert!(completed(&gateway.turn().await));
            assert_eq!(shape(&gateway.log.events), ["1-2: y\nend\n", "1-2 ends, void false", "Completed"]);
            gateway.stop().await;
        }),
        trial("a_late_reader_misses_nothing", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            for n in 0..5 {
                gateway.prompt(&format!("echo {n}"));
                let crashed = gateway.crash().await;
                gateway = TestGateway::adopt(crashed);
                assert_eq!(gateway.turn().await.text(), n.to_string());
            }
            let prompts =
                gateway.log.commands.iter().filter(|c| matches!(c, AgentCommand::Prompt { .. })).count();
            assert_eq!(prompts, 0);
            let ends =
                gateway.log.events.iter().filter(|e| matches!(e, AgentEvent::TurnEnded { .. })).count();
            assert_eq!(ends, 5);
            gateway.stop().await;
        }),
    ]
}

/// Starts a host of the first instance whose records begin at this position, as a gateway that has crashed since.
fn started_from(fixture: &Fixture, config: &HostConfig, first: u64) -> std::process::Child {
    let setup = serde_json::json!({
        "version": 3, "hosts": config.hosts, "run": 1, "chat": "owner/c", "first": first,
        "mark": format!("{}.began", fixture.mark), "command": config.process.command,
        "framing": config.process.dialect.framing(), "workspace": config.process.workspace, "env": [],
        "limits": config.process.limits,
    });
    let mut command = std::process::Command::new(&config.host[0]);
    let piped = std::process::Stdio::piped;
    let mut host = command.args(&config.host[1..]).stdin(piped()).stdout(piped()).spawn().unwrap();
    std::io::Write::write_all(&mut host.stdin.take().unwrap(), setup.to_string().as_bytes()).unwrap();
    let mut said = [0; 6];
    std::io::Read::read_exact(&mut host.stdout.take().unwrap(), &mut said).unwrap();
    assert_eq!(&said, b"ready\n");
    host
}

/// A small file system in memory, where this user may mount one.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(path: &std::path::Path) -> Option<Self> {
        std::fs::create_dir(path).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs"]).arg(path);
        if !mount.output().is_ok_and(|output| output.status.success()) {
            report_skipped("a host on a full disk: no file system can be mounted (this needs root)");
            return None;
        }
        Some(Self(path.into()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

pub(crate) fn spool_holds(fixture: &Fixture, what: &[u8]) -> bool {
    let files = std::fs::read_dir(fixture.run_dir()).into_iter().flatten().flatten();
    let mut spools = files.filter(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with("output.") || name.starts_with("notes.")
    });
    spools.any(|file| {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        bytes.windows(what.len()).any(|window| window == what)
    })
}
