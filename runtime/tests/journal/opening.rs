//! Opening: errors that help, one gateway at a time, and what a start finds out about the last one.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use switchboard_core::{
    agent::AgentRun,
    journal::{Change, Durability, Found, PageStart, Query},
    wire::Outcome,
};
use switchboard_runtime::{OpenErrorReason, Sqlite, SqliteOptions};

use crate::{
    desk::{open, open_with},
    make::{Scribe, key, turn},
};

fn folder() -> tempfile::TempDir {
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
fn everything_is_private() {
    let folder = folder();
    fs::write(folder.path().join("journal.db"), "").expect("a file");
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
        println!("SKIPPED: this user may read and write everything");
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
    scribe.change(Change::AgentStarted { run: AgentRun(u64::MAX) });
    assert!(desk.append(scribe.append(1, Durability::Synced, 5)));
    let before = desk.history(&scribe.key, 10);
    drop(desk);
    assert!(!folder.path().join("journal.db-wal").exists(), "what was closed is one file");

    let (mut desk, report) = open(folder.path()).expect("it opens again");
    assert!(!report.created && !report.unclean && !report.lost_commits, "{report:?}");
    assert_eq!(report.unfinished, [scribe.key.clone()]);
    assert_eq!(desk.history(&scribe.key, 10), before);
    let record = desk.chat(&scribe.key).expect("a chat");
    assert_eq!(record.agent.expect("an agent").run, AgentRun(u64::MAX));
    let again = scribe.message("t1", "hello").append(2, Durability::Synced, 6);
    assert!(!desk.append(again), "a turn's id is accepted once for ever");
    let known = desk.ask(Query::Turn { chat: scribe.key.clone(), turn_id: turn("t1") });
    assert!(matches!(known, Some(Found::Turn(Some(turn))) if turn.place.seq == 1));
}

#[test]
fn after_a_refusal_a_chat_is_closed_until_it_is_asked_for() {
    let folder = folder();
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    assert!(desk.append(scribe.message("t1", "hello").append(1, Durability::Synced, 1)));
    let mut astray = scribe.clone();
    astray.head += 5;
    assert!(!desk.append(astray.delta("t1", "s", "from nowhere").append(2, Durability::Written, 2)));
    let fine = scribe.delta("t1", "s", "fine").append(3, Durability::Written, 3);
    assert!(!desk.append(fine.clone()), "it comes after a refused one");
    let mut other = Scribe::new("owner", "other");
    assert!(desk.append(other.message("t1", "hello").append(4, Durability::Synced, 4)), "others go on");
    assert_eq!(desk.chat(&scribe.key).expect("a chat").head.seq, 1);
    assert!(desk.append(fine), "it was asked for");
}

fn copy(from: &Path, to: &Path) {
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
    open_chat.resume(&record.head);
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
fn a_backup_is_made_while_the_journal_is_open() {
    let (live, backup) = (folder(), folder());
    let mut scribe = Scribe::new("owner", "chat");
    let (mut desk, _) = open(live.path()).expect("it opens");
    assert!(desk.append(scribe.message("t1", "hello").append(1, Durability::Synced, 1)));
    let to = backup.path().join("copy");
    let made = Sqlite::backup(&live.path().join("journal.db"), &to).expect("a backup");
    assert_eq!(made.chats, 1);
    assert_eq!(fs::metadata(&to).expect("a file").permissions().mode() & 0o777, 0o600);
    let again = Sqlite::backup(&live.path().join("journal.db"), &to).expect_err("it exists");
    assert!(matches!(again.reason, OpenErrorReason::Exists), "{again}");
    assert!(desk.append(scribe.message("t2", "later").append(2, Durability::Synced, 2)));
    let in_use = Sqlite::restore(&to, &live.path().join("journal.db")).expect_err("it is in use");
    assert!(matches!(in_use.reason, OpenErrorReason::InUse { .. }), "{in_use}");
    drop(desk);
    let there = Sqlite::restore(&to, &live.path().join("journal.db")).expect_err("there is one");
    assert!(matches!(there.reason, OpenErrorReason::Exists), "{there}");
    // One that nobody has open can be copied as well, and nothing is left beside it.
    let closed = backup.path().join("closed");
    assert_eq!(Sqlite::backup(&live.path().join("journal.db"), &closed).expect("a backup").chats, 1);

    let restored = Sqlite::restore(&to, &backup.path().join("journal.db")).expect("it is restored");
    assert_eq!(restored.chats, 1);
    assert_eq!(
        names(backup.path()),
        ["closed", "copy", "journal.db", "journal.db.commits", "journal.db.lock"]
    );
    let (mut copy, report) = open(backup.path()).expect("it opens");
    assert!(report.restored && !report.created && !report.unclean && !report.uncounted, "{report:?}");
    assert_eq!(copy.history(&scribe.key, 10).len(), 1);
    assert_ne!(copy.chat(&scribe.key).expect("a chat").head.epoch, scribe.epoch);
    assert!(copy.chat(&scribe.key).expect("a chat").earlier.is_some());
    let head = copy.chat(&scribe.key).expect("a chat").head;
    drop(copy);
    let (mut copy, report) = open(backup.path()).expect("it opens again");
    assert!(!report.restored && !report.lost_commits && !report.unclean, "{report:?}");
    assert_eq!(copy.chat(&scribe.key).expect("a chat").head, head, "its epoch is new once");
}

#[test]
fn what_a_restore_left_that_was_killed_is_in_nobodys_way() {
    let folder = folder();
    let place = folder.path().join("journal.db");
    drop(open(folder.path()).expect("it opens"));
    let copy = folder.path().join("copy");
    Sqlite::backup(&place, &copy).expect("a backup");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let left = ["journal.db.4711.partial", "journal.db.4711.partial-wal", "journal.db.4711.partial-shm"];
    for file in left.iter().chain(&["journal.db.mine.partial", "other.4711.partial"]) {
        fs::write(elsewhere.path().join(file), "half of it").expect("a file");
    }
    Sqlite::restore(&copy, &elsewhere.path().join("journal.db")).expect("it is restored");
    let mine = [
        "journal.db",
        "journal.db.commits",
        "journal.db.lock",
        "journal.db.mine.partial",
        "other.4711.partial",
    ];
    assert_eq!(names(elsewhere.path()), mine);
}

#[test]
fn what_is_no_backup_is_not_restored() {
    let folder = folder();
    let (text, missing) = (folder.path().join("text"), folder.path().join("missing"));
    fs::write(&text, "not a journal, whatever its name says").expect("a file");
    let place = folder.path().join("journal.db");
    for (file, what) in [(&text, "not a Switchboard journal"), (&missing, "does not exist")] {
        let refused = Sqlite::restore(file, &place).expect_err("it is refused");
        assert!(refused.to_string().contains(what), "{refused}");
    }
    assert_eq!(names(folder.path()), ["text"], "nothing is left of it");
    // One whose middle is not what it was.
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    for n in 0..200 {
        let id = format!("t{n}");
        assert!(desk.append(scribe.message(&id, &"word ".repeat(100)).append(n, Durability::Written, 1)));
    }
    let copy = folder.path().join("copy");
    Sqlite::backup(&place, &copy).expect("a backup");
    drop(desk);
    let mut bytes = fs::read(&copy).expect("a file");
    bytes[20_000..28_000].fill(0xaa);
    fs::write(&copy, bytes).expect("a file");
    // Another program's database, with a write-ahead log.
    let foreign = folder.path().join("foreign");
    let mut bytes = fs::read(&place).expect("a file");
    bytes[68..72].fill(1);
    fs::write(&foreign, bytes).expect("a file");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let refused = Sqlite::restore(&copy, &elsewhere.path().join("journal.db")).expect_err("it is damaged");
    assert!(matches!(refused.reason, OpenErrorReason::DamagedCopy { .. }), "{refused}");
    let refused = Sqlite::restore(&foreign, &elsewhere.path().join("journal.db")).expect_err("it is foreign");
    assert!(matches!(refused.reason, OpenErrorReason::NotAJournal), "{refused}");
    assert!(names(elsewhere.path()).is_empty(), "{:?}", names(elsewhere.path()));
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").file_name());
    let mut names: Vec<_> = entries.filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    names
}

#[test]
fn the_log_stays_bounded() {
    let folder = folder();
    let mut options = SqliteOptions::default();
    options.wal_bytes = 1 << 20;
    let (mut desk, _) = open_with(folder.path(), options).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    let text = "text ".repeat(40_000);
    let mut longest = 0;
    for id in 0..600 {
        assert!(desk.append(scribe.delta("t", "s", &text).append(id, Durability::Synced, id)));
        longest = longest.max(fs::metadata(folder.path().join("journal.db-wal")).expect("a log").len());
    }
    assert!(longest < 64 << 20, "{longest} bytes, while 120 MB were written");
}

#[test]
fn there_is_room_in_the_log_before_it_is_needed() {
    let folder = folder();
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    let text = "text ".repeat(20_000);
    let room = || {
        let log = fs::read(folder.path().join("journal.db-wal")).expect("a log");
        log.len() - log.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    };
    for id in 0..50 {
        let until = Instant::now() + Duration::from_secs(30);
        while room() < 1 << 18 {
            assert!(Instant::now() < until, "only {} bytes after {id} appends", room());
            std::thread::yield_now();
        }
        assert!(desk.append(scribe.delta("t", "s", &text).append(id, Durability::Written, id)));
    }
}

#[test]
fn a_log_that_was_cut_begins_with_as_much_room_as_any() {
    let folder = folder();
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let (mut gone, mut stays) = (Scribe::new("owner", "gone"), Scribe::new("owner", "stays"));
    let text = "text ".repeat(20_000);
    for id in 0..80 {
        assert!(desk.append(gone.delta("t", "s", &text).append(id, Durability::Written, id)));
    }
    let length = || fs::metadata(folder.path().join("journal.db-wal")).expect("a log").len();
    assert!(length() > 8 << 20);
    assert!(desk.append(gone.change(Change::Deleted).append(100, Durability::Synced, 2)));
    let until = Instant::now() + Duration::from_secs(30);
    for id in 0.. {
        assert!(desk.append(stays.delta("t", "s", "more").append(id, Durability::Written, id)));
        if (1 << 20..4 << 20).contains(&length()) {
            break;
        }
        assert!(Instant::now() < until, "{} bytes", length());
    }
}

#[test]
fn others_may_read_and_write_while_the_log_is_cut_and_made_longer() {
    let folder = folder();
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let file = folder.path().join("journal.db");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let other = rusqlite::Connection::open(&file).expect("it opens");
            other.busy_timeout(Duration::from_secs(30)).expect("a limit");
            other.execute_batch("CREATE TABLE notes (note TEXT)").expect("a table");
            while !done.load(Ordering::Acquire) {
                other.execute("INSERT INTO notes VALUES (?1)", ["note ".repeat(20)]).expect("a row");
                // SQLite's lock is not a fair one.
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        scope.spawn(|| {
            let copy = folder.path().join("copy.db");
            while !done.load(Ordering::Acquire) {
                Sqlite::backup(&file, &copy).expect("a copy");
                fs::remove_file(&copy).expect("it was made");
            }
        });
        let text = "text ".repeat(20_000);
        for n in 0..200 {
            let mut chat = Scribe::new("owner", &format!("chat{n}"));
            for id in 0..3 {
                assert!(desk.append(chat.delta("t", "s", &text).append(id, Durability::Written, id)));
            }
            assert!(desk.append(chat.change(Change::Deleted).append(3, Durability::Written, 3)));
        }
        done.store(true, Ordering::Release);
    });
    drop(desk);
    let db = rusqlite::Connection::open(&file).expect("it opens");
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a verdict");
    assert_eq!(verdict, "ok");
}

#[test]
fn what_an_unclean_end_left_in_the_log_is_cut() {
    const TEXT: &str = "what was said";
    let (before, after) = (folder(), folder());
    let (mut desk, _) = open(before.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    assert!(desk.append(scribe.message("t", TEXT).append(1, Durability::Synced, 1)));
    copy(before.path(), after.path());
    let said = || {
        let log = fs::read(after.path().join("journal.db-wal")).expect("a log");
        log.windows(TEXT.len()).any(|window| window == TEXT.as_bytes())
    };
    assert!(said());
    let (mut desk, report) = open(after.path()).expect("it opens");
    assert!(report.unclean, "{report:?}");
    let until = Instant::now() + Duration::from_secs(30);
    while said() {
        assert!(Instant::now() < until, "the log is cut by a thread of its own");
        std::thread::yield_now();
    }
    assert_eq!(desk.log(&scribe.key).len(), 1);
}

#[test]
fn what_was_deleted_is_nowhere_in_the_files() {
    let folder = folder();
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let (mut gone, mut stays) = (Scribe::new("owner", "gone"), Scribe::new("owner", "stays"));
    let secret = "between-us-only";
    for n in 0..50 {
        let id = format!("{secret}-{n}");
        let text = format!("{secret} ").repeat(40 * n);
        let run = AgentRun(7);
        gone.message(&id, &text).start(&id).delta(&id, "s", &text);
        gone.change(Change::Title { title: secret.into() });
        gone.change(Change::Session { token: secret.into() });
        gone.change(Change::AgentStarted { run });
        let checkpoint = Some(text.clone().into_bytes().into());
        gone.change(Change::AgentPosition { run, position: 1, checkpoint });
        gone.end(&id, Outcome::Completed);
        assert!(desk.append(gone.append(n as u64, Durability::Written, 1)));
        stays.message(&format!("t{n}"), "this stays").start(&format!("t{n}"));
        stays.end(&format!("t{n}"), Outcome::Completed);
        assert!(desk.append(stays.append(n as u64, Durability::Written, 1)));
    }
    let found = |name: &str| {
        let bytes = fs::read(folder.path().join(name)).expect("a file");
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    };
    assert!(found("journal.db") || found("journal.db-wal"), "it was there");
    assert!(desk.append(gone.change(Change::Deleted).append(100, Durability::Synced, 2)));
    assert!(matches!(desk.ask(Query::Chat { chat: gone.key.clone() }), Some(Found::Deleted)));
    // The log is cut by a thread of its own.
    let until = Instant::now() + Duration::from_secs(30);
    while found("journal.db-wal") && Instant::now() < until {
        std::thread::yield_now();
    }
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        assert!(!found(name), "{name} still has it");
    }
    assert_eq!(desk.log(&stays.key).len(), 150);
    drop(desk);
    let (mut desk, _) = open(folder.path()).expect("it opens");
    assert!(matches!(desk.ask(Query::Chat { chat: gone.key.clone() }), Some(Found::Deleted)), "for ever");
    let again = Scribe::new("owner", "gone").message("t", "again").append(1, Durability::Synced, 3);
    assert!(!desk.append(again), "its id is not used again");
}
