//! Requests of an agent that stay open while gateways change.

use libtest_mimic::Trial;
use switchboard_core::wire::Answer;

use crate::{
    adoption::{received, spool_holds},
    gateway::TestGateway,
    support::eventually,
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("an_answer_to_a_withdrawn_request_reaches_no_other_request", |fixture| async move {
        // The agent asks again under the same id, for the same input of another tool.
        let script = r#"
                ask() { echo '{"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"'$1'","input":{"path":"x"}}}'; }
                note() { read -r line && printf '%s\n' "$line" >> received; }
                note; ask Read
                while ! [ -e gate ]; do sleep 0.01; done
                echo '{"type":"control_cancel_request","request_id":"q1"}'; ask Delete
                note; echo '{"type":"result","is_error":false,"result":"done"}'
                while note; do :; done"#;
        let mut gateway = TestGateway::start(fixture.stub(script));
        gateway.prompt("x");
        let first = gateway.next_request().await;
        let crashed = gateway.crash().await;
        std::fs::write(fixture.workspace().join("gate"), "").unwrap();
        eventually("the agent has asked again", || spool_holds(&fixture, b"Delete")).await;
        let mut gateway = TestGateway::adopt(crashed);
        gateway.answer(first.clone(), Answer::Allow { input_sha256: None });
        let second = gateway.next_request().await;
        assert_ne!(first, second);
        gateway.answer(second, Answer::Deny { message: Some("not that".into()) });
        assert_eq!(gateway.turn().await.text(), "done");
        gateway.stop().await;
        assert_eq!((received(&fixture, "allow"), received(&fixture, "not that")), (0, 1));
    })]
}
