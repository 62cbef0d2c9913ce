//! Starts that fail, and sessions that are resumed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use switchboard_agent_bridge::{ProcessAgent, demo::UNKNOWN_SESSION, dialect};
use switchboard_core::agent::{AgentEvent, AgentExit};

use crate::{
    support::{RESUMES_THAT_FAIL, TestAgent, cannot_resume, memory_lost},
    trial,
};

fn failed(exit: AgentExit) -> String {
    match exit {
        AgentExit::StartFailed(error) => {
            assert_eq!(error.code, "agent_start_failed");
            assert!(!error.detail.contains('/'), "{}", error.detail);
            error.detail
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_program_that_is_not_there", |fixture| async move {
            let config = fixture.config(&["/nowhere/agent"], dialect::CLAUDE);
            let mut agent = TestAgent::start(Arc::new(ProcessAgent::new(config)), None);
            agent.prompt("x");
            assert!(failed(agent.exit().await.0).ends_with("its program was not found."));
        }),
        trial("a_workspace_that_is_not_there", |fixture| async move {
            let mut config = fixture.demo_config();
            config.workspace.push("missing");
            let mut agent = TestAgent::start(Arc::new(ProcessAgent::new(config)), None);
            agent.prompt("x");
            assert!(failed(agent.exit().await.0).ends_with("the workspace does not exist."));
        }),
        trial("an_agent_that_exits_at_once", |fixture| async move {
            let config = fixture.config(&["sh", "-c", "echo no licence >&2; exit 3"], dialect::CLAUDE);
            let mut agent = TestAgent::start(Arc::new(ProcessAgent::new(config)), None);
            agent.prompt("x");
            let why = "it exited with status 3 before it was ready. Its last words: no licence";
            assert!(failed(agent.exit().await.0).ends_with(why));
        }),
        trial("an_agent_that_is_never_ready", |fixture| async move {
            let mut config = fixture.config(&["sleep", "1000"], dialect::CLAUDE);
            config.limits.start = Duration::from_millis(200);
            let mut agent = TestAgent::start(Arc::new(ProcessAgent::new(config)), None);
            agent.prompt("x");
            assert!(failed(agent.exit().await.0).ends_with("it did not answer in time."));
        }),
        trial("failed_starts_back_off", |fixture| async move {
            let mut config = fixture.config(&["/nowhere/agent"], dialect::CLAUDE);
            config.limits.backoff_first = Duration::from_millis(200);
            let agent = Arc::new(ProcessAgent::new(config));
            let (mut began, mut waits) = (Instant::now(), Vec::new());
            for _ in 0..4 {
                // Measured from before the start before, whose failure begins the delay: a slow machine only adds to it.
                let before = std::mem::replace(&mut began, Instant::now());
                let mut agent = TestAgent::start(Arc::clone(&agent), None);
                agent.prompt("x");
                failed(agent.exit().await.0);
                waits.push(before.elapsed());
            }
            assert!(
                waits[1] >= Duration::from_millis(100) && waits[3] >= Duration::from_millis(400),
                "{waits:?}"
            );
        }),
        trial("a_session_is_resumed", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), Some("11111111-2222-4333-8444-555555555555"));
            let turn = agent.run_turn("session").await;
            assert!(
                turn.text().contains("`11111111-2222-4333-8444-555555555555`, resumed"),
                "{}",
                turn.text()
            );
            assert_eq!(turn.count(|event| matches!(event, AgentEvent::Session { .. })), 0, "nothing changed");
            agent.stop().await;
        }),
        trial("an_unknown_session_begins_a_new_one", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), Some(UNKNOWN_SESSION));
            let turn = agent.run_turn("session").await;
            assert!(turn.text().contains(", new, turn 1"), "{}", turn.text());
            assert_eq!(turn.count(|event| matches!(event, AgentEvent::Session { .. })), 1);
            assert_eq!(memory_lost(&turn).len(), 1);
            agent.stop().await;
        }),
        trial("a_session_that_cannot_be_resumed_makes_room_for_a_new_one", |fixture| async move {
            for (failure, end) in RESUMES_THAT_FAIL {
                let command = cannot_resume(failure);
                let mut config = fixture.config(&command.each_ref().map(String::as_str), dialect::CLAUDE);
                config.limits.resume = Duration::from_millis(200);
                let mut agent = TestAgent::start(Arc::new(ProcessAgent::new(config)), Some("s1"));
                let turn = agent.run_turn("x").await;
                assert_eq!(turn.text(), "new");
                assert!(matches!(memory_lost(&turn)[..], [notice] if notice.ends_with(end)), "{failure}");
                assert_eq!(memory_lost(&agent.run_turn("x").await), [""; 0], "it is said once");
                agent.stop().await;
            }
        }),
    ]
}
