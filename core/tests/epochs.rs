//! A chat whose epoch was reset has a head of 0, but is not new.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use switchboard_core::{
    Hub, Input, Limits, Moment, Output, Peer,
    ids::{ChatId, ConnId, Epoch, Principal},
    journal::{Ask, ChatRecord, Found, Grant, JournalAnswer, Query},
    wire::ClientEnvelope,
};

const NOW: Moment = Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 1_700_000_000_000 };
const CONN: ConnId = ConnId(1);

fn outputs(hub: &mut Hub) -> Vec<Output> {
    std::iter::from_fn(|| hub.poll_output()).collect()
}

#[test]
fn an_attach_gets_the_earlier_epochs_as_a_snapshot() {
    let mut hub = Hub::new(Limits::default(), [7; 32], NOW);
    let chat = ChatId::parse("c").unwrap();
    let peer = Peer { principal: Principal::owner(), client_id: None };
    hub.handle(NOW, Input::Opened { conn: CONN, peer });
    outputs(&mut hub);
    let envelope = ClientEnvelope::Attach { chat_id: chat.clone(), after: None };
    hub.handle(NOW, Input::Envelope { conn: CONN, envelope });
    let [Output::Claim { chat: key }] = &outputs(&mut hub)[..] else { panic!("the chat is claimed") };
    hub.handle(NOW, Input::Owned { chat: key.clone(), grant: Grant::default() });
    let [Output::Ask(Ask { id, query: Query::Chat { .. } })] = outputs(&mut hub)[..] else {
        panic!("the chat is asked for");
    };
    let mut record = ChatRecord::new(chat, Epoch::parse("e1").unwrap());
    (record.head.seq, record.title) = (3, Some("hi".into()));
    record.reset_epoch(Epoch::parse("e2").unwrap());
    hub.handle(NOW, Input::Journal(JournalAnswer::Found(id, Found::Chat(Some(Box::new(record))))));
    let [Output::Deliver { frame, .. }, Output::WatchDrain { .. }] = &outputs(&mut hub)[..] else {
        panic!("it is attached, and gets a snapshot as soon as there is room");
    };
    assert_eq!(
        frame.as_str(),
        r#"{"event":"attached","chat_id":"c","epoch":"e2","head":0,"recovered":false,"title":"hi"}"#
    );
    hub.handle(NOW, Input::OutboxDrained { conn: CONN });
    assert!(matches!(&outputs(&mut hub)[..], [Output::Ask(Ask { query: Query::Before { .. }, .. })]));
}
