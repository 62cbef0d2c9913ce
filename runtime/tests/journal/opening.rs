//! Opening: errors that help, one gateway at a time, and what a start finds out about the last one.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use switchboard_core::{
    agent::AgentInstanceId,
    journal::{Append, Change, Conflict, Durability, Found, JournalAnswer, PageStart, Query, Version},
    wire::Outcome,
};
use switchboard_runtime::{OpenErrorReason, OpenSqlite, Request, Sqlite, SqliteOptions};
use switchboard_test_support::report_skipped;

use crate::{
    desk::{Desk, open, open_with},
    make::{Scribe, key, turn},
};

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// What `open` says, which names the file.
fn refusal(folder: &Path) -> (OpenErrorReason, String) {
    let error = open(folder).map(|_| ()).expect_err("it does not open");
    let text = error.to_string();
    assert!(text.contains("journal.db"), "{text}");
    (error.reason, text)
}

#[test]
fn a_second_gateway_is_told_who_has_it() {
    let folder = folder();
    let first = open(folder.path()).expect("it opens");
    let (reason, text) = refusal(folder.path());
    let me = std::process::id();
    assert!(matches!(reason, OpenErrorReason::InUse { pid: Some(pid) } if pid == me), "{text}");
    assert!(text.contains(&format!("another gateway (process {me})")), "{text}");
    drop(first);
    open(folder.path()).expect("it is free again");
}

#[test]
fn all_files_of_the_journal_are_private() {
    let folder = folder();
    drop(open(folder.path()).expect("it opens"));
    fs::set_permissions(folder.path().join("journal.db"), fs::Permissions::from_mode(0o644)).expect("mode");
    let open = open(folder.path()).expect("it opens");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path()).expect("a folder") {
        let entry = entry.expect("a file");
        let mode = entry.metadata().expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
        names.push(entry.file_name().into_string().expect("text"));
    }
    names.sort();
    let expected =
        ["journal.db", "journal.db-shm", "journal.db-wal", "journal.db.commits", "journal.db.lock"];
    assert_eq!(names, expected);
    drop(open);
}

#[test]
fn what_is_not_a_journal_is_left_alone() {
    let folder = folder();
    let file = folder.path().join("journal.db");
    fs::write(&file, "My diary. Dear diary, ...").expect("a file");
    assert!(matches!(refusal(folder.path()).0, OpenErrorReason::NotAJournal));
    assert_eq!(fs::read(&file).expect("a file"), b"My diary. Dear diary, ...");

    fs::remove_file(&file).expect("a file");
    let other = rusqlite::Connection::open(&file).expect("a database");
    other.execute_batch("CREATE TABLE recipes (name TEXT)").expect("SQL");
    drop(other);
    let before = fs::read(&file).expect("a file");
    assert!(matches!(refusal(folder.path()).0, OpenErrorReason::NotAJournal));
    assert_eq!(fs::read(&file).expect("a file"), before);
}

#[test]
fn a_newer_format_is_left_alone() {
    let folder = folder();
    drop(open(folder.path()).expect("it opens"));
    let db = rusqlite::Connection::open(folder.path().join("journal.db")).expect("a database");
    db.pragma_update(None, "user_version", 99).expect("SQL");
    drop(db);
    let (reason, text) = refusal(folder.path());
    assert!(matches!(reason, OpenErrorReason::Newer { found: 99, .. }), "{text}");
    assert!(text.contains("run that version"), "{text}");
}

#[test]
fn a_missing_folder_is_named() {
    let folder = folder();
    let (reason, text) = refusal(&folder.path().join("nowhere"));
    assert!(matches!(reason, OpenErrorReason::NoFolder), "{text}");
}

#[test]
fn a_file_that_may_not_be_written_says_so() {
    let folder = folder();
    drop(open(folder.path()).expect("it opens"));
    fs::set_permissions(folder.path().join("journal.db"), fs::Permissions::from_mode(0o000)).expect("mode");
    if fs::File::open(folder.path().join("journal.db")).is_ok() {
        report_skipped("a journal that may not be written: this user may write everything");
        return;
    }
    let (reason, text) = refusal(folder.path());
    assert!(matches!(reason, OpenErrorReason::NotPermitted), "{text}");
}

#[test]
fn turn_ids_and_everything_else_survive_a_restart() {
    let folder = folder();
    let (mut desk, report) = open(folder.path()).expect("it opens");
    assert!(report.created);
    let mut scribe = Scribe::new("owner", "chat");
    scribe.message("t1", "hello").start("t1").end("t1", Outcome::Completed).message("t2", "and more");
    scribe.change(Change::AgentStarted { instance: AgentInstanceId(u64::MAX) });
    assert!(desk.append(scribe.append(1, Durability::Synced, 5)));
    let before = desk.history(&scribe.key, 10);
    drop(desk);
    assert!(!folder.path().join("journal.db-wal").exists(), "what was closed is one file");

    let (mut desk, report) = open(folder.path()).expect("it opens again");
    assert!(!report.created && !report.unclean && !report.lost_commits, "{report:?}");
    assert_eq!(report.unfinished, [scribe.key.clone()]);
    assert_eq!(desk.history(&scribe.key, 10), before);
    let record = desk.chat(&scribe.key).expect("a chat");
    assert_eq!(record.agent.expect("an agent").instance, AgentInstanceId(u64::MAX));
    let again = scribe.message("t1", "hello").append(2, Durability::Synced, 6);
    assert!(!desk.append(again), "a turn's id is accepted once for ever");
    let known = desk.ask(Query::Turn { chat: scribe.key.clone(), turn_id: turn("t1") });
    assert!(matches!(known, Some(Found::Turn(Some(turn))) if turn.place.seq == 1));
}

#[test]
fn an_append_is_committed_once_and_only_after_the_one_that_it_expects() {
    let folder = folder();
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    assert!(desk.append(scribe.message("t1", "hello").append(1, Durability::Synced, 1)));
    let first = scribe.change(Change::Title { title: "first".into() }).append(2, Durability::Synced, 2);
    let second = scribe.change(Change::Title { title: "second".into() }).append(3, Durability::Synced, 3);
    let conflict = |desk: &mut Desk<OpenSqlite>, append: &Append| {
        desk.submit([Request::Append(append.clone())]);
        let answer = desk.answer();
        let JournalAnswer::Conflict(_, Conflict::Version { stored }) = answer else { panic!("{answer:?}") };
        stored
    };
    assert_eq!(conflict(&mut desk, &second), Version(1), "the first one is missing");
    let mut other = Scribe::new("owner", "other");
    assert!(desk.append(other.message("t1", "hello").append(4, Durability::Synced, 4)), "others go on");
    assert_eq!(desk.chat(&scribe.key).expect("a chat").version, Version(1));
    assert!(desk.append(first.clone()));
    assert_eq!(conflict(&mut desk, &first), Version(2), "it is there already");
    assert!(desk.append(second));
    assert_eq!(desk.chat(&scribe.key).expect("a chat").title.as_deref(), Some("second"));
}

pub fn copy(from: &Path, to: &Path) {
    for file in ["journal.db", "journal.db-wal", "journal.db.commits"] {
        fs::write(to.join(file), fs::read(from.join(file)).unwrap_or_default()).expect("a copy");
    }
}

fn accepting() -> SqliteOptions {
    let mut options = SqliteOptions::default();
    options.accept_loss = true;
    options
}

/// Is refused for what is missing, and leaves every file as it is.
fn refused_untouched(folder: &Path, options: SqliteOptions) -> String {
    let files =
        || ["", "-wal", ".commits"].map(|file| fs::read(folder.join(format!("journal.db{file}"))).ok());
    let before = files();
    let error = open_with(folder, options).map(|_| ()).expect_err("it does not open");
    assert!(matches!(error.reason, OpenErrorReason::Lost { .. }), "{error}");
    assert!(files() == before, "a file was touched: {error}");
    let text = error.to_string();
    assert!(text.contains("--accept-loss") && text.contains("every file was left as it is"), "{text}");
    text
}

/// What becomes of a file.
type Harm = fn(&Path);

#[test]
fn a_journal_whose_files_are_gone_is_refused_untouched_until_that_is_accepted() {
    let live = folder();
    let (mut desk, _) = open(live.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    let whole = scribe.message("t1", "hello").end("t1", Outcome::Completed);
    assert!(desk.append(whole.append(1, Durability::Synced, 1)));
    let remove: Harm = |path| fs::remove_file(path).expect("it is there");
    let empty: Harm = |path| fs::write(path, "").expect("it is written");
    let halve: Harm = |path| {
        let bytes = fs::read(path).expect("a file");
        let used = bytes.iter().rposition(|byte| *byte != 0).expect("something");
        fs::write(path, &bytes[..used / 2]).expect("it is written");
    };
    let all: [(&str, Harm); 5] = [
        ("journal.db", remove),
        ("journal.db", empty),
        ("journal.db-wal", remove),
        ("journal.db-wal", empty),
        ("journal.db-wal", halve),
    ];
    for (file, harm) in all {
        let after = folder();
        copy(live.path(), after.path());
        harm(&after.path().join(file));
        let left = fs::read(after.path().join("journal.db-wal")).unwrap_or_default();
        // It was on the disk, so another boot is no excuse.
        for options in [SqliteOptions::default(), booted("another")] {
            refused_untouched(after.path(), options);
        }
        let (desk, report) = open_with(after.path(), accepting()).expect("it opens");
        assert!(report.lost_commits, "{file}: {report:?}");
        let aside = report.set_aside.expect("a copy").into_os_string().into_string().expect("text");
        assert_eq!(fs::read(format!("{aside}-wal")).unwrap_or_default(), left, "{file}");
        assert!(Path::new(&format!("{aside}.commits")).exists(), "{file}");
        drop(desk);
        let (_, report) = open(after.path()).expect("once is enough");
        assert!(!report.lost_commits && report.set_aside.is_none(), "{report:?}");
    }
}

#[test]
fn what_was_written_and_not_synced_may_be_missing_after_another_boot_only() {
    let (live, after) = (folder(), folder());
    let (mut desk, _) = open_with(live.path(), booted("first")).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    assert!(desk.append(scribe.message("t1", "hello").start("t1").append(1, Durability::Synced, 1)));
    copy(live.path(), after.path());
    assert!(desk.append(scribe.delta("t1", "s", "more").append(2, Durability::Written, 2)));
    fs::copy(live.path().join("journal.db.commits"), after.path().join("journal.db.commits"))
        .expect("a copy");
    refused_untouched(after.path(), booted("first"));
    let (mut desk, report) = open_with(after.path(), booted("second")).expect("it opens");
    assert!(report.lost_commits && report.set_aside.is_none(), "{report:?}");
    assert_ne!(desk.chat(&scribe.key).expect("a chat").head.epoch, scribe.epoch);
}

#[test]
fn the_side_file_of_the_version_before_is_understood() {
    let (live, after) = (folder(), folder());
    let (mut desk, _) = open_with(live.path(), booted("first")).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    assert!(desk.append(scribe.message("t1", "hello").append(1, Durability::Synced, 1)));
    copy(live.path(), after.path());
    let side = after.path().join("journal.db.commits");
    let line = fs::read_to_string(&side).expect("a file");
    let mut words = line.split(' ');
    let (id, commits) = (words.next().expect("an id"), words.next().expect("a count"));
    let more = commits.parse::<u64>().expect("a count") + 1;
    fs::write(&side, format!("{id} {more:020}\n")).expect("it is written");
    refused_untouched(after.path(), booted("first"));
    fs::write(&side, format!("{id} {commits}\n")).expect("it is written");
    let (desk, report) = open_with(after.path(), booted("first")).expect("it opens");
    assert!(report.unclean && !report.lost_commits, "{report:?}");
    drop(desk);
    assert_eq!(fs::read_to_string(&side).expect("a file").split(' ').count(), 4);
}

fn booted(boot: &str) -> SqliteOptions {
    let mut options = SqliteOptions::default();
    options.boot_id = Some(boot.into());
    options
}

#[test]
fn an_unclean_reboot_renews_the_epochs_of_chats_with_an_open_turn() {
    let (before, after) = (folder(), folder());
    let (mut desk, _) = open_with(before.path(), booted("first")).expect("it opens");
    let mut open_chat = Scribe::new("owner", "open");
    assert!(desk.append(open_chat.message("t1", "hello").start("t1").append(1, Durability::Synced, 1)));
    assert!(desk.append(open_chat.delta("t1", "s", "shown ").append(2, Durability::Written, 2)));
    let mut still = Scribe::new("owner", "still");
    let ended = still.message("t1", "hello").end("t1", Outcome::Cancelled);
    assert!(desk.append(ended.append(3, Durability::Synced, 3)));
    copy(before.path(), after.path());

    let (mut desk, report) = open_with(after.path(), booted("second")).expect("it opens");
    assert!(report.unclean && report.rebooted && !report.lost_commits, "{report:?}");
    assert_eq!(report.unfinished, [open_chat.key.clone()]);
    assert_eq!(desk.chat(&still.key).expect("a chat").head.epoch, still.epoch);
    let record = desk.chat(&open_chat.key).expect("a chat");
    assert_ne!(record.head.epoch, open_chat.epoch);
    assert_eq!((record.head.seq, record.earlier.is_some()), (0, true));
    assert_eq!((record.turns.len(), record.turns[0].seq), (1, 0), "its turn is still open");

    // The log goes on from 1, and history leads back across the epochs.
    let old = open_chat.epoch.clone();
    open_chat.resume(&record);
    assert!(desk.append(open_chat.delta("t1", "s", "new ").append(4, Durability::Written, 4)));
    let page = desk.ask(Query::Before {
        chat: open_chat.key.clone(),
        before: PageStart::At(1),
        events: 1,
        bytes: 1 << 20,
    });
    let Some(Found::Before(Some(page))) = page else { panic!("{page:?}") };
    assert_eq!(page.before, Some(format!("{old}~3")), "deltas of two epochs are not joined");
    assert_eq!(desk.history(&open_chat.key, 1).len(), 4);
    let known = desk.ask(Query::Turn { chat: open_chat.key.clone(), turn_id: turn("t1") });
    assert!(matches!(known, Some(Found::Turn(Some(turn))) if turn.place.epoch == old));
    drop(desk);
    let (mut desk, report) = open_with(after.path(), booted("third")).expect("it opens");
    assert!(!report.unclean && !report.rebooted, "it was closed in order: {report:?}");
    assert_eq!(desk.chat(&open_chat.key).expect("a chat").head, open_chat.cursor(open_chat.head));
}

#[test]
fn a_backup_that_is_put_back_renews_every_epoch_once() {
    let (live, backup) = (folder(), folder());
    let mut scribe = Scribe::new("owner", "chat");
    let (mut desk, _) = open(live.path()).expect("it opens");
    let whole = scribe.message("t1", "hello").end("t1", Outcome::Completed);
    assert!(desk.append(whole.append(1, Durability::Synced, 1)));
    drop(desk);
    copy(live.path(), backup.path());
    let (mut desk, _) = open(live.path()).expect("it opens");
    assert!(desk.append(scribe.message("t2", "later").append(2, Durability::Synced, 2)));
    drop(desk);
    fs::copy(backup.path().join("journal.db"), live.path().join("journal.db")).expect("put back");

    refused_untouched(live.path(), SqliteOptions::default());
    let (mut desk, report) = open_with(live.path(), accepting()).expect("it opens");
    assert!(report.lost_commits, "{report:?}");
    let renewed = desk.chat(&scribe.key).expect("a chat").head;
    assert_ne!(renewed.epoch, scribe.epoch);
    assert_eq!(desk.chat(&scribe.key).expect("a chat").head, renewed, "once");
    drop(desk);
    let (mut desk, report) = open(live.path()).expect("it opens");
    assert!(!report.lost_commits, "{report:?}");
    assert_eq!(desk.chat(&scribe.key).expect("a chat").head, renewed);

    // Without its side file nobody knows what was lost.
    drop(desk);
    fs::remove_file(live.path().join("journal.db.commits")).expect("it is there");
    let report = open(live.path()).expect("it opens").1;
    assert!(report.lost_commits && report.uncounted, "{report:?}");
    let unknown = key("owner", "unknown");
    let (mut desk, _) = open(live.path()).expect("it opens");
    assert!(desk.chat(&unknown).is_none());
}

#[test]
fn each_commit_that_is_lost_is_noticed() {
    let (live, before) = (folder(), folder());
    let (mut desk, _) = open(live.path()).expect("it opens");
    let (mut first, mut second) = (Scribe::new("owner", "first"), Scribe::new("owner", "second"));
    let mut appends = vec![
        // With events and without, of the newest chat, which is then deleted, and after that.
        first.message("t1", "hello").append(1, Durability::Synced, 1),
        first.delta("t1", "s", "one").delta("t1", "s", "two").append(2, Durability::Written, 1),
        first.change(Change::Title { title: "title".into() }).append(3, Durability::Synced, 1),
        second.message("t1", "hello").append(4, Durability::Synced, 1),
        second.message("t2", "hello").change(Change::Deleted).append(5, Durability::Synced, 1),
        first.change(Change::Session { token: "token".into() }).append(6, Durability::Synced, 1),
        first.end("t1", Outcome::Completed).append(7, Durability::Synced, 1),
    ];
    for append in appends.drain(..) {
        let what = append.id;
        copy(live.path(), before.path());
        assert!(desk.append(append));
        let side = "journal.db.commits";
        fs::copy(live.path().join(side), before.path().join(side)).expect("a copy");
        refused_untouched(before.path(), SqliteOptions::default());
        let (_, report) = open_with(before.path(), accepting()).expect("it opens");
        assert!(report.lost_commits, "without {what:?}");
        copy(live.path(), before.path());
        let (_, report) = open(before.path()).expect("it opens");
        assert!(!report.lost_commits, "with {what:?}");
    }
}

#[test]
fn a_chat_whose_id_is_damaged_is_not_recovered_and_hinders_no_other() {
    let folder = folder();
    let (mut harmed, mut whole) = (Scribe::new("owner", "harmed"), Scribe::new("owner", "whole"));
    let (mut desk, _) = open(folder.path()).expect("it opens");
    for scribe in [&mut harmed, &mut whole] {
        assert!(desk.append(scribe.message("t", "hello").start("t").append(1, Durability::Synced, 1)));
    }
    drop(desk);
    let db = rusqlite::Connection::open(folder.path().join("journal.db")).expect("it opens");
    let changed = db.execute("UPDATE chats SET chat_id = 'no id' WHERE chat_id = 'harmed'", []);
    assert_eq!(changed, Ok(1));
    drop(db);
    let (_, report) = open(folder.path()).expect("it opens");
    assert_eq!(report.unfinished, [whole.key]);
    let report = Sqlite::check(&folder.path().join("journal.db"), |_, _| {}).expect("it is checked");
    let found: Vec<_> = report.damaged.iter().map(|chat| (&*chat.chat, &*chat.what)).collect();
    assert_eq!(found, [("no id", "its id is damaged")]);
}
