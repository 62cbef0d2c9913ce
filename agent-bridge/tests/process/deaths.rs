//! Agents that die, and agents that misbehave.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use switchboard_agent_bridge::{ProcessAgent, sweep_leftovers};
use switchboard_core::{
    agent::{AgentEvent, AgentExit},
    wire::Outcome,
};

use crate::{
    support::{Bench, alive, eventually},
    trial,
};

fn gone(exit: &AgentExit) -> (&str, &str) {
    match exit {
        AgentExit::Gone(error) => (&error.code, &error.detail),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("kill_9_in_the_middle_of_an_answer_is_noticed", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            bench.prompt("slow 1000");
            bench.until(|event| matches!(event, AgentEvent::Text { .. })).await;
            let killed = Instant::now();
            for pid in alive(&place.mark) {
                kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            }
            let (exit, _) = bench.exit().await;
            assert_eq!(gone(&exit), ("agent_exited", "The agent was ended by signal 9."));
            assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
        }),
        trial("what_an_agent_said_before_it_died_counts", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            bench.prompt("die 3");
            let (exit, events) = bench.exit().await;
            assert_eq!(gone(&exit), ("agent_exited", "The agent exited with status 3."));
            assert!(
                events
                    .iter()
                    .any(|event| matches!(event, AgentEvent::Text { text, .. } if text.contains("last")))
            );
        }),
        trial("helpers_in_sessions_of_their_own_are_swept", |place| async move {
            // One that keeps its parent, one that loses it, one that also hides its mark.
            let n = std::process::id();
            let script = format!(
                "setsid sleep 1001.{n} & sh -c 'setsid sh -c \"sleep 1002.{n}; :\" & exit' \
                & setsid env -i sleep 1003.{n} & read line; read prompt; sleep 1004.{n}"
            );
            let mut bench = Bench::begin(place.stub(&script), None);
            bench.prompt("x");
            eventually("all of them run", || sleepers() == 4).await;
            bench.stop().await;
            assert_eq!(sleepers(), 0);
        }),
        trial("helpers_of_an_agent_that_died_are_swept", |place| async move {
            let script = "setsid sleep 1011 & read line; read prompt; kill -9 $$";
            let mut bench = Bench::begin(place.stub(script), None);
            bench.prompt("x");
            let (exit, _) = bench.exit().await;
            assert_eq!(gone(&exit).0, "agent_exited");
            assert!(alive(&place.mark).is_empty());
        }),
        trial("leftovers_of_an_earlier_gateway_are_swept", |place| async move {
            let mark = format!("{}.0123", place.mark);
            let mut child = std::process::Command::new("sleep")
                .arg("1021")
                .env("SWITCHBOARD_MARK", mark)
                .spawn()
                .unwrap();
            eventually("it runs", || !alive(&place.mark).is_empty()).await;
            assert_eq!(sweep_leftovers("test-another"), 0);
            let mark = place.mark.clone();
            let killed = tokio::task::spawn_blocking(move || sweep_leftovers(&mark)).await.unwrap();
            assert_eq!(killed, 1);
            let _ = child.wait();
        }),
        trial("an_agent_that_closes_its_output_is_ended", |place| async move {
            let mut bench = Bench::begin(place.stub("exec >&-; sleep 1000"), None);
            bench.prompt("x");
            let (exit, _) = bench.exit().await;
            assert_eq!(gone(&exit), ("agent_closed_output", "The agent closed its output."));
        }),
        trial("garbage_is_passed_over", |place| async move {
            let script = r#"read line; read prompt; head -c 100000 /dev/urandom; echo; echo 'not json'; echo '{"half":'
                echo '{"type":"result","is_error":false,"result":"after all"}'; read line"#;
            let mut bench = Bench::begin(place.stub(script), None);
            let turn = bench.said("x").await;
            assert_eq!((turn.text().as_str(), turn.end().0), ("after all", Outcome::Completed));
            bench.stop().await;
        }),
        trial("a_line_without_end_ends_the_run", |place| async move {
            let script = "read line; read prompt; head -c 9437184 /dev/zero | tr '\\0' x; sleep 1000";
            let mut bench = Bench::begin(place.stub(script), None);
            bench.prompt("x");
            let (exit, _) = bench.exit().await;
            assert_eq!(gone(&exit), ("agent_protocol", "The agent sent a line of more than 8 MiB."));
        }),
        trial("a_line_of_several_mib_is_one_record", |place| async move {
            let script = r#"read line; read prompt
                printf '{"type":"result","is_error":false,"result":"'; head -c 5000000 /dev/zero | tr '\0' x; echo '"}'; read line"#;
            let mut bench = Bench::begin(place.stub(script), None);
            assert_eq!(bench.said("x").await.text().len(), 5_000_000);
            bench.stop().await;
        }),
        trial("standard_error_is_drained", |place| async move {
            let script = r#"read line; read prompt; head -c 3000000 /dev/zero | tr '\0' e >&2
                echo '{"type":"result","is_error":false,"result":"ok"}'; read line"#;
            let mut bench = Bench::begin(place.stub(script), None);
            assert_eq!(bench.said("x").await.text(), "ok");
            bench.stop().await;
        }),
        trial("a_pipe_that_others_hold_open_does_not_hide_a_death", |place| async move {
            let mut bench = Bench::begin(place.stub("setsid sleep 1031 & exit 7"), None);
            let began = Instant::now();
            bench.prompt("x");
            let (exit, _) = bench.exit().await;
            // Whether it was ready first is a race; that it is told in time is not.
            assert!(matches!(exit, AgentExit::Gone(_) | AgentExit::StartFailed(_)), "{exit:?}");
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        }),
        trial("the_environment_is_an_allow_list", |place| async move {
            let script = r#"read line; read prompt; e=$(env | cut -d= -f1 | sort | tr '\n' ' '); f=$(ls /proc/self/fd | wc -l)
                echo "{\"type\":\"result\",\"is_error\":false,\"result\":\"$e|$f|$PWD\"}"; read line"#;
            let mut config = place.stub_config(script);
            config.env.push(("EXTRA".into(), "1".into()));
            let mut bench = Bench::begin(Arc::new(ProcessAgent::new(config)), None);
            let text = bench.said("x").await.text();
            let parts: Vec<&str> = text.split('|').collect();
            let names: Vec<&str> = parts[0].split_whitespace().collect();
            assert!(
                names.contains(&"EXTRA") && names.contains(&"PATH") && names.contains(&"SWITCHBOARD_MARK"),
                "{names:?}"
            );
            assert!(
                !names.iter().any(|name| name.starts_with("CARGO") || name.starts_with("RUST")),
                "{names:?}"
            );
            // 0 to 2, and the directory that `ls` reads.
            assert_eq!(parts[1].trim(), "4");
            assert!(parts[2].ends_with(place.workspace().file_name().unwrap().to_str().unwrap()));
            bench.stop().await;
        }),
    ]
}

/// How many of the helpers of one test run, found by their arguments.
fn sleepers() -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| (1001..=1004).any(|n| *line == format!("sleep\0{n}.{}\0", std::process::id())))
        .count()
}
