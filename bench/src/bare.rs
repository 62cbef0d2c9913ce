//! Measures the disk without a gateway: the sync of a small write, and a bare loop that stores messages in SQLite.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::{
    server::{SERVER_CORE, on_core},
    stats::Samples,
};

/// About the size of a message's event.
const EVENT: [u8; 300] = [b'x'; 300];

/// The least that has to be stored before an acknowledgement: the event with its seq, and the turn id, by which a
/// repeated message is recognised.
const TABLES: &str = "\
    CREATE TABLE IF NOT EXISTS events (chat INTEGER, seq INTEGER, event BLOB, PRIMARY KEY (chat, seq)) WITHOUT ROWID;\
    CREATE TABLE IF NOT EXISTS turns (chat INTEGER, turn_id TEXT, hash BLOB, PRIMARY KEY (chat, turn_id)) WITHOUT ROWID;";

/// Pause between syncs, about the least time between messages of a chat.
const BETWEEN_SYNCS: Duration = Duration::from_millis(2);

/// The median time of 50 syncs, each after appending 4 KiB to a file in `directory`, in microseconds. There is a pause
/// between the syncs, as between messages, since some disks are slower after a pause.
pub(crate) fn sync_us(directory: &Path) -> io::Result<f64> {
    let mut file = File::create(directory.join("sync"))?;
    let mut took = Samples::default();
    for _ in 0..50 {
        file.write_all(&[0; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
        thread::sleep(BETWEEN_SYNCS);
    }
    Ok(took.median())
}

/// Runs [`keep`] in a separate process on the server's core, and returns the stored messages per second.
pub(crate) async fn commits_per_second(directory: &Path, chats: usize, each: usize) -> io::Result<f64> {
    let mut command = on_core(SERVER_CORE, &std::env::current_exe()?);
    command.arg("keep").arg(directory).arg(chats.to_string()).arg(each.to_string());
    let output = command.output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Stores messages of many chats; each chat waits until its last message is synced. One thread commits all waiting
/// messages in one transaction, and another thread syncs all commits at once. Returns messages per second.
pub(crate) fn keep(directory: &Path, chats: usize, each: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let path = directory.join("bare.db");
    let db = Connection::open(&path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "OFF")?;
    db.execute_batch(TABLES)?;
    let log = File::options().write(true).open(path.with_extension("db-wal"))?;
    let (request, requests) = mpsc::channel::<usize>();
    let (commit, committed) = mpsc::channel::<Vec<usize>>();
    let (answer, answered): (Vec<_>, Vec<_>) = (0..chats).map(|_| mpsc::channel::<()>()).unzip();
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || write(&db, &requests, &commit));
        scope.spawn(move || {
            while let Ok(mut batch) = committed.recv() {
                committed.try_iter().for_each(|more| batch.extend(more));
                log.sync_data().expect("the disk takes what is written");
                for chat in batch {
                    // The chat's thread may have ended after a timeout.
                    let _ = answer[chat].send(());
                }
            }
        });
        for (chat, answered) in answered.into_iter().enumerate() {
            let request = request.clone();
            scope.spawn(move || {
                for _ in 0..each {
                    if request.send(chat).is_err() || answered.recv_timeout(Duration::from_secs(60)).is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(request);
    });
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
    Ok((chats * each) as f64 / begun.elapsed().as_secs_f64())
}

fn write(db: &Connection, requests: &mpsc::Receiver<usize>, commit: &mpsc::Sender<Vec<usize>>) {
    let mut seq =
        db.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0)).unwrap_or(0_i64);
    while let Ok(first) = requests.recv() {
        let batch: Vec<usize> = std::iter::once(first).chain(requests.try_iter()).collect();
        let mut commit_batch = || -> rusqlite::Result<()> {
            db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let mut event = db.prepare_cached("INSERT INTO events (chat, seq, event) VALUES (?1, ?2, ?3)")?;
            let mut turn =
                db.prepare_cached("INSERT INTO turns (chat, turn_id, hash) VALUES (?1, ?2, ?3)")?;
            for chat in &batch {
                seq += 1;
                let chat = i64::try_from(*chat).unwrap_or(0);
                // Spread like random ids, but the same in each run.
                let id = format!(
                    "{:032x}",
                    u128::from(seq.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
                );
                event.execute((chat, seq, EVENT))?;
                turn.execute((chat, id, [0_u8; 32]))?;
            }
            db.prepare_cached("COMMIT")?.execute([]).map(drop)
        };
        commit_batch().expect("the disk takes what is written");
        if commit.send(batch).is_err() {
            return;
        }
    }
}
