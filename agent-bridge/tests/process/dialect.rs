//! An agent of a dialect that the crate does not know.

use std::sync::Arc;

use libtest_mimic::Trial;
use switchboard_agent_bridge::ProcessAgent;
use switchboard_core::{agent::AgentEvent, wire::Outcome};

use crate::{
    Fixture,
    support::{
        TestAgent,
        dialect::{WORDS, WORDS_AGENT},
    },
    trial,
};

fn start(fixture: &Fixture, session: Option<&str>) -> TestAgent {
    TestAgent::start(Arc::new(ProcessAgent::new(fixture.config(&["sh", "-c", WORDS_AGENT], WORDS))), session)
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_new_dialect_holds_a_conversation", |fixture| async move {
            let mut agent = start(&fixture, None);
            for text in ["hi", "and on"] {
                let turn = agent.run_turn(text).await;
                assert_eq!((turn.text().as_str(), turn.end()), (text, (Outcome::Completed, None)));
            }
            agent.prompt("hang");
            agent.until(|event| matches!(event, AgentEvent::Text { .. })).await;
            agent.cancel();
            assert_eq!(agent.turn().await.end(), (Outcome::Cancelled, None));
            agent.stop().await;
        }),
        trial("a_new_dialect_resumes_a_session_or_begins_a_new_one", |fixture| async move {
            for (session, opened) in [("known", "known"), ("lost", "fresh")] {
                let mut agent = start(&fixture, Some(session));
                let turn = agent.run_turn("hi").await;
                let is_opened =
                    |event: &AgentEvent| matches!(event, AgentEvent::Session { token } if token == opened);
                assert_eq!((turn.count(is_opened), turn.text().as_str()), (1, "hi"));
                agent.stop().await;
            }
        }),
    ]
}
