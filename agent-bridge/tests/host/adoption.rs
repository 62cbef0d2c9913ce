//! A gateway goes and the next one takes up its agents.

use libtest_mimic::Trial;
use switchboard_agent_bridge::HostConfig;
use switchboard_core::{
    agent::{AgentCommand, AgentEvent},
    wire::{Answer, Outcome},
};
use switchboard_runtime::AgentControl;

use crate::{
    Place,
    bench::{Bench, Log, completed, gone, shape},
    support::eventually,
    trial,
};

/// Notes every line that it hears; asks at a prompt; ends the turn at an answer or an interrupt.
const NOTING: &str = r#"
while read -r line; do
    printf '%s\n' "$line" >> heard
    case "$line" in
        *can_use_tool*) ;;
        *'"type":"user"'*) echo '{"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"x"},"tool_use_id":"t1"}}' ;;
        *'"subtype":"interrupt"'*) echo '{"type":"result","is_error":true,"terminal_reason":"aborted_tools"}' ;;
        *'"type":"control_response"'*) echo '{"type":"result","is_error":false,"result":"thanks"}' ;;
    esac
done"#;

pub(crate) fn heard(place: &Place, what: &str) -> usize {
    let heard = std::fs::read_to_string(place.workspace().join("heard")).unwrap_or_default();
    heard.lines().filter(|line| line.contains(what)).count()
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("every_event_comes_once_and_in_order", |place| async move {
            let mut whole = Bench::begin(place.demo());
            whole.said("long 2").await;
            let expected = shape(&whole.log.events);
            whole.stop().await;
            switchboard_agent_bridge::end_orphans(&place.hosts, &Default::default()).unwrap();

            let mut bench = Bench::begin(place.demo());
            bench.prompt("long 2");
            bench.speaks().await;
            let mut bench = bench.crash_and_adopt().await;
            bench.speaks().await;
            let mut bench = bench.crash_and_adopt().await;
            bench.turn().await;
            assert_eq!(shape(&bench.log.events), expected);
            assert_eq!(bench.said("echo and on").await.text(), "and on");
            bench.stop().await;
        }),
        trial("a_turn_that_ended_meanwhile_is_told_once", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("fast 3000");
            bench.speaks().await;
            let crashed = bench.crash().await;
            let spooled = || spool_holds(&place, br#""type":"result""#);
            eventually("the answer is complete", spooled).await;
            let mut bench = Bench::adopt(crashed);
            bench.turn().await;
            bench.reread(0);
            let turn = bench.turn().await;
            let expected: String = (1..=3000).map(|n| format!("{n} ")).collect();
            assert_eq!(turn.text(), expected);
            // Nothing of it comes again.
            assert_eq!(bench.said("echo next").await.text(), "next");
            bench.stop().await;
        }),
        trial("a_permission_stays_open_and_its_answer_comes_once", |place| async move {
            let mut bench = Bench::begin(place.stub(NOTING));
            bench.prompt("x");
            let request = bench.request().await;
            let mut bench = bench.crash_and_adopt().await;
            bench.answer(request, Answer::Allow { input_sha256: None });
            // It may or may not have got there: it is told again.
            let mut bench = bench.crash_and_adopt().await;
            assert_eq!(bench.turn().await.text(), "thanks");
            let bench = bench.crash_and_adopt().await;
            bench.stop().await;
            assert_eq!((heard(&place, r#""type":"user""#), heard(&place, "behavior")), (1, 1));
        }),
        trial("a_cancel_in_flight_comes_once", |place| async move {
            let mut bench = Bench::begin(place.stub(NOTING));
            bench.prompt("x");
            bench.request().await;
            bench.cancel();
            let mut bench = bench.crash_and_adopt().await;
            assert_eq!(bench.turn().await.end().0, Outcome::Cancelled);
            bench.stop().await;
            assert_eq!(heard(&place, "cancel-"), 1);
        }),
        trial("a_command_that_is_repeated_is_carried_out_once", |place| async move {
            let mut bench = Bench::begin(place.stub(NOTING));
            bench.prompt("x");
            let request = bench.request().await;
            let again = bench.log.commands.clone();
            for command in &again {
                bench.order(AgentControl::Command(command.clone()));
            }
            bench.answer(request, Answer::Allow { input_sha256: None });
            let answer = bench.log.commands.last().cloned().unwrap();
            bench.order(AgentControl::Command(answer));
            bench.turn().await;
            for command in again {
                bench.order(AgentControl::Command(command));
            }
            bench.prompt("y");
            let request = bench.request().await;
            bench.answer(request, Answer::Deny { message: None });
            bench.turn().await;
            bench.stop().await;
            assert_eq!((heard(&place, r#""type":"user""#), heard(&place, "behavior")), (2, 2));
        }),
        trial("a_prompt_that_was_not_spooled_is_given", |place| async move {
            // The gateway dies right behind its order, wherever the prompt is by then.
            let mut bench = Bench::begin(place.stub(NOTING));
            bench.prompt("x");
            let mut bench = bench.crash_and_adopt().await;
            let request = bench.request().await;
            bench.answer(request, Answer::Allow { input_sha256: None });
            assert_eq!(bench.turn().await.text(), "thanks");
            bench.stop().await;
            assert_eq!(heard(&place, r#""type":"user""#), 1);
        }),
        trial("a_refusal_that_was_on_its_way_is_given_once", |place| async move {
            // The codec owes the agent a refusal of what it does not understand; the gateway dies before and after.
            let script = r#"read -r prompt
                echo '{"type":"control_request","request_id":"odd","request":{"subtype":"from_the_future"}}'
                while read -r line; do printf '%s\n' "$line" >> heard; echo '{"type":"result","is_error":false,"result":"so be it"}'; done"#;
            let mut bench = Bench::begin(place.stub(script));
            bench.prompt("x");
            let bench = bench.crash_and_adopt().await;
            let mut bench = bench.crash_and_adopt().await;
            assert_eq!(bench.turn().await.text(), "so be it");
            let mut bench = bench.crash_and_adopt().await;
            bench.keep_what_came();
            bench.stop().await;
            assert_eq!(heard(&place, "odd"), 1);
        }),
        trial("text_answers_are_taken_up", |place| async move {
            let script = r#"read -r line; echo first; while ! [ -e gate ]; do sleep 0.01; done; echo second"#;
            let mut bench = Bench::begin(place.text(script));
            bench.prompt("x\n");
            bench.speaks().await;
            let mut bench = bench.crash_and_adopt().await;
            std::fs::write(place.workspace().join("gate"), "").unwrap();
            let turn = bench.turn().await;
            assert!(completed(&turn));
            assert_eq!(
                shape(&bench.log.events),
                ["1-1: first\nsecond\n", "1-1 ends, void false", "Completed"]
            );
            assert_eq!(bench.said("y\n").await.text(), "first\nsecond\n");
            bench.stop().await;
        }),
        trial("a_second_gateway_takes_over", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("long 3");
            bench.speaks().await;
            // Still alive, as one whose machine was asleep.
            let mut second = Bench::adopt((bench.config.clone(), bench.log.of_the_same_turn(), 0));
            let (exit, _) = bench.exit().await;
            assert_eq!(gone(&exit).0, "agent_taken_over");
            let turn = second.turn().await;
            assert!(completed(&turn) && turn.text().starts_with("**1.**"));
            second.stop().await;
        }),
        trial("a_gateway_that_leaves_says_nothing_more", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("long 2");
            bench.speaks().await;
            bench.agent.leave();
            bench.order(AgentControl::Stop);
            bench.order(AgentControl::Kill);
            let mut bench = bench.crash_and_adopt().await;
            assert!(completed(&bench.turn().await));
            bench.stop().await;
        }),
        trial("a_gateway_whose_loop_has_gone_leaves_its_agents", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("long 2");
            bench.speaks().await;
            bench.desert();
            let mut bench = bench.crash_and_adopt().await;
            assert!(completed(&bench.turn().await));
            bench.stop().await;
        }),
        trial("a_gateway_that_has_forgotten_what_was_trimmed_is_told_so", |place| async move {
            let mut config = place.demo();
            config.process.limits.host.spool_bytes = 512 * 1024;
            let mut bench = Bench::begin(config);
            for _ in 0..3 {
                bench.said("fast 1000").await;
            }
            let trimmed = || !place.run_dir().join("spool.1").exists();
            eventually("what is kept elsewhere is gone", trimmed).await;
            let (config, ..) = bench.crash().await;
            let (exit, events) = Bench::adopt((config, Default::default(), 0)).exit().await;
            assert_eq!(gone(&exit).0, "agent_host_lost");
            assert!(events.is_empty(), "{events:?}");
        }),
        trial("a_full_disk_holds_everything_until_there_is_room", |mut place| async move {
            place.hosts = place.workspace.join("disk");
            let Some(_disk) = Disk::mount(&place.hosts) else { return };
            let mut bench = Bench::begin(place.demo());
            // Its output is lent with the first turn, or the next: what it is told then fits into a page that is there.
            let told = || std::fs::metadata(place.run_dir().join("told")).map_or(0, |told| told.len());
            while told() == 0 {
                bench.said("echo x").await;
            }
            let ballast = place.hosts.join("ballast");
            let mut file = std::fs::File::create(&ballast).unwrap();
            while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
            let spooled = || -> u64 {
                let files = std::fs::read_dir(place.run_dir()).unwrap().flatten();
                files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
            };
            let (before, from) = (spooled(), bench.log.events.len());
            bench.prompt("fast 10000");
            bench.speaks().await;
            let mut bench = bench.crash_and_adopt().await;
            // What still fits into the files' last pages is taken, and not more.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            assert!(spooled() < before + 2 * 8192);
            drop(file);
            std::fs::remove_file(ballast).unwrap();
            let expected: String = (1..=10_000).map(|n| format!("{n} ")).collect();
            bench.turn().await;
            bench.reread(from);
            assert!(bench.turn().await.text() == expected);
            bench.stop().await;
        }),
        trial("a_full_spool_holds_the_agent_and_loses_nothing", |place| async move {
            // At least four times the longest record, which is the whole answer again.
            const SPOOL: u64 = 2 * 1024 * 1024;
            let mut config = place.demo();
            config.process.limits.host.spool_bytes = SPOOL;
            let mut bench = Bench::begin(config);
            bench.prompt("fast 60000");
            bench.speaks().await;
            let crashed = bench.crash().await;
            let size = || -> u64 {
                let files = std::fs::read_dir(place.run_dir()).unwrap().flatten();
                files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
            };
            eventually("it is full", || size() >= SPOOL).await;
            // One frame over the limit at most, and it does not grow.
            assert!(size() < SPOOL + 1024 * 1024, "{}", size());
            let mut bench = Bench::adopt(crashed);
            bench.turn().await;
            bench.reread(0);
            let expected: String = (1..=60_000).map(|n| format!("{n} ")).collect();
            assert!(bench.turn().await.text() == expected);
            assert!(size() < SPOOL + 1024 * 1024, "{}", size());
            assert!(bench.log.checkpoints > 10, "{}", bench.log.checkpoints);
            bench.stop().await;
        }),
        trial("what_is_read_from_the_agent_itself_is_spooled_once_nobody_reads_it", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.said("echo one").await;
            bench.prompt("fast 500");
            bench.turn().await;
            assert!(!spool_holds(&place, b" 500 ") && spool_holds(&place, b"turn-"));
            let bench = bench.crash().await;
            eventually("it is spooled", || spool_holds(&place, br#""type":"result""#)).await;
            let mut bench = Bench::adopt(bench);
            let read = bench.log.events.len();
            assert_eq!(bench.said("echo two").await.text(), "two");
            assert!(
                !bench.log.events[read..]
                    .iter()
                    .any(|event| shape(std::slice::from_ref(event)).iter().any(|line| line.contains("500")))
            );
            bench.stop().await;
        }),
        trial("an_agent_that_is_stopped_in_a_turn_is_interrupted", |place| async move {
            let mut bench = Bench::begin(place.stub(NOTING));
            bench.prompt("x");
            bench.request().await;
            bench.stop().await;
            assert_eq!(heard(&place, "interrupt"), 1);
        }),
        trial("a_line_that_no_pipe_holds_comes_as_any_other", |place| async move {
            let script = r#"
while read -r line; do
    case "$line" in
        *long*) printf '{"type":"result","is_error":false,"result":"'; head -c 3000000 /dev/zero | tr '\0' x; echo '"}' ;;
        *'"type":"user"'*) echo '{"type":"result","is_error":false,"result":"short"}' ;;
    esac
done"#;
            let mut bench = Bench::begin(place.stub(script));
            for _ in 0..3 {
                assert_eq!(bench.said("x").await.text(), "short");
                assert!(bench.said("long").await.text() == "x".repeat(3_000_000));
                bench = bench.crash_and_adopt().await;
            }
            bench.stop().await;
        }),
        trial("what_no_log_has_stays_in_the_spool", |place| async move {
            let mut config = place.demo();
            config.process.limits.host.spool_bytes = 4 * 1024 * 1024;
            let mut bench = Bench::begin(config);
            bench.prompt("fast 40000");
            bench.speaks().await;
            // Handed over, and on its way to the journal when the gateway dies.
            bench.lose(1).await;
            let mut bench = bench.crash_and_adopt().await;
            bench.reread(0);
            let expected: String = (1..=40_000).map(|n| format!("{n} ")).collect();
            assert!(bench.turn().await.text() == expected);
            bench.stop().await;
        }),
        trial("cancelled_before_the_agent_has_heard_of_it", |place| async move {
            // It is not ready for a while; a prompt and its cancel come and go meanwhile.
            let script = r#"while ! [ -e gate ]; do sleep 0.01; done
                echo '{"type":"control_response","response":{"subtype":"success","request_id":"initialize"}}'
                read -r line; read -r line; echo '{"type":"result","is_error":false,"result":"at last"}'; read -r line"#;
            let config = place.config(&["sh", "-c", script], switchboard_agent_bridge::dialect::CLAUDE);
            let mut bench = Bench::begin(config);
            bench.prompt("x");
            eventually("it has been started", || {
                place.run_dir().join("host.json").exists() && !place.agents().is_empty()
            })
            .await;
            let mut bench = bench.crash_and_adopt().await;
            bench.cancel();
            assert_eq!(bench.turn().await.end().0, Outcome::Cancelled);
            bench.prompt("y");
            let mut bench = bench.crash_and_adopt().await;
            std::fs::write(place.workspace().join("gate"), "").unwrap();
            assert_eq!(bench.turn().await.text(), "at last");
            bench.stop().await;
        }),
        trial("a_host_that_came_after_a_cancel_and_was_told_nothing_is_taken_up", |place| async move {
            // A prompt that waited for its start was cancelled, which took the first position; then the gateway died
            // between starting the host for the next prompt and telling it so.
            let config = place.demo();
            let mut host = started_from(&place, &config, 2);
            let mut bench = Bench::adopt((config, Log::after_a_cancel(), 1));
            bench.prompt("echo after all");
            let told = bench.log.commands.clone();
            let turn = bench.turn().await;
            assert_eq!(turn.text(), "after all");
            // The same when that host has spoken, and is dead before anybody came back.
            let (config, mut log, read) = bench.crash().await;
            eventually("it is spooled", || spool_holds(&place, br#""type":"result""#)).await;
            host.kill().unwrap();
            host.wait().unwrap();
            log.forget_all_but_the_cancel(told);
            let (exit, log) = Bench::adopt((config, log, read)).end().await;
            assert_eq!(gone(&exit).0, "agent_exited");
            let said = shape(&log.events);
            assert!(said.iter().any(|line| line.ends_with("after all")), "{said:?}");
        }),
        trial("a_turn_that_the_log_has_lost_is_ended_before_the_next", |place| async move {
            let mut bench = Bench::begin(place.stub(NOTING));
            bench.prompt("x");
            eventually("it has begun", || heard(&place, r#""type":"user""#) == 1).await;
            let (config, mut log, read) = bench.crash().await;
            eventually("it has asked", || spool_holds(&place, b"can_use_tool")).await;
            log.lose_prompt();
            let mut bench = Bench::adopt((config, log, read));
            bench.prompt("y");
            // Wherever the end of the one and the prompt of the other are by then.
            let mut bench = bench.crash_and_adopt().await;
            let request = bench.request().await;
            bench.answer(request, Answer::Allow { input_sha256: None });
            let turn = bench.turn().await;
            assert_eq!((turn.text(), turn.end().0), ("thanks".to_owned(), Outcome::Completed));
            let asked = bench.log.events.iter().filter(|event| matches!(event, AgentEvent::Permission(_)));
            assert_eq!(asked.count(), 1, "{:?}", bench.log.events);
            bench.stop().await;
            assert_eq!((heard(&place, r#""type":"user""#), heard(&place, "interrupt")), (2, 1));
        }),
        trial("a_lost_turn_is_not_taken_for_the_one_before_it", |place| async move {
            let mut bench = Bench::begin(place.stub(NOTING));
            bench.prompt("x");
            let request = bench.request().await;
            bench.answer(request, Answer::Allow { input_sha256: None });
            bench.lose(1).await;
            bench.prompt("y");
            eventually("it has begun the next", || heard(&place, r#""type":"user""#) == 2).await;
            let (config, mut log, read) = bench.crash().await;
            log.lose_prompt();
            let mut bench = Bench::adopt((config, log, read));
            assert_eq!(bench.turn().await.text(), "thanks");
            bench.prompt("z");
            let request = bench.request().await;
            bench.answer(request, Answer::Allow { input_sha256: None });
            assert_eq!(bench.turn().await.text(), "thanks");
            bench.stop().await;
            assert_eq!((heard(&place, r#""type":"user""#), heard(&place, "interrupt")), (3, 1));
        }),
        trial("a_text_command_that_the_log_has_lost_is_ended_before_the_next", |place| async move {
            let script = r#"read -r line; echo "$line"; while ! [ -e gate ]; do sleep 0.01; done; echo end"#;
            let mut bench = Bench::begin(place.text(script));
            bench.prompt("x\n");
            eventually("it has begun", || spool_holds(&place, b"x\n")).await;
            let (config, mut log, read) = bench.crash().await;
            log.lose_prompt();
            let mut bench = Bench::adopt((config, log, read));
            bench.prompt("y\n");
            bench.speaks().await;
            std::fs::write(place.workspace().join("gate"), "").unwrap();
            assert!(completed(&bench.turn().await));
            assert_eq!(shape(&bench.log.events), ["1-2: y\nend\n", "1-2 ends, void false", "Completed"]);
            bench.stop().await;
        }),
        trial("a_reader_that_returns_late_misses_nothing", |place| async move {
            let mut bench = Bench::begin(place.demo());
            for n in 0..5 {
                bench.prompt(&format!("echo {n}"));
                let crashed = bench.crash().await;
                bench = Bench::adopt(crashed);
                assert_eq!(bench.turn().await.text(), n.to_string());
            }
            let prompts =
                bench.log.commands.iter().filter(|c| matches!(c, AgentCommand::Prompt { .. })).count();
            assert_eq!(prompts, 0);
            let ends = bench.log.events.iter().filter(|e| matches!(e, AgentEvent::TurnEnded { .. })).count();
            assert_eq!(ends, 5);
            bench.stop().await;
        }),
    ]
}

/// A host of the first life whose records begin here, started by a gateway that has gone since.
fn started_from(place: &Place, config: &HostConfig, first: u64) -> std::process::Child {
    let setup = serde_json::json!({
        "version": 3, "hosts": config.hosts, "run": 1, "chat": "owner/c", "first": first,
        "mark": format!("{}.began", place.mark), "command": config.process.command,
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

/// A small disk of its own, where this user may make one.
struct Disk(std::path::PathBuf);

impl Disk {
    #[allow(clippy::print_stderr, reason = "a test that was skipped must not look like one that passed")]
    fn mount(path: &std::path::Path) -> Option<Self> {
        std::fs::create_dir(path).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs"]).arg(path);
        if !mount.output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: this user cannot mount a small disk");
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

pub(crate) fn spool_holds(place: &Place, what: &[u8]) -> bool {
    let files = std::fs::read_dir(place.run_dir()).into_iter().flatten().flatten();
    let mut spools = files.filter(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with("spool.") || name == "told"
    });
    spools.any(|file| {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        bytes.windows(what.len()).any(|window| window == what)
    })
}
