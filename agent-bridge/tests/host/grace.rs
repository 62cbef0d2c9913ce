//! How long a host waits for a gateway.

use std::time::Duration;

use libtest_mimic::Trial;
use switchboard_agent_bridge::list_hosts;
use switchboard_core::wire::Outcome;

use crate::{
    bench::{Bench, gone},
    support::{alive, eventually},
    trial,
};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(600);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("an_idle_agent_is_stopped_after_its_grace_time", |place| async move {
            let mut config = place.demo();
            (config.process.limits.host.grace_idle, config.process.limits.host.grace_turn) = (SHORT, LONG);
            let mut bench = Bench::begin(config);
            bench.said("echo x").await;
            let crashed = bench.crash().await;
            eventually("it is stopped", || alive(&place.mark).is_empty()).await;
            let (exit, events) = Bench::adopt(crashed).exit().await;
            assert_eq!(gone(&exit).0, "agent_exited");
            assert!(events.is_empty());
        }),
        trial("an_agent_in_a_turn_has_the_longer_time", |place| async move {
            let mut config = place.demo();
            (config.process.limits.host.grace_idle, config.process.limits.host.grace_turn) = (SHORT, LONG);
            let mut bench = Bench::begin(config);
            bench.prompt("permission");
            bench.request().await;
            let crashed = bench.crash().await;
            // What would have ended an idle one passes; it is a duration that is tested here.
            tokio::time::sleep(SHORT * 3).await;
            assert!(list_hosts(&place.hosts).unwrap()[0].live);
            let mut bench = Bench::adopt(crashed);
            bench.cancel();
            assert_eq!(bench.turn().await.end().0, Outcome::Cancelled);
            bench.stop().await;
        }),
        trial("a_host_whose_directory_was_removed_ends_all_the_same", |place| async move {
            let mut config = place.demo();
            config.process.limits.host.grace_idle = SHORT;
            let mut bench = Bench::begin(config);
            bench.said("echo x").await;
            std::fs::remove_dir_all(place.run_dir()).unwrap();
            bench.crash().await;
            eventually("it is stopped", || alive(&place.mark).is_empty()).await;
        }),
        trial("an_open_request_is_neither_granted_nor_denied_when_time_is_up", |place| async move {
            let script = r#"read -r prompt
                echo '{"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"x"},"tool_use_id":"t1"}}'
                while read -r line; do printf '%s\n' "$line" >> heard; done"#;
            let mut config = place.stub(script);
            (config.process.limits.host.grace_idle, config.process.limits.host.grace_turn) = (LONG, SHORT);
            let mut bench = Bench::begin(config);
            bench.prompt("x");
            bench.request().await;
            let crashed = bench.crash().await;
            eventually("it is stopped", || alive(&place.mark).is_empty()).await;
            assert!(!place.workspace().join("heard").exists());
            let (exit, _) = Bench::adopt(crashed).exit().await;
            assert_eq!(gone(&exit).0, "agent_exited");
        }),
    ]
}
