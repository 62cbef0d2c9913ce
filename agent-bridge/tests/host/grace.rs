//! How long a host waits for a gateway.

use std::time::Duration;

use libtest_mimic::Trial;
use switchboard_agent_bridge::list_hosts;
use switchboard_core::wire::Outcome;

use crate::{
    gateway::{TestGateway, exit_error},
    support::{alive, eventually},
    trial,
    wire::Connection,
};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(600);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("an_idle_agent_is_stopped_after_its_grace_time", |fixture| async move {
            let mut config = fixture.demo();
            (config.process.limits.host.grace_idle, config.process.limits.host.grace_turn) = (SHORT, LONG);
            let mut gateway = TestGateway::start(config);
            gateway.run_turn("echo x").await;
            let crashed = gateway.crash().await;
            eventually("the agent has stopped", || alive(&fixture.mark).is_empty()).await;
            let (exit, events) = TestGateway::adopt(crashed).exit().await;
            assert_eq!(exit_error(&exit).0, "agent_exited");
            assert!(events.is_empty());
        }),
        trial("an_agent_in_a_turn_has_the_longer_grace_time", |fixture| async move {
            let mut config = fixture.demo();
            (config.process.limits.host.grace_idle, config.process.limits.host.grace_turn) = (SHORT, LONG);
            let mut gateway = TestGateway::start(config);
            gateway.prompt("permission");
            gateway.next_request().await;
            let crashed = gateway.crash().await;
            // The grace time of an idle agent passes: the test is about a duration.
            tokio::time::sleep(SHORT * 3).await;
            assert!(list_hosts(&fixture.hosts).unwrap()[0].live);
            let mut gateway = TestGateway::adopt(crashed);
            gateway.cancel();
            assert_eq!(gateway.turn().await.end().0, Outcome::Cancelled);
            gateway.stop().await;
        }),
        trial("a_turn_that_ended_before_a_late_cancel_is_not_open", |fixture| async move {
            const RESULT: &str = r#"{"type":"result","is_error":false,"result":"done"}"#;
            let script = format!(
                "while read -r line; do case $line in *prompt*) echo '{RESULT}'; echo >> answered;; esac; done"
            );
            let mut config = fixture.stub(&script);
            (config.process.limits.host.grace_idle, config.process.limits.host.grace_turn) = (SHORT, LONG);
            let mut gateway = TestGateway::start(config);
            gateway.prompt("prompt 1");
            gateway.turn().await;
            gateway.crash().await;
            // A gateway that dies before it reports the end of the turn, with a cancel behind the result.
            let mut connection = Connection::open(&fixture.run_dir());
            let end = connection.end;
            connection.until_handed_over();
            let answered = fixture.workspace().join("answered");
            eventually("it has answered", || answered.exists()).await;
            std::fs::remove_file(&answered).unwrap();
            connection.write("prompt 2", true, end);
            eventually("it has answered again", || answered.exists()).await;
            connection.write("cancel", false, end + RESULT.len() as u64 + 1);
            drop(connection);
            eventually("the agent has stopped", || alive(&fixture.mark).is_empty()).await;
        }),
        trial(
            "an_open_request_is_neither_allowed_nor_denied_when_the_grace_time_ends",
            |fixture| async move {
                let script = r#"read -r prompt
                echo '{"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"x"},"tool_use_id":"t1"}}'
                while read -r line; do printf '%s\n' "$line" >> received; done"#;
                let mut config = fixture.stub(script);
                (config.process.limits.host.grace_idle, config.process.limits.host.grace_turn) =
                    (LONG, SHORT);
                let mut gateway = TestGateway::start(config);
                gateway.prompt("x");
                gateway.next_request().await;
                let crashed = gateway.crash().await;
                eventually("the agent has stopped", || alive(&fixture.mark).is_empty()).await;
                assert!(!fixture.workspace().join("received").exists());
                let (exit, _) = TestGateway::adopt(crashed).exit().await;
                assert_eq!(exit_error(&exit).0, "agent_exited");
            },
        ),
    ]
}
