//! An agent of a dialect that neither the crate nor the host knows.

use std::time::Duration;

use libtest_mimic::Trial;
use switchboard_agent_bridge::list_hosts;
use switchboard_core::{agent::AgentEvent, wire::Outcome};

use crate::{
    Fixture,
    gateway::{TestGateway, completed},
    support::{
        dialect::{WORDS, WORDS_AGENT},
        eventually,
    },
    trial,
};

fn start(fixture: &Fixture, session: Option<&str>) -> TestGateway {
    TestGateway::with_session(fixture.config(&["sh", "-c", WORDS_AGENT], WORDS), session)
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_new_dialect_outlives_its_gateway", |fixture| async move {
            let mut gateway = start(&fixture, None);
            let turn = gateway.run_turn("hi").await;
            assert!(turn.text() == "hi" && completed(&turn));
            gateway.prompt("hang");
            gateway.until_text().await;
            let mut gateway = gateway.crash_and_adopt().await;
            gateway.cancel();
            assert_eq!(gateway.turn().await.end(), (Outcome::Cancelled, None));
            assert_eq!(gateway.run_turn("and on").await.text(), "and on");
            gateway.stop().await;
        }),
        trial("an_agent_that_works_by_itself_outlives_its_gateway", |fixture| async move {
            let mut config = fixture.config(&["sh", "-c", WORDS_AGENT], WORDS);
            (config.process.limits.host.grace_idle, config.process.limits.host.grace_turn) =
                (Duration::from_millis(300), Duration::from_secs(600));
            let mut gateway = TestGateway::start(config);
            gateway.run_turn("work").await;
            gateway.until(|event| matches!(event, AgentEvent::AgentTurnStarted { .. })).await;
            // The host learns of the turn from a note, whose id begins with an `a`.
            let is_noted = |file: std::fs::DirEntry| {
                let bytes = std::fs::read(file.path()).unwrap_or_default();
                String::from_utf8_lossy(&bytes).contains(r#""id":"a"#)
            };
            let files = || std::fs::read_dir(fixture.run_dir()).unwrap().flatten();
            eventually("the host knows that the agent works", || files().any(is_noted)).await;
            let crashed = gateway.crash().await;
            // The grace time of an idle agent passes: the test is about a duration.
            tokio::time::sleep(Duration::from_millis(900)).await;
            assert!(list_hosts(&fixture.hosts).unwrap()[0].live);
            let mut gateway = TestGateway::adopt(crashed);
            gateway.cancel_agent_turn();
            let ended = |event: &AgentEvent| matches!(event, AgentEvent::AgentTurnEnded { outcome, .. } if *outcome == Outcome::Cancelled);
            gateway.until(ended).await;
            assert_eq!(gateway.run_turn("and on").await.text(), "and on");
            gateway.stop().await;
        }),
        trial("a_new_dialect_resumes_a_session_or_begins_a_new_one_under_a_host", |fixture| async move {
            for (session, opened) in [("known", "known"), ("lost", "fresh")] {
                let mut gateway = start(&fixture, Some(session));
                let turn = gateway.run_turn("hi").await;
                let is_opened =
                    |event: &AgentEvent| matches!(event, AgentEvent::Session { token } if token == opened);
                assert_eq!((turn.count(is_opened), turn.text().as_str()), (1, "hi"));
                gateway.stop().await;
                std::fs::remove_dir_all(fixture.run_dir()).unwrap();
            }
        }),
    ]
}
