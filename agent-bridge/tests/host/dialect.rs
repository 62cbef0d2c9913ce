//! An agent of a dialect that neither the crate nor the host knows.

use libtest_mimic::Trial;
use switchboard_core::{agent::AgentEvent, wire::Outcome};

use crate::{
    Fixture,
    gateway::{TestGateway, completed},
    support::dialect::{WORDS, WORDS_AGENT},
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
