//! Agents that die, and agents that misbehave.

use std::sync::Arc;

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use switchboard_agent_bridge::{ProcessAgent, sweep_leftovers};
use switchboard_core::{
    agent::{AgentEvent, AgentExit},
    wire::Outcome,
};

use crate::{
    support::{BAD_LINES, TestAgent, alive, answers_after, eventually, notices},
    trial,
};

fn exit_error(exit: &AgentExit) -> (&str, &str) {
    match exit {
        AgentExit::Gone(error) => (&error.code, &error.detail),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("kill_9_in_the_middle_of_an_answer_is_noticed", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            agent.prompt("slow 1000");
            agent.until(|event| matches!(event, AgentEvent::Text { .. })).await;
            for pid in alive(&fixture.mark) {
                kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            }
            let (exit, _) = agent.exit().await;
            assert_eq!(exit_error(&exit), ("agent_exited", "The agent was ended by signal 9."));
        }),
        trial("the_output_of_an_agent_before_it_died_counts", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            agent.prompt("die 3");
            let (exit, events) = agent.exit().await;
            assert_eq!(exit_error(&exit), ("agent_exited", "The agent exited with status 3."));
            assert!(
                events
                    .iter()
                    .any(|event| matches!(event, AgentEvent::Text { text, .. } if text.contains("last")))
            );
        }),
        trial("helpers_in_sessions_of_their_own_are_swept", |fixture| async move {
            // One helper keeps its parent, one loses it, and one also removes its mark.
            let n = std::process::id();
            let script = format!(
                "setsid sleep 1001.{n} & sh -c 'setsid sh -c \"sleep 1002.{n}; :\" & exit' \
                & setsid env -i sleep 1003.{n} & read line; read prompt; sleep 1004.{n}"
            );
            let mut agent = TestAgent::start(fixture.stub(&script), None);
            agent.prompt("x");
            eventually("all helpers run", || sleepers() == 4).await;
            agent.stop().await;
            assert_eq!(sleepers(), 0);
        }),
        trial("helpers_of_an_agent_that_died_are_swept", |fixture| async move {
            let script = "setsid sleep 1011 & read line; read prompt; kill -9 $$";
            let mut agent = TestAgent::start(fixture.stub(script), None);
            agent.prompt("x");
            let (exit, _) = agent.exit().await;
            assert_eq!(exit_error(&exit).0, "agent_exited");
            assert!(alive(&fixture.mark).is_empty());
        }),
        trial("leftovers_of_an_earlier_gateway_are_swept", |fixture| async move {
            let mark = format!("{}.0123", fixture.mark);
            let mut child = std::process::Command::new("sleep")
                .arg("1021")
                .env("SWITCHBOARD_MARK", mark)
                .spawn()
                .unwrap();
            eventually("the agent runs", || !alive(&fixture.mark).is_empty()).await;
            assert_eq!(sweep_leftovers("test-another"), 0);
            let mark = fixture.mark.clone();
            let killed = tokio::task::spawn_blocking(move || sweep_leftovers(&mark)).await.unwrap();
            assert_eq!(killed, 1);
            let _ = child.wait();
        }),
        trial("an_agent_that_closes_its_output_is_ended", |fixture| async move {
            let mut agent = TestAgent::start(fixture.stub("exec >&-; sleep 1000"), None);
            agent.prompt("x");
            let (exit, _) = agent.exit().await;
            assert_eq!(exit_error(&exit), ("agent_closed_output", "The agent closed its output."));
        }),
        trial("garbage_is_skipped", |fixture| async move {
            let script = r#"read line; read prompt; head -c 100000 /dev/urandom; echo; echo 'not json'; echo '{"half":'
                echo '{"type":"result","is_error":false,"result":"after all"}'; read line"#;
            let mut agent = TestAgent::start(fixture.stub(script), None);
            let turn = agent.run_turn("x").await;
            assert_eq!((turn.text().as_str(), turn.end().0), ("after all", Outcome::Completed));
            agent.stop().await;
        }),
        trial("bad_lines_cost_those_lines", |fixture| async move {
            for (output, notice) in BAD_LINES {
                let script = format!("read -r line; {}", answers_after(output));
                let mut agent = TestAgent::start(fixture.stub(&script), None);
                let turn = agent.run_turn("x").await;
                assert_eq!((turn.text().as_str(), turn.end().0), ("ok", Outcome::Completed));
                assert_eq!(notices(&turn, "other"), Vec::from_iter(notice));
                agent.stop().await;
            }
        }),
        trial("a_last_line_counts_without_its_end", |fixture| async move {
            let script =
                r#"read line; read prompt; printf '{"type":"result","is_error":false,"result":"ok"}'"#;
            let mut agent = TestAgent::start(fixture.stub(script), None);
            assert_eq!(agent.run_turn("x").await.text(), "ok");
            let (exit, _) = agent.exit().await;
            assert_eq!(exit_error(&exit), ("agent_exited", "The agent exited with status 0."));
        }),
        trial("a_line_of_several_mib_is_one_record", |fixture| async move {
            let script = r#"read line; read prompt
                printf '{"type":"result","is_error":false,"result":"'; head -c 10000000 /dev/zero | tr '\0' x; echo '"}'; read line"#;
            let mut agent = TestAgent::start(fixture.stub(script), None);
            assert_eq!(agent.run_turn("x").await.text().len(), 10_000_000);
            agent.stop().await;
        }),
        trial("standard_error_is_drained", |fixture| async move {
            let script = r#"read line; read prompt; head -c 3000000 /dev/zero | tr '\0' e >&2
                echo '{"type":"result","is_error":false,"result":"ok"}'; read line"#;
            let mut agent = TestAgent::start(fixture.stub(script), None);
            assert_eq!(agent.run_turn("x").await.text(), "ok");
            agent.stop().await;
        }),
        trial("a_pipe_that_helpers_keep_open_does_not_hide_an_exit", |fixture| async move {
            let mut agent = TestAgent::start(fixture.stub("setsid sleep 1031 & exit 7"), None);
            agent.prompt("x");
            let (exit, _) = agent.exit().await;
            // Whether the agent was ready before it exited is a race.
            assert!(matches!(exit, AgentExit::Gone(_) | AgentExit::StartFailed(_)), "{exit:?}");
        }),
        trial("the_environment_is_an_allow_list", |fixture| async move {
            let script = r#"read line; read prompt; e=$(env | cut -d= -f1 | sort | tr '\n' ' '); f=$(ls /proc/self/fd | wc -l)
                echo "{\"type\":\"result\",\"is_error\":false,\"result\":\"$e|$f|$PWD\"}"; read line"#;
            let mut config = fixture.stub_config(script);
            config.env.push(("EXTRA".into(), "1".into()));
            let mut agent = TestAgent::start(Arc::new(ProcessAgent::new(config)), None);
            let text = agent.run_turn("x").await.text();
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
            assert!(parts[2].ends_with(fixture.workspace().file_name().unwrap().to_str().unwrap()));
            agent.stop().await;
        }),
    ]
}

/// The number of running helpers, found by their arguments.
fn sleepers() -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| (1001..=1004).any(|n| *line == format!("sleep\0{n}.{}\0", std::process::id())))
        .count()
}
