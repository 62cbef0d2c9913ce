//! What `docs/storage.md` says of the database is so, also for a program that looks into it while it is in use.

use std::{collections::BTreeMap, fs, path::PathBuf};

use rusqlite::{Connection, OpenFlags};
use switchboard_core::{journal::Durability, wire::Outcome};

use crate::{desk::open, make::Scribe};

/// The section about the database.
fn section() -> String {
    let page: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "docs", "storage.md"].iter().collect();
    let text = fs::read_to_string(page).expect("the page");
    let start = text.find("## The database").expect("it has a section");
    let end = text[start..].find("\n## ").expect("another one follows");
    text[start..start + end].to_owned()
}

/// As the page lists them: tables, and their columns in order.
fn documented() -> BTreeMap<String, Vec<String>> {
    let names =
        |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let section = section();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        (names(cells[0])[0].clone(), names(cells[2]))
    })
    .collect()
}

fn found(db: &Connection) -> BTreeMap<String, Vec<String>> {
    let all = |sql: &str| -> Vec<String> {
        let mut statement = db.prepare(sql).expect("SQL");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.map(|row| row.expect("text")).collect()
    };
    let tables = all("SELECT name FROM sqlite_schema WHERE type = 'table'");
    let columns =
        |table: &String| all(&format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid"));
    tables.iter().map(|table| (table.clone(), columns(table))).collect()
}

#[test]
fn the_schema_is_the_one_that_is_documented() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut desk, _) = open(folder.path()).expect("it opens");
    let mut scribe = Scribe::new("owner", "chat");
    scribe.message("t", "hello").start("t").delta("t", "s", "first").end("t", Outcome::Completed);
    assert!(desk.append(scribe.append(1, Durability::Synced, 1_000)));

    // As `sqlite3 -readonly` does, while the journal is in use.
    let path = folder.path().join("journal.db");
    let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("it opens");
    assert_eq!(found(&db), documented());
    let number = |sql: &str| -> i64 { db.query_row(sql, [], |row| row.get(0)).expect("a number") };
    let version = number("PRAGMA user_version");
    assert!(section().contains(&format!("version {version} of its schema")), "version {version}");
    assert!(section().contains(&format!("0x{:08x}", number("PRAGMA application_id"))));

    // The questions on the page have answers, those of this very moment.
    let page = section();
    let sql = page.split("```sql").nth(1).and_then(|rest| rest.split("```").next()).expect("examples");
    let statements = || sql.split(';').map(str::trim).filter(|statement| statement.contains("SELECT"));
    assert_eq!(statements().count(), 3);
    let rows = |statement: &str| {
        let mut statement = db.prepare(statement).expect("SQL");
        let mut rows = statement.query([]).expect("rows");
        let mut count = 0;
        while rows.next().expect("a row").is_some() {
            count += 1;
        }
        count
    };
    assert_eq!(statements().map(rows).collect::<Vec<_>>(), [1, 1, 1]);
    scribe.message("t2", "more").start("t2").delta("t2", "s", "second").end("t2", Outcome::Completed);
    assert!(desk.append(scribe.append(2, Durability::Synced, 2_000)), "whoever looks is in nobody's way");
    assert_eq!(statements().map(rows).collect::<Vec<_>>(), [1, 2, 2]);
    let refused = db.execute("DELETE FROM chats", []).expect_err("it only reads");
    assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::ReadOnly));
}
