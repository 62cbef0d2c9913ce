//! The list of chats: the latest activity first, and an agent's output is no activity.

use bytes::Bytes;
use switchboard_core::{
    agent::AgentInstanceId,
    ids::Principal,
    journal::{Change, Durability, Found, Query},
};
use switchboard_runtime::OpenSqlite;

use crate::{
    desk::{Desk, open},
    make::Scribe,
};

/// The ids of all chats with the times of their latest activity, in the order of the list.
fn listed(desk: &mut Desk<OpenSqlite>) -> Vec<(String, u64)> {
    let query = Query::Chats { principal: Principal::owner(), before: None, limit: 10 };
    let Some(Found::Chats(Some(page))) = desk.ask(query) else { panic!("a page of chats") };
    page.chats.into_iter().map(|chat| (chat.chat_id.as_str().into(), chat.updated_at_ms)).collect()
}

#[test]
fn an_append_with_a_checkpoint_leaves_the_order_of_chats_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let (mut first, mut second) = (Scribe::new("owner", "first"), Scribe::new("owner", "second"));
    let instance = AgentInstanceId(1);
    first
        .message("t", "hello")
        .message("t2", "and then")
        .start("t")
        .change(Change::AgentStarted { instance });
    assert!(desk.append(first.append(1, Durability::Synced, 10_000)));
    assert!(desk.append(second.message("t", "hello").append(2, Durability::Synced, 20_000)));
    let before = [("second".to_owned(), 20_000), ("first".to_owned(), 10_000)];
    assert_eq!(listed(&mut desk), before);

    let checkpoint = Bytes::from_static(b"state");
    let position = Change::AgentPosition { instance, position: 9, checkpoint: Some(checkpoint.clone()) };
    first.delta("t", "s", "some").change(position);
    assert!(desk.append(first.append(3, Durability::Written, 30_000)));
    let agent = desk.chat(&first.key).and_then(|chat| chat.agent).expect("an agent");
    assert_eq!((agent.position, agent.checkpoint), (9, Some(checkpoint)));
    assert_eq!(listed(&mut desk), before);

    // A start of a turn is activity.
    assert!(desk.append(first.start("t2").append(4, Durability::Synced, 40_000)));
    assert_eq!(listed(&mut desk), [("first".to_owned(), 40_000), ("second".to_owned(), 20_000)]);
}
