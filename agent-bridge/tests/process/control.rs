//! Cancels, stops, and a gateway that ends.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use libtest_mimic::Trial;
use switchboard_agent_bridge::{ProcessAgent, RecordSink, UnhostedInstance, dialect};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit, AgentInstanceId, AgentRecords, CommandId},
    ids::{ChatId, ChatKey, Principal, TurnId},
    wire::Outcome,
};
use switchboard_runtime::{AgentControl, GatewayGone};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    support::{ControlReceiver, TIMEOUT, TestAgent, alive, eventually},
    trial,
};

/// A sink that reports the end of a turn, and never takes it.
#[derive(Clone)]
struct StuckAtTurnEnd(mpsc::UnboundedSender<()>);

#[async_trait]
impl RecordSink for StuckAtTurnEnd {
    async fn send(&self, records: AgentRecords) -> Result<(), GatewayGone> {
        if records.events.iter().any(|event| matches!(event, AgentEvent::TurnEnded { .. })) {
            self.0.send(()).unwrap();
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

fn is_text(event: &AgentEvent) -> bool {
    matches!(event, AgentEvent::Text { .. })
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_cancel_stops_an_answer_at_once", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            agent.prompt("slow 1000");
            agent.until(is_text).await;
            agent.cancel();
            let turn = agent.turn().await;
            assert_eq!(turn.end(), (Outcome::Cancelled, None));
            assert_eq!(agent.run_turn("echo and on").await.text(), "and on");
            agent.stop().await;
        }),
        trial("a_late_cancel_cancels_nothing", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            agent.run_turn("echo one").await;
            agent.cancel();
            for text in ["two", "three"] {
                let turn = agent.run_turn(&format!("echo {text}")).await;
                assert_eq!((turn.text().as_str(), turn.end().0), (text, Outcome::Completed));
            }
            agent.stop().await;
        }),
        trial("a_cancel_right_behind_its_prompt_is_not_lost", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            for _ in 0..50 {
                agent.run_turn("fast 1").await;
                agent.prompt("hang");
                agent.cancel();
                assert_eq!(agent.turn().await.end().0, Outcome::Cancelled);
            }
            agent.stop().await;
        }),
        trial("a_stop_or_a_kill_does_not_wait_until_the_gateway_takes_events", |fixture| async move {
            for message in [AgentControl::Stop, AgentControl::Kill] {
                let (control, receiver) = mpsc::unbounded_channel();
                let (stuck, mut is_stuck) = mpsc::unbounded_channel();
                let instance = UnhostedInstance {
                    chat: ChatKey { principal: Principal::owner(), chat: ChatId::parse("c").unwrap() },
                    instance: AgentInstanceId(1),
                    session: None,
                    control: ControlReceiver(receiver),
                    records: StuckAtTurnEnd(stuck),
                };
                let agent = ProcessAgent::new(fixture.config(&["cat"], dialect::TEXT));
                let turn_id = TurnId::parse("turn-1").unwrap();
                let prompt = AgentCommand::Prompt { id: CommandId(1), turn_id, text: "x".into() };
                control.send(AgentControl::Command(prompt)).unwrap();
                let (exit, ()) = timeout(TIMEOUT, async {
                    tokio::join!(agent.serve(instance), async {
                        is_stuck.recv().await.unwrap();
                        control.send(message).unwrap();
                    })
                })
                .await
                .unwrap();
                assert_eq!(exit, AgentExit::Stopped);
            }
        }),
        trial("a_cancel_withdraws_an_open_request", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            agent.prompt("permission");
            let asked = agent.next_request().await;
            agent.cancel();
            let turn = agent.turn().await;
            assert_eq!(
                turn.count(
                    |event| matches!(event, AgentEvent::Withdrawn { request_id } if *request_id == asked)
                ),
                1
            );
            assert_eq!(turn.end().0, Outcome::Cancelled);
            agent.stop().await;
        }),
        trial("a_cancel_ends_silence", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            agent.prompt("hang");
            agent.until(|event| matches!(event, AgentEvent::Model { .. })).await;
            agent.cancel();
            assert_eq!(agent.turn().await.end().0, Outcome::Cancelled);
            agent.stop().await;
        }),
        trial("a_cancel_before_the_agent_is_ready_ends_the_turn", |fixture| async move {
            let agent = fixture.config(&["sh", "-c", "sleep 1000"], dialect::CLAUDE);
            let mut agent = TestAgent::start(Arc::new(ProcessAgent::new(agent)), None);
            agent.prompt("hello");
            eventually("the agent runs", || !alive(&fixture.mark).is_empty()).await;
            agent.cancel();
            assert_eq!(agent.turn().await.end().0, Outcome::Cancelled);
            agent.stop().await;
        }),
        trial("stop_before_anything_is_stopped", |fixture| async move {
            let agent = TestAgent::start(fixture.demo(), None);
            assert!(agent.stop().await.is_empty());
        }),
        trial("stop_in_the_middle_of_a_turn", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            agent.prompt("slow 1000");
            agent.until(is_text).await;
            agent.stop().await;
        }),
        trial("a_gateway_that_ends_ends_its_agents", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            agent.prompt("fast 10000000");
            agent.until(is_text).await;
            agent.disconnect();
            assert_eq!(agent.exit().await.0, AgentExit::Stopped);
        }),
        trial("an_instance_that_is_dropped_leaves_nothing", |fixture| async move {
            let script = "setsid sleep 1000 & sleep 1000";
            let mut agent = TestAgent::start(fixture.stub(script), None);
            agent.prompt("x");
            eventually("the helper runs", || alive(&fixture.mark).len() >= 3).await;
            agent.abort();
        }),
        trial("an_agent_that_ignores_sigterm_is_killed", |fixture| async move {
            let mut agent = TestAgent::start(fixture.stub("trap '' TERM; while :; do sleep 1; done"), None);
            agent.prompt("x");
            eventually("the agent runs", || !alive(&fixture.mark).is_empty()).await;
            agent.stop().await;
        }),
        trial("kill_does_not_wait", |fixture| async move {
            let mut config = fixture.stub_config("trap '' TERM; while :; do sleep 1; done");
            config.limits.stop_eof = Duration::from_secs(3600);
            let mut agent = TestAgent::start(Arc::new(ProcessAgent::new(config)), None);
            agent.prompt("x");
            eventually("the agent runs", || !alive(&fixture.mark).is_empty()).await;
            agent.control(AgentControl::Stop);
            agent.control(AgentControl::Kill);
            assert_eq!(agent.exit().await.0, AgentExit::Stopped);
        }),
        trial("an_agent_that_never_reads_can_be_stopped", |fixture| async move {
            let mut agent = TestAgent::start(fixture.stub("exec sleep 1000"), None);
            agent.prompt(&"x".repeat(1024 * 1024));
            agent.cancel();
            agent.stop().await;
        }),
        trial("an_agent_that_asks_without_end_and_never_reads_is_killed", |fixture| async move {
            let asks = r#"{"type":"control_request","request_id":"x","request":{"subtype":"unknown"}}"#;
            let mut agent = TestAgent::start(fixture.stub(&format!("exec yes '{asks}'")), None);
            agent.prompt("hello");
            assert!(matches!(agent.exit().await.0, AgentExit::Gone(_)));
        }),
        trial("a_stalled_reader_pauses_the_agent_and_not_its_control_messages", |fixture| async move {
            let mut agent = TestAgent::start(fixture.demo(), None);
            agent.prompt("fast 10000000");
            agent.until(is_text).await;
            // Nothing receives records from here on; the channel is full soon.
            agent.control(AgentControl::Kill);
            assert_eq!(agent.exit().await.0, AgentExit::Stopped);
        }),
    ]
}
