//! Turns of hosted agents, which must be like those of agents without a host.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use libtest_mimic::Trial;
use switchboard_agent_bridge::{demo::UNKNOWN_SESSION, dialect, list_hosts};
use switchboard_core::{
    agent::{AgentEvent, AgentExit},
    wire::{Answer, Outcome},
};
use switchboard_runtime::AgentControl;

use crate::{
    gateway::{TestGateway, completed, exit_error},
    kill,
    support::{
        BAD_LINES, RESUMES_THAT_FAIL, alive, answers_after, cannot_resume, eventually, memory_lost, notices,
    },
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("turns_share_a_process_and_a_session", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            let (first, second) =
                (gateway.run_turn("session").await.text(), gateway.run_turn("session").await.text());
            assert!(
                first.ends_with("turn 1 of this process.") && second.ends_with("turn 2 of this process."),
                "{first} {second}"
            );
            assert_eq!(first.split(',').next(), second.split(',').next());
            assert_eq!(gateway.log.checkpoints, 2);
            gateway.stop().await;
        }),
        trial("a_session_is_resumed", |fixture| async move {
            let mut gateway =
                TestGateway::with_session(fixture.demo(), Some("11111111-2222-4333-8444-555555555555"));
            let text = gateway.run_turn("session").await.text();
            assert!(text.contains("`11111111-2222-4333-8444-555555555555`, resumed"), "{text}");
            gateway.stop().await;
        }),
        trial("an_unknown_session_begins_a_new_one", |fixture| async move {
            let mut gateway = TestGateway::with_session(fixture.demo(), Some(UNKNOWN_SESSION));
            let turn = gateway.run_turn("session").await;
            assert!(turn.text().contains(", new, turn 1"), "{}", turn.text());
            assert_eq!(memory_lost(&turn).len(), 1);
            gateway.stop().await;
        }),
        trial("a_session_that_cannot_be_resumed_makes_room_for_a_new_one", |fixture| async move {
            for (failure, end) in RESUMES_THAT_FAIL {
                let command = cannot_resume(failure);
                let mut config = fixture.config(&command.each_ref().map(String::as_str), dialect::CLAUDE);
                config.process.limits.resume = Duration::from_millis(200);
                let mut gateway = TestGateway::with_session(config, Some("s1"));
                let turn = gateway.run_turn("x").await;
                assert_eq!(turn.text(), "new");
                assert!(matches!(memory_lost(&turn)[..], [notice] if notice.ends_with(end)), "{failure}");
                let mut gateway = gateway.crash_and_adopt().await;
                assert_eq!(memory_lost(&gateway.run_turn("x").await), [""; 0], "it is said once");
                let agent = std::sync::Arc::clone(&gateway.agent);
                gateway.stop().await;
                eventually("its host has exited", || !list_hosts(&fixture.hosts).unwrap()[0].live).await;
                agent.forget(switchboard_core::agent::AgentInstanceId(1));
            }
        }),
        trial("fast_gives_every_delta", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            let expected: String = (1..=20_000).map(|n| format!("{n} ")).collect();
            assert_eq!(gateway.run_turn("fast 20000").await.text(), expected);
            gateway.stop().await;
        }),
        trial("permissions_are_answered_and_turns_cancelled", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("permission rm -rf pretend");
            let request = gateway.next_request().await;
            gateway.answer(request, Answer::Allow { input_sha256: None });
            assert!(gateway.turn().await.text().contains("`rm -rf pretend`"));
            gateway.prompt("slow 1000");
            gateway.until_text().await;
            gateway.cancel();
            assert_eq!(gateway.turn().await.end(), (Outcome::Cancelled, None));
            assert_eq!(gateway.run_turn("echo and on").await.text(), "and on");
            gateway.stop().await;
        }),
        trial("a_cancel_right_behind_its_prompt_is_not_lost", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("hang");
            gateway.cancel();
            assert_eq!(gateway.turn().await.end().0, Outcome::Cancelled);
            for _ in 0..20 {
                gateway.run_turn("fast 1").await;
                gateway.prompt("hang");
                gateway.cancel();
                assert_eq!(gateway.turn().await.end().0, Outcome::Cancelled);
            }
            gateway.stop().await;
        }),
        trial("text_answers_fail_and_are_cancelled", |fixture| async move {
            let script = r#"read -r line; case "$line" in fail) echo half; echo "no model" >&2; exit 3;; slow) echo begun; sleep 1000;; esac
                echo "$line"; cat"#;
            let mut gateway = TestGateway::start(fixture.text(script));
            for text in ["-p --help\n", "é😀\nsecond line\n"] {
                let turn = gateway.run_turn(text).await;
                assert!(turn.text() == text && completed(&turn), "{}", turn.text());
            }
            let turn = gateway.run_turn("fail\n").await;
            assert_eq!((turn.text().as_str(), turn.end().0), ("half\n", Outcome::Failed));
            let why = "The command exited with status 3. Its last words: no model";
            assert_eq!(turn.end().1.unwrap().detail, why);
            gateway.prompt("slow\n");
            gateway.until_text().await;
            gateway.cancel();
            assert_eq!(gateway.turn().await.end(), (Outcome::Cancelled, None));
            assert_eq!(gateway.run_turn("on\n").await.text(), "on\n");
            gateway.stop().await;
        }),
        trial("starts_that_fail_say_why", |fixture| async move {
            for (config, why) in [
                (fixture.config(&["/nowhere/agent"], dialect::CLAUDE), "its program was not found."),
                (fixture.config(&["/nowhere/agent"], dialect::TEXT), "its program was not found."),
                (
                    fixture.config(&["sh", "-c", "exit 3"], dialect::CLAUDE),
                    "it exited with status 3 before it was ready.",
                ),
                (
                    fixture.config(&["sh", "-c", "echo 'sign in first' >&2; exit 3"], dialect::CLAUDE),
                    "it exited with status 3 before it was ready. Its last words: sign in first",
                ),
            ] {
                let mut gateway = TestGateway::start(config);
                gateway.prompt("x");
                let agent = std::sync::Arc::clone(&gateway.agent);
                let (exit, _) = gateway.exit().await;
                assert!(
                    matches!(&exit, AgentExit::StartFailed(error) if error.detail.ends_with(why)),
                    "{exit:?}"
                );
                eventually("its host has exited", || !list_hosts(&fixture.hosts).unwrap()[0].live).await;
                agent.forget(switchboard_core::agent::AgentInstanceId(1));
            }
            let mut config = fixture.config(&["sleep", "1000"], dialect::CLAUDE);
            config.process.limits.start = Duration::from_millis(200);
            let mut gateway = TestGateway::start(config);
            gateway.prompt("x");
            let (exit, _) = gateway.exit().await;
            let why = "it did not answer in time.";
            assert!(
                matches!(&exit, AgentExit::StartFailed(error) if error.detail.ends_with(why)),
                "{exit:?}"
            );
        }),
        trial("bad_lines_cost_those_lines", |fixture| async move {
            for (output, notice) in BAD_LINES {
                let mut gateway = TestGateway::start(fixture.stub(&answers_after(output)));
                let turn = gateway.run_turn("x").await;
                assert_eq!((turn.text().as_str(), turn.end().0), ("ok", Outcome::Completed));
                assert_eq!(notices(&turn, "other"), Vec::from_iter(notice));
                let agent = std::sync::Arc::clone(&gateway.agent);
                gateway.stop().await;
                eventually("its host has exited", || !list_hosts(&fixture.hosts).unwrap()[0].live).await;
                agent.forget(switchboard_core::agent::AgentInstanceId(1));
            }
        }),
        trial("a_line_that_would_fill_a_small_spool_is_skipped", |fixture| async move {
            let output = "head -c 300000 /dev/zero | tr '\\0' x; echo";
            let mut config = fixture.stub(&answers_after(&format!("{output}; {output}")));
            config.process.limits.host.spool_bytes = 1024 * 1024;
            let mut gateway = TestGateway::start(config);
            let turn = gateway.run_turn("x").await;
            let notice = "The agent wrote a line of 292 KiB, which is too long and was left out.";
            assert_eq!(notices(&turn, "other"), [notice; 2]);
            gateway.stop().await;
        }),
        trial("a_last_line_counts_without_its_end", |fixture| async move {
            let script = r#"read prompt; printf '{"type":"result","is_error":false,"result":"ok"}'"#;
            let mut gateway = TestGateway::start(fixture.stub(script));
            assert_eq!(gateway.run_turn("x").await.text(), "ok");
            let (exit, _) = gateway.exit().await;
            assert_eq!(exit_error(&exit), ("agent_exited", "The agent exited with status 0."));
        }),
        trial("a_closed_output_ends_the_instance", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.stub("exec >&-; sleep 1000"));
            gateway.prompt("x");
            let (exit, _) = gateway.exit().await;
            assert_eq!(exit_error(&exit), ("agent_closed_output", "The agent closed its output."));
        }),
        trial("helpers_that_hide_are_swept_by_the_host", |fixture| async move {
            // One helper keeps its parent, one loses it, and one also removes its mark.
            let n = std::process::id();
            let script = format!(
                "setsid sleep 2001.{n} & sh -c 'setsid sh -c \"sleep 2002.{n}; :\" & exit' \
                & setsid env -i sleep 2003.{n} & read prompt; sleep 2004.{n}"
            );
            let mut gateway = TestGateway::start(fixture.stub(&script));
            gateway.prompt("x");
            eventually("all helpers run", || sleepers() == 4).await;
            gateway.control(AgentControl::Kill);
            assert_eq!(gateway.exit().await.0, AgentExit::Stopped);
            assert_eq!(sleepers(), 0);
        }),
        trial(
            "a_process_that_hid_in_a_turn_and_lost_its_parent_later_is_swept_by_the_host",
            |fixture| async move {
                let n = std::process::id();
                // The host may reap an orphan at any moment, so the agent writes the orphan's id to a file.
                let script = format!(
                    "sh -c 'setsid env -i sleep 2005.{n} & read go' < held & exec 3> held
                sh -c 'true & echo $! > orphan'
                read prompt; while ! [ -e go ]; do sleep 0.01; done
                echo '{{\"type\":\"result\",\"is_error\":false,\"result\":\"ok\"}}'; read more"
                );
                let (fifo, orphan) = (fixture.workspace().join("held"), fixture.workspace().join("orphan"));
                let orphan =
                    || std::fs::read_to_string(&orphan).ok()?.strip_suffix('\n')?.parse::<i32>().ok();
                rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
                let mut gateway = TestGateway::start(fixture.stub(&script));
                gateway.prompt("x");
                eventually("the helper runs, and there is an orphan", || {
                    hidden().is_some() && orphan().is_some()
                })
                .await;
                std::fs::write(fixture.workspace().join("go"), "").unwrap();
                gateway.turn().await;
                let orphan = orphan().unwrap();
                eventually("the host has reaped the orphan", || parent(orphan).is_none()).await;
                let (_, parent) = hidden().unwrap();
                kill(parent);
                eventually("the helper has lost its parent", || {
                    hidden().is_some_and(|(_, now)| now != parent)
                })
                .await;
                gateway.control(AgentControl::Kill);
                assert_eq!(gateway.exit().await.0, AgentExit::Stopped);
                assert_eq!(hidden(), None);
            },
        ),
        trial("no_other_user_can_reach_a_host", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.run_turn("echo x").await;
            let mode =
                |path: std::path::PathBuf| path.symlink_metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(fixture.hosts.clone()), mode(fixture.run_dir())), (0o700, 0o700));
            for file in std::fs::read_dir(fixture.run_dir()).unwrap() {
                let path = file.unwrap().path();
                assert_eq!(mode(path.clone()), 0o600, "{}", path.display());
            }
            gateway.stop().await;
        }),
        trial("a_path_may_be_long", |mut fixture| async move {
            fixture.hosts = fixture.workspace.join("x".repeat(120));
            let mut gateway = TestGateway::start(fixture.demo());
            assert_eq!(gateway.run_turn("echo far").await.text(), "far");
            let mut gateway = gateway.crash_and_adopt().await;
            assert_eq!(gateway.run_turn("echo away").await.text(), "away");
            gateway.stop().await;
        }),
        trial("the_host_is_in_a_session_of_its_own", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.run_turn("echo x").await;
            let host = rustix::process::Pid::from_raw(fixture.host_pid()).unwrap();
            assert_eq!(rustix::process::getsid(Some(host)).unwrap(), host);
            let environment = std::fs::read(format!("/proc/{}/environ", host.as_raw_nonzero())).unwrap();
            let environment = String::from_utf8_lossy(&environment).into_owned();
            assert!(!environment.contains("CARGO"), "{environment}");
            gateway.stop().await;
        }),
        trial("the_leftovers_of_an_exited_instance_are_removed_when_it_is_forgotten", |fixture| async move {
            let mut config = fixture.demo();
            config.process.limits.host.linger = Duration::from_millis(50);
            let mut gateway = TestGateway::start(config);
            gateway.run_turn("echo x").await;
            assert!(list_hosts(&fixture.hosts).unwrap()[0].live);
            gateway.stop().await;
            eventually("the directory is removed", || !fixture.run_dir().exists()).await;
            assert!(list_hosts(&fixture.hosts).unwrap().is_empty());
        }),
        trial("a_stalled_reader_pauses_the_agent_and_not_its_control_messages", |fixture| async move {
            let mut gateway = TestGateway::start(fixture.demo());
            gateway.prompt("fast 10000000");
            gateway.until_text().await;
            // Nothing receives records from here on.
            gateway.control(AgentControl::Kill);
            let agents = || alive(&fixture.mark).len();
            eventually("the agent was killed", || agents() == 0).await;
            let (exit, events) = gateway.exit().await;
            assert_eq!(exit, AgentExit::Stopped);
            assert!(!events.iter().any(|event| matches!(event, AgentEvent::TurnEnded { .. })));
        }),
    ]
}

fn sleepers() -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    let n = std::process::id();
    lines.filter(|line| (2001..=2004).any(|which| *line == format!("sleep\0{which}.{n}\0"))).count()
}

/// The process ids of the hidden helper and of its parent.
fn hidden() -> Option<(i32, i32)> {
    let line = format!("sleep\02005.{}\0", std::process::id());
    let mut pids = processes();
    let pid = pids.find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|found| found == line)
    })?;
    Some((pid, parent(pid)?))
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The parent of a process; `None` if there is no such process, not even a zombie.
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}
