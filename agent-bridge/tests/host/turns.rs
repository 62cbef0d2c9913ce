//! What a host must do as well as a process of the gateway's own does.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, time::Duration};

use libtest_mimic::Trial;
use switchboard_agent_bridge::{demo::UNKNOWN_SESSION, dialect, end_orphans, list_hosts};
use switchboard_core::{
    agent::{AgentEvent, AgentExit},
    wire::{Answer, Outcome},
};
use switchboard_runtime::AgentControl;

use crate::{
    bench::{Bench, completed, gone},
    kill,
    support::{alive, eventually},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("turns_share_a_process_and_a_session", |place| async move {
            let mut bench = Bench::begin(place.demo());
            let (first, second) = (bench.said("session").await.text(), bench.said("session").await.text());
            assert!(
                first.ends_with("turn 1 of this process.") && second.ends_with("turn 2 of this process."),
                "{first} {second}"
            );
            assert_eq!(first.split(',').next(), second.split(',').next());
            assert_eq!(bench.log.checkpoints, 2);
            bench.stop().await;
        }),
        trial("a_session_is_taken_up_again", |place| async move {
            let mut bench = Bench::with_session(place.demo(), Some("11111111-2222-4333-8444-555555555555"));
            let text = bench.said("session").await.text();
            assert!(text.contains("`11111111-2222-4333-8444-555555555555`, resumed"), "{text}");
            bench.stop().await;
        }),
        trial("an_unknown_session_begins_afresh", |place| async move {
            let mut bench = Bench::with_session(place.demo(), Some(UNKNOWN_SESSION));
            let text = bench.said("session").await.text();
            assert!(text.contains(", new, turn 1"), "{text}");
            bench.stop().await;
        }),
        trial("fast_gives_every_delta", |place| async move {
            let mut bench = Bench::begin(place.demo());
            let expected: String = (1..=20_000).map(|n| format!("{n} ")).collect();
            assert_eq!(bench.said("fast 20000").await.text(), expected);
            bench.stop().await;
        }),
        trial("permissions_are_answered_and_turns_cancelled", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("permission rm -rf pretend");
            let request = bench.request().await;
            bench.answer(request, Answer::Allow { input_sha256: None });
            assert!(bench.turn().await.text().contains("`rm -rf pretend`"));
            bench.prompt("slow 1000");
            bench.speaks().await;
            bench.cancel();
            assert_eq!(bench.turn().await.end(), (Outcome::Cancelled, None));
            assert_eq!(bench.said("echo and on").await.text(), "and on");
            bench.stop().await;
        }),
        trial("a_cancel_right_behind_its_prompt_is_not_lost", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("hang");
            bench.cancel();
            assert_eq!(bench.turn().await.end().0, Outcome::Cancelled);
            for _ in 0..20 {
                bench.said("fast 1").await;
                bench.prompt("hang");
                bench.cancel();
                assert_eq!(bench.turn().await.end().0, Outcome::Cancelled);
            }
            bench.stop().await;
        }),
        trial("text_answers_fail_and_are_cancelled", |place| async move {
            let script = r#"read -r line; case "$line" in fail) echo half; echo "no model" >&2; exit 3;; slow) echo begun; sleep 1000;; esac
                echo "$line"; cat"#;
            let mut bench = Bench::begin(place.text(script));
            for text in ["-p --help\n", "é😀\nsecond line\n"] {
                let turn = bench.said(text).await;
                assert!(turn.text() == text && completed(&turn), "{}", turn.text());
            }
            let turn = bench.said("fail\n").await;
            assert_eq!((turn.text().as_str(), turn.end().0), ("half\n", Outcome::Failed));
            let why = "The command exited with status 3. Its last words: no model";
            assert_eq!(turn.end().1.unwrap().detail, why);
            bench.prompt("slow\n");
            bench.speaks().await;
            bench.cancel();
            assert_eq!(bench.turn().await.end(), (Outcome::Cancelled, None));
            assert_eq!(bench.said("on\n").await.text(), "on\n");
            bench.stop().await;
        }),
        trial("starts_that_fail_say_why", |place| async move {
            for (config, why) in [
                (place.config(&["/nowhere/agent"], dialect::CLAUDE), "its program was not found."),
                (place.config(&["/nowhere/agent"], dialect::TEXT), "its program was not found."),
                (
                    place.config(&["sh", "-c", "exit 3"], dialect::CLAUDE),
                    "it exited with status 3 before it was ready.",
                ),
                (
                    place.config(&["sh", "-c", "echo 'sign in first' >&2; exit 3"], dialect::CLAUDE),
                    "it exited with status 3 before it was ready. Its last words: sign in first",
                ),
            ] {
                let mut bench = Bench::begin(config);
                bench.prompt("x");
                let agent = std::sync::Arc::clone(&bench.agent);
                let (exit, _) = bench.exit().await;
                assert!(
                    matches!(&exit, AgentExit::StartFailed(error) if error.detail.ends_with(why)),
                    "{exit:?}"
                );
                eventually("its host has gone", || !list_hosts(&place.hosts).unwrap()[0].live).await;
                agent.forget(switchboard_core::agent::AgentInstanceId(1));
            }
            let mut config = place.config(&["sleep", "1000"], dialect::CLAUDE);
            config.process.limits.start = Duration::from_millis(200);
            let mut bench = Bench::begin(config);
            bench.prompt("x");
            let (exit, _) = bench.exit().await;
            let why = "it did not answer in time.";
            assert!(
                matches!(&exit, AgentExit::StartFailed(error) if error.detail.ends_with(why)),
                "{exit:?}"
            );
        }),
        trial("a_line_without_end_and_a_closed_output_end_the_run", |place| async move {
            let script = "read prompt; head -c 9437184 /dev/zero | tr '\\0' x; sleep 1000";
            let mut bench = Bench::begin(place.stub(script));
            bench.prompt("x");
            let (exit, _) = bench.exit().await;
            assert_eq!(gone(&exit), ("agent_protocol", "The agent sent a line of more than 8 MiB."));
            end_orphans(&place.hosts, &BTreeSet::new()).unwrap();
            // One that would fill a small spool is too long as well: nothing after it would ever find room.
            let mut config =
                place.stub("read prompt; head -c 300000 /dev/zero | tr '\\0' x; echo; sleep 1000");
            config.process.limits.host.spool_bytes = 1024 * 1024;
            let mut bench = Bench::begin(config);
            bench.prompt("x");
            let (exit, _) = bench.exit().await;
            assert_eq!(gone(&exit), ("agent_protocol", "The agent sent a line of more than 256 KiB."));
            end_orphans(&place.hosts, &BTreeSet::new()).unwrap();
            let mut bench = Bench::begin(place.stub("exec >&-; sleep 1000"));
            bench.prompt("x");
            let (exit, _) = bench.exit().await;
            assert_eq!(gone(&exit), ("agent_closed_output", "The agent closed its output."));
        }),
        trial("helpers_that_hide_are_swept_by_the_host", |place| async move {
            // One that keeps its parent, one that loses it, one that also hides its mark.
            let n = std::process::id();
            let script = format!(
                "setsid sleep 2001.{n} & sh -c 'setsid sh -c \"sleep 2002.{n}; :\" & exit' \
                & setsid env -i sleep 2003.{n} & read prompt; sleep 2004.{n}"
            );
            let mut bench = Bench::begin(place.stub(&script));
            bench.prompt("x");
            eventually("all of them run", || sleepers() == 4).await;
            bench.order(AgentControl::Kill);
            assert_eq!(bench.exit().await.0, AgentExit::Stopped);
            assert_eq!(sleepers(), 0);
        }),
        trial("what_hid_in_a_turn_and_lost_its_parent_after_it_is_swept_by_the_host", |place| async move {
            let n = std::process::id();
            let script = format!(
                "sh -c 'setsid env -i sleep 2005.{n} & read go' < held & exec 3> held; \
                sh -c 'true & exec true'; sh -c 'sh -c : & exit'; read prompt; while ! [ -e go ]; do sleep 0.01; done; echo '{{\"type\":\"result\",\"is_error\":false,\"result\":\"ok\"}}'; read more"
            );
            let fifo = place.workspace().join("held");
            rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
            let mut bench = Bench::begin(place.stub(&script));
            bench.prompt("x");
            eventually("there is a host", || place.run_dir().join("host.json").exists()).await;
            eventually("it runs, and an orphan has ended", || {
                hidden().is_some() && has_zombie(place.host_pid())
            })
            .await;
            std::fs::write(place.workspace().join("go"), "").unwrap();
            bench.turn().await;
            // An orphan that has ended is there until the host looks around, which it does for both.
            let host = place.host_pid();
            eventually("it was looked for", || !has_zombie(host)).await;
            let (_, parent) = hidden().unwrap();
            kill(parent);
            eventually("it has lost its parent", || hidden().is_some_and(|(_, now)| now != parent)).await;
            bench.order(AgentControl::Kill);
            assert_eq!(bench.exit().await.0, AgentExit::Stopped);
            assert_eq!(hidden(), None);
        }),
        trial("nobody_else_can_reach_a_host", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.said("echo x").await;
            let mode =
                |path: std::path::PathBuf| path.symlink_metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(place.hosts.clone()), mode(place.run_dir())), (0o700, 0o700));
            for file in std::fs::read_dir(place.run_dir()).unwrap() {
                let path = file.unwrap().path();
                assert_eq!(mode(path.clone()), 0o600, "{}", path.display());
            }
            bench.stop().await;
        }),
        trial("a_path_may_be_long", |mut place| async move {
            place.hosts = place.workspace.join("x".repeat(120));
            let mut bench = Bench::begin(place.demo());
            assert_eq!(bench.said("echo far").await.text(), "far");
            let mut bench = bench.crash_and_adopt().await;
            assert_eq!(bench.said("echo away").await.text(), "away");
            bench.stop().await;
        }),
        trial("the_host_is_in_a_session_of_its_own", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.said("echo x").await;
            let host = rustix::process::Pid::from_raw(place.host_pid()).unwrap();
            assert_eq!(rustix::process::getsid(Some(host)).unwrap(), host);
            let environment = std::fs::read(format!("/proc/{}/environ", host.as_raw_nonzero())).unwrap();
            let environment = String::from_utf8_lossy(&environment).into_owned();
            assert!(!environment.contains("CARGO"), "{environment}");
            bench.stop().await;
        }),
        trial("what_an_ended_life_left_goes_when_it_is_forgotten", |place| async move {
            let mut config = place.demo();
            config.process.limits.host.linger = Duration::from_millis(50);
            let mut bench = Bench::begin(config);
            bench.said("echo x").await;
            assert!(list_hosts(&place.hosts).unwrap()[0].live);
            bench.stop().await;
            eventually("it is gone", || !place.run_dir().exists()).await;
            assert!(list_hosts(&place.hosts).unwrap().is_empty());
        }),
        trial("a_reader_that_stalls_holds_the_agent_and_not_its_orders", |place| async move {
            let mut bench = Bench::begin(place.demo());
            bench.prompt("fast 10000000");
            bench.speaks().await;
            // Nobody takes records from here on.
            bench.order(AgentControl::Kill);
            let agents = || alive(&place.mark).len();
            eventually("it is killed", || agents() == 0).await;
            let (exit, events) = bench.exit().await;
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

/// The helper that hides, and its parent.
fn hidden() -> Option<(i32, i32)> {
    let line = format!("sleep\02005.{}\0", std::process::id());
    let mut pids = processes();
    let pid = pids.find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|found| found == line)
    })?;
    Some((pid, parent_and_state(pid)?.0))
}

/// Whether a child of this process has ended and was not reaped.
fn has_zombie(parent: i32) -> bool {
    processes().any(|pid| parent_and_state(pid).is_some_and(|found| found == (parent, 'Z')))
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent_and_state(pid: i32) -> Option<(i32, char)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}
