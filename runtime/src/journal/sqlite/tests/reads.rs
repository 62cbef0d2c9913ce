//! A disk that cannot be read.

use std::sync::atomic::Ordering;

use switchboard_core::journal::{AppendId, Durability, JournalAnswer, Query};

use super::{
    super::mutex::locked,
    appended, open_on,
    support::make::{Scribe, turn},
};
use crate::journal::Request;

#[test]
fn what_the_disk_does_not_give_twice_is_damage_of_that_chat() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut desk, disk) = open_on(folder.path(), false);
    let (mut harmed, mut whole) = (Scribe::new("owner", "harmed"), Scribe::new("owner", "whole"));
    assert!(desk.append(harmed.message("t", "hello").append(1, Durability::Synced, 1)));
    assert!(desk.append(whole.message("t", "hello").append(2, Durability::Synced, 2)));
    let fail = |times| locked(&disk.unreadable).insert(harmed.key.clone(), times);
    let turn = Query::Turn { chat: harmed.key.clone(), turn_id: turn("t") };
    // One failed read is no damage.
    fail(1);
    assert!(desk.ask(turn.clone()).is_some());
    let mut scribe = Scribe::new("owner", "harmed");
    scribe.resume(&desk.chat(&harmed.key).expect("a chat"));
    fail(1);
    assert!(desk.append(scribe.delta("t", "s", "text").append(3, Durability::Written, 3)));
    // A part of the journal cannot be read.
    fail(u32::MAX);
    assert!(desk.is_damaged(turn));
    desk.submit([
        Request::Append(whole.delta("t", "s", "text").append(4, Durability::Synced, 4)),
        Request::Append(scribe.delta("t", "s", "text").append(5, Durability::Synced, 4)),
    ]);
    let mut answers = [desk.answer(), desk.answer()];
    answers.sort_by_key(|answer| matches!(answer, JournalAnswer::Refused(_)));
    appended(4, &answers[0]);
    assert!(matches!(answers[1], JournalAnswer::Refused(AppendId(5))), "{answers:?}");
    fail(0);
    assert!(
        desk.is_damaged(Query::Chat { chat: harmed.key.clone(), term: None }),
        "nothing can be added to it any more"
    );
    assert_eq!(*desk.health.borrow(), None, "the disk is well");
    assert!(desk.append(whole.delta("t", "s", "text").append(6, Durability::Synced, 5)));
}

#[test]
fn a_disk_that_gives_nothing_is_said_and_service_returns_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut desk, disk) = open_on(folder.path(), false);
    let mut scribe = Scribe::new("owner", "chat");
    assert!(desk.append(scribe.message("t", "hello").append(1, Durability::Synced, 1)));
    let turn = Query::Turn { chat: scribe.key.clone(), turn_id: turn("t") };
    disk.gone.store(true, Ordering::Release);
    assert!(!desk.is_damaged(turn.clone()), "the chat is not damaged");
    let why = desk.health.borrow().clone();
    assert!(why.is_some_and(|why| why.contains("the journal cannot be read")), "it says so");
    assert!(!desk.append(scribe.delta("t", "s", "text").append(2, Durability::Synced, 2)));
    disk.gone.store(false, Ordering::Release);
    desk.until_well();
    assert!(desk.ask(turn).is_some());
    scribe.resume(&desk.chat(&scribe.key).expect("a chat"));
    assert!(desk.append(scribe.delta("t", "s", "text").append(3, Durability::Synced, 3)));
}
