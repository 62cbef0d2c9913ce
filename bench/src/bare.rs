//! What a disk can do without a gateway: the sync of a small write, and messages kept by a bare loop on SQLite.

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

/// About what a message weighs in a journal: its event and its content.
const MESSAGE: [u8; 300] = [b'x'; 300];

/// The sync of 4 KiB that were appended to a file in this directory, p50 of 50, in microseconds.
pub(crate) fn sync_us(directory: &Path) -> io::Result<f64> {
    let mut file = File::create(directory.join("sync"))?;
    let mut took = Samples::default();
    for _ in 0..50 {
        file.write_all(&[0; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(took.median())
}

/// Messages that were kept per second, as [`keep`] measures it in a process of its own on the server's core.
pub(crate) async fn kept_per_second(directory: &Path, writers: usize, each: usize) -> io::Result<f64> {
    let mut command = on_core(SERVER_CORE, &std::env::current_exe()?);
    command.arg("keep").arg(directory).arg(writers.to_string()).arg(each.to_string());
    let output = command.output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Keeps messages of many writers, each of which waits for its last one to be on the disk: one transaction for
/// all that wait, one sync for all that were committed, the two on threads of their own. Gives messages per
/// second.
pub(crate) fn keep(directory: &Path, writers: usize, each: usize) -> Result<f64, Box<dyn std::error::Error>> {
    let path = directory.join("bare.db");
    let db = Connection::open(&path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "OFF")?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, writer INTEGER, text BLOB)",
    )?;
    let log = File::options().write(true).open(path.with_extension("db-wal"))?;
    let (ask, asked) = mpsc::channel::<usize>();
    let (commit, committed) = mpsc::channel::<Vec<usize>>();
    let (answer, answered): (Vec<_>, Vec<_>) = (0..writers).map(|_| mpsc::channel::<()>()).unzip();
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || write(&db, &asked, &commit));
        scope.spawn(move || {
            while let Ok(mut batch) = committed.recv() {
                committed.try_iter().for_each(|more| batch.extend(more));
                log.sync_data().expect("the disk takes what is written");
                for writer in batch {
                    // A writer that is done waits no more.
                    let _ = answer[writer].send(());
                }
            }
        });
        for (writer, answered) in answered.into_iter().enumerate() {
            let ask = ask.clone();
            scope.spawn(move || {
                for _ in 0..each {
                    if ask.send(writer).is_err() || answered.recv_timeout(Duration::from_secs(60)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(ask);
    });
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
    Ok((writers * each) as f64 / begun.elapsed().as_secs_f64())
}

fn write(db: &Connection, asked: &mpsc::Receiver<usize>, commit: &mpsc::Sender<Vec<usize>>) {
    while let Ok(first) = asked.recv() {
        let batch: Vec<usize> = std::iter::once(first).chain(asked.try_iter()).collect();
        let kept = || -> rusqlite::Result<()> {
            db.execute_batch("BEGIN IMMEDIATE")?;
            let mut insert = db.prepare_cached("INSERT INTO messages (writer, text) VALUES (?1, ?2)")?;
            for writer in &batch {
                insert.execute((i64::try_from(*writer).unwrap_or(0), MESSAGE))?;
            }
            db.execute_batch("COMMIT")
        };
        kept().expect("the disk takes what is written");
        if commit.send(batch).is_err() {
            return;
        }
    }
}
