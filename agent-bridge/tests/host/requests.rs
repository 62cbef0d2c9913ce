//! What an agent asks, over the end of a gateway.

use libtest_mimic::Trial;
use switchboard_core::wire::Answer;

use crate::{
    adoption::{heard, spool_holds},
    bench::Bench,
    support::eventually,
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("an_answer_to_what_was_withdrawn_meanwhile_reaches_no_other_request", |place| async move {
        // The agent asks again under the same id, for the same input of another tool.
        let script = r#"
                ask() { echo '{"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"'$1'","input":{"path":"x"}}}'; }
                note() { read -r line && printf '%s\n' "$line" >> heard; }
                note; ask Read
                while ! [ -e gate ]; do sleep 0.01; done
                echo '{"type":"control_cancel_request","request_id":"q1"}'; ask Delete
                note; echo '{"type":"result","is_error":false,"result":"done"}'
                while note; do :; done"#;
        let mut bench = Bench::begin(place.stub(script));
        bench.prompt("x");
        let first = bench.request().await;
        let crashed = bench.crash().await;
        std::fs::write(place.workspace().join("gate"), "").unwrap();
        eventually("it has asked again", || spool_holds(&place, b"Delete")).await;
        let mut bench = Bench::adopt(crashed);
        bench.answer(first.clone(), Answer::Allow { input_sha256: None });
        let second = bench.request().await;
        assert_ne!(first, second);
        bench.answer(second, Answer::Deny { message: Some("not that".into()) });
        assert_eq!(bench.turn().await.text(), "done");
        bench.stop().await;
        assert_eq!((heard(&place, "allow"), heard(&place, "not that")), (0, 1));
    })]
}
