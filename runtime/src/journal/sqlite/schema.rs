//! The schema and its versions.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a file as a Switchboard journal (`PRAGMA application_id`): "SWBD".
pub(super) const APPLICATION_ID: i32 = 0x5357_4244;

/// All migrations, in order. `PRAGMA user_version` is the number of applied migrations.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_first", sql: include_str!("../migrations/0001_first.sql") },
    Migration { name: "0002_deleted", sql: include_str!("../migrations/0002_deleted.sql") },
    Migration { name: "0003_open_work", sql: include_str!("../migrations/0003_open_work.sql") },
    Migration { name: "0004_joined", sql: include_str!("../migrations/0004_joined.sql") },
    Migration { name: "0005_in_order", sql: include_str!("../migrations/0005_in_order.sql") },
    Migration { name: "0006_fewer_pages", sql: include_str!("../migrations/0006_fewer_pages.sql") },
    Migration { name: "0007_cancel_reason", sql: include_str!("../migrations/0007_cancel_reason.sql") },
    Migration { name: "0008_lighter_messages", sql: include_str!("../migrations/0008_lighter_messages.sql") },
    Migration { name: "0009_whole_requests", sql: include_str!("../migrations/0009_whole_requests.sql") },
    Migration { name: "0010_agent_turns", sql: include_str!("../migrations/0010_agent_turns.sql") },
    Migration { name: "0011_versions", sql: include_str!("../migrations/0011_versions.sql") },
    Migration { name: "0012_exact_activity", sql: include_str!("../migrations/0012_exact_activity.sql") },
    Migration { name: "0013_accounts", sql: include_str!("../migrations/0013_accounts.sql") },
];

/// One step from a version of the schema to the next.
pub(super) struct Migration {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// The version that this program reads and writes.
pub(super) fn newest() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// The version of a database: the number of applied migrations.
pub(super) fn version(db: &Connection) -> rusqlite::Result<u32> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

pub(super) fn application_id(db: &Connection) -> rusqlite::Result<i32> {
    db.pragma_query_value(None, "application_id", |row| row.get(0))
}

/// Migrates a database of version `from` to the newest version, each step in a transaction of its own.
pub(super) fn migrate(db: &mut Connection, from: u32) -> rusqlite::Result<()> {
    migrate_to(db, from, newest())
}

/// Migrates a database of version `from` to the version `to`.
pub(super) fn migrate_to(db: &mut Connection, from: u32, to: u32) -> rusqlite::Result<()> {
    let seen = usize::try_from(from).unwrap_or(usize::MAX);
    for (version, migration) in (1..=to).zip(MIGRATIONS).skip(seen) {
        let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step.execute_batch(migration.sql)?;
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", version)?;
        step.commit()?;
        tracing::info!(migration = migration.name, "the journal's schema is at version {version}");
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// SHA-256 of every migration of a release. Each new migration adds a line, and no line is ever changed, because
    /// existing journals were made by exactly these statements.
    const PINNED: &[(&str, &str)] = &[
        ("0001_first", "34c133101fa2a2b35b77753dd0849c22b5db886028825ca747719dceb26cc183"),
        ("0002_deleted", "a580f7f67ae66f1b263d9ffad472dbf13e98e3e106857ea1eec95fdcdf8f6d4c"),
        ("0003_open_work", "bd675bae7dd6c3ebef60b7817b179da1a771ab2427ff12295a55961c82290807"),
        ("0004_joined", "705530e4221d1fe2fc1c4d9f4645427c18776df280e1d9e06fca8f2799ae3153"),
        ("0005_in_order", "680a3752bf3c4534901deccc6f12af02d1c9a18756fa1a74dd3f3b6cc14a0261"),
        ("0006_fewer_pages", "ae8ddde9e5f01ee05570bdb1ef53b547ec76158471476c3a3756b74468150c6d"),
        ("0007_cancel_reason", "ed264f65faeb3c63d72f842b66459b269426af0bcdf3246aec0af5dde462c70a"),
        ("0008_lighter_messages", "d268a8d1587b229917dafcc90d5b3fb990b33d6f5867725d3c0f3b0715d93db6"),
        ("0009_whole_requests", "7ca7fc9e5dca95a3a28fdf939d371bccab39c5bb5efa63ae2967f6c1e666c648"),
        ("0010_agent_turns", "8a9fe02402597a5a3efc767dcad7a270ce6b769849fcf180ff8c6317d446d255"),
        ("0011_versions", "12e57058819e72030492bff0eda38435a82046190ddc0cfc283f7ca01c1ad0a3"),
        ("0012_exact_activity", "e0db60ee0a538b3349430381785f428754a71cee8cde2d88ba38b86f2facc7ff"),
        ("0013_accounts", "fe3a1f66304a66816e6de93bb68b34fb1fa4edd644b345076b93c44cbc6b3d77"),
    ];

    #[test]
    fn migrations_are_only_ever_added() {
        let found: Vec<(&str, String)> = MIGRATIONS
            .iter()
            .map(|migration| {
                let hash = Sha256::digest(migration.sql);
                (migration.name, hash.iter().map(|byte| format!("{byte:02x}")).collect())
            })
            .collect();
        let found: Vec<(&str, &str)> = found.iter().map(|(name, hash)| (*name, hash.as_str())).collect();
        assert_eq!(found, PINNED, "a migration was edited, removed or added without its hash");
    }

    #[test]
    fn every_migration_on_disk_is_listed_once_under_its_number() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/journal/migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("it can be listed").file_name().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let listed: Vec<String> = MIGRATIONS.iter().map(|one| format!("{}.sql", one.name)).collect();
        assert_eq!(files, listed);
        for (number, migration) in (1..).zip(MIGRATIONS) {
            assert!(
                migration.name.starts_with(&format!("{number:04}_")),
                "{} is out of order",
                migration.name
            );
        }
    }

    #[test]
    fn a_database_of_every_version_becomes_one_of_the_newest() {
        let mut whole = Connection::open_in_memory().expect("memory");
        migrate(&mut whole, 0).expect("it migrates");
        for from in 1..=newest() {
            let mut db = Connection::open_in_memory().expect("memory");
            for (version, migration) in (1..=from).zip(MIGRATIONS) {
                db.execute_batch(migration.sql).expect("it applies");
                db.pragma_update(None, "user_version", version).expect("a number");
            }
            db.execute_batch(ROWS).expect("rows");
            let before = rows(&db);
            assert_eq!(before.len(), 7);
            migrate(&mut db, from).expect("it migrates");
            assert_eq!(version(&db), Ok(newest()));
            assert_eq!(tables(&db), tables(&whole));
            assert_eq!(rows(&db), before, "from version {from}");
        }
    }

    #[test]
    fn the_row_of_a_chat_that_lagged_behind_its_newest_event_is_brought_up_to_date() {
        let mut db = Connection::open_in_memory().expect("memory");
        migrate_to(&mut db, 0, 10).expect("it migrates");
        db.execute_batch(
            "INSERT INTO chats (id, principal, chat_id, epoch_no, head_seq, era, last_command, agent_run, \
                 agent_position, created_at, updated_at) VALUES \
                 (1, 'owner', 'lags', 2, 4, 0, 0, 7, 30, 5, 5), (2, 'owner', 'is current', 1, 1, 0, 0, 8, 90, 5, 5); \
             INSERT INTO events (chat, epoch_no, seq, first_seq, sum, frame, agent_position) VALUES \
                 (1, 1, 9, 1, 0, '{}', 99), (1, 2, 4, 1, 0, '{}', NULL), (1, 2, 5, 5, 0, '{}', NULL), \
                 (1, 2, 6, 6, 0, '{}', 40), (2, 1, 1, 1, 0, '{}', 80);",
        )
        .expect("rows");
        migrate(&mut db, 10).expect("it migrates");
        let mut find =
            db.prepare("SELECT head_seq, agent_position, version FROM chats ORDER BY id").expect("SQL");
        let rows = find.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("rows");
        let rows: Vec<(i64, i64, i64)> = rows.map(|row| row.expect("a row")).collect();
        assert_eq!(rows, [(6, 40, 1), (1, 90, 1)]);
    }

    /// A chat with an event and a turn of each outcome, as every version can have them.
    pub(in super::super) const ROWS: &str = "\
        INSERT INTO chats (id, principal, chat_id, epoch_no, head_seq, era, last_command, created_at, updated_at) \
            VALUES (3, 'owner', 'chat', 1, 1, 0, 2, 5, 61234); \
        INSERT INTO epochs VALUES (3, 1, 'e', 5); \
        INSERT INTO events (chat, epoch_no, seq, first_seq, sum, frame) VALUES (3, 1, 1, 1, 77, '{}'); \
        INSERT INTO turns (chat, turn_id, hash, epoch_no, seq, starts_turn, accepted_at, started_at, \
            cancel_requested, ended_at, outcome, text) VALUES \
            (3, 'a', zeroblob(32), 1, 1, 1, 10, 20, 0, 30, 'completed', NULL), \
            (3, 'b', zeroblob(32), 1, 2, 0, 11, 21, 1, 31, 'cancelled', NULL), \
            (3, 'c', zeroblob(32), 1, 3, 1, 12, 22, 0, 32, 'failed', NULL), \
            (3, 'd', zeroblob(32), 1, 4, 0, 13, NULL, 0, 33, 'interrupted', NULL), \
            (3, 'e', zeroblob(32), 1, 5, 1, 14, 24, 1, NULL, NULL, 'said');";

    pub(in super::super) fn rows(db: &Connection) -> Vec<String> {
        let mut all = db
            .prepare(
                "SELECT concat_ws(' ', id, principal, chat_id, epoch_no, head_seq, era, updated_at) FROM chats \
                 UNION ALL SELECT concat_ws(' ', chat, epoch_no, seq, first_seq, sum, frame) FROM events \
                 UNION ALL SELECT concat_ws('|', chat, turn_id, hex(hash), epoch_no, seq, starts_turn, accepted_at, \
                 quote(started_at), cancel_requested, quote(ended_at), quote(outcome), quote(text)) FROM turns",
            )
            .expect("SQL");
        let rows = all.query_map([], |row| row.get(0)).expect("rows");
        let mut rows: Vec<String> = rows.map(|row| row.expect("text")).collect();
        rows.sort();
        rows
    }

    pub(in super::super) fn tables(db: &Connection) -> Vec<String> {
        let mut all =
            db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").expect("SQL");
        let rows = all.query_map([], |row| row.get(0)).expect("rows");
        rows.map(|row| row.expect("text")).collect()
    }
}
