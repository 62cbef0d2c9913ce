//! Cancels, stops, and a gateway that goes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use switchboard_agent_bridge::ProcessAgent;
use switchboard_core::{
    agent::{AgentEvent, AgentExit},
    wire::Outcome,
};
use switchboard_runtime::AgentControl;

use crate::{
    support::{Bench, alive, eventually},
    trial,
};

fn is_text(event: &AgentEvent) -> bool {
    matches!(event, AgentEvent::Text { .. })
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_cancel_stops_an_answer_at_once", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            bench.prompt("slow 1000");
            bench.until(is_text).await;
            let asked = Instant::now();
            bench.cancel();
            let turn = bench.turn().await;
            assert_eq!(turn.end(), (Outcome::Cancelled, None));
            assert!(asked.elapsed() < Duration::from_millis(400), "{:?}", asked.elapsed());
            assert_eq!(bench.said("echo and on").await.text(), "and on");
            bench.stop().await;
        }),
        trial("a_cancel_that_comes_late_hits_nothing", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            bench.said("echo one").await;
            bench.cancel();
            for text in ["two", "three"] {
                let turn = bench.said(&format!("echo {text}")).await;
                assert_eq!((turn.text().as_str(), turn.end().0), (text, Outcome::Completed));
            }
            bench.stop().await;
        }),
        trial("a_cancel_right_behind_its_prompt_is_not_lost", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            for _ in 0..50 {
                bench.said("fast 1").await;
                bench.prompt("hang");
                bench.cancel();
                assert_eq!(bench.turn().await.end().0, Outcome::Cancelled);
            }
            bench.stop().await;
        }),
        trial("a_cancel_withdraws_what_is_asked", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            bench.prompt("permission");
            let asked = bench.request().await;
            bench.cancel();
            let turn = bench.turn().await;
            assert_eq!(
                turn.count(
                    |event| matches!(event, AgentEvent::Withdrawn { request_id } if *request_id == asked)
                ),
                1
            );
            assert_eq!(turn.end().0, Outcome::Cancelled);
            bench.stop().await;
        }),
        trial("a_cancel_ends_silence", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            bench.prompt("hang");
            bench.until(|event| matches!(event, AgentEvent::Model { .. })).await;
            bench.cancel();
            assert_eq!(bench.turn().await.end().0, Outcome::Cancelled);
            bench.stop().await;
        }),
        trial("a_cancel_before_the_agent_is_ready_ends_the_turn", |place| async move {
            let agent = place.config(&["sh", "-c", "sleep 1000"], switchboard_agent_bridge::dialect::CLAUDE);
            let mut bench = Bench::begin(Arc::new(ProcessAgent::new(agent)), None);
            bench.prompt("hello");
            eventually("it runs", || !alive(&place.mark).is_empty()).await;
            bench.cancel();
            assert_eq!(bench.turn().await.end().0, Outcome::Cancelled);
            bench.stop().await;
        }),
        trial("stop_before_anything_is_stopped", |place| async move {
            let bench = Bench::begin(place.demo(), None);
            assert!(bench.stop().await.is_empty());
        }),
        trial("stop_in_the_middle_of_a_turn", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            bench.prompt("slow 1000");
            bench.until(is_text).await;
            bench.stop().await;
        }),
        trial("a_gateway_that_goes_takes_its_agents_along", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            bench.prompt("fast 10000000");
            bench.until(is_text).await;
            bench.hang_up();
            assert_eq!(bench.exit().await.0, AgentExit::Stopped);
        }),
        trial("a_life_that_is_dropped_leaves_nothing", |place| async move {
            let script = "setsid sleep 1000 & sleep 1000";
            let mut bench = Bench::begin(place.stub(script), None);
            bench.prompt("x");
            eventually("the helper runs", || alive(&place.mark).len() >= 3).await;
            bench.abort();
        }),
        trial("an_agent_that_ignores_sigterm_is_killed", |place| async move {
            let mut bench = Bench::begin(place.stub("trap '' TERM; while :; do sleep 1; done"), None);
            bench.prompt("x");
            eventually("it runs", || !alive(&place.mark).is_empty()).await;
            bench.stop().await;
        }),
        trial("kill_does_not_wait", |place| async move {
            let mut config = place.stub_config("trap '' TERM; while :; do sleep 1; done");
            config.limits.stop_eof = Duration::from_secs(3600);
            let mut bench = Bench::begin(Arc::new(ProcessAgent::new(config)), None);
            bench.prompt("x");
            eventually("it runs", || !alive(&place.mark).is_empty()).await;
            bench.order(AgentControl::Stop);
            bench.order(AgentControl::Kill);
            assert_eq!(bench.exit().await.0, AgentExit::Stopped);
        }),
        trial("an_agent_that_never_reads_can_be_stopped", |place| async move {
            let mut bench = Bench::begin(place.stub("exec sleep 1000"), None);
            bench.prompt(&"x".repeat(1024 * 1024));
            bench.cancel();
            bench.stop().await;
        }),
        trial("an_agent_that_asks_without_end_and_never_reads_is_killed", |place| async move {
            let asks = r#"{"type":"control_request","request_id":"x","request":{"subtype":"unknown"}}"#;
            let mut bench = Bench::begin(place.stub(&format!("exec yes '{asks}'")), None);
            bench.prompt("hello");
            assert!(matches!(bench.exit().await.0, AgentExit::Gone(_)));
        }),
        trial("a_reader_that_stalls_holds_the_agent_and_not_its_orders", |place| async move {
            let mut bench = Bench::begin(place.demo(), None);
            bench.prompt("fast 10000000");
            bench.until(is_text).await;
            // Nobody takes records from here on; the inbox is full soon.
            bench.order(AgentControl::Kill);
            assert_eq!(bench.exit().await.0, AgentExit::Stopped);
        }),
    ]
}
