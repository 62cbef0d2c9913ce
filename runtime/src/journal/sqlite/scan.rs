//! Reads a table in spite of damaged parts.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::error::is_unusable;

/// After an unreadable row, this many row ids are tried one by one; then the steps double.
const NEAR: i64 = 256;

/// Passes each readable row of a table to `each`, by row id from 1 on, and returns how many gaps could not be read.
/// The first column of a row is its id, before `columns`.
pub(super) fn rows(
    db: &Connection,
    table: &str,
    columns: &str,
    mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<u64> {
    let mut find =
        db.prepare(&format!("SELECT rowid, {columns} FROM \"{table}\" WHERE rowid >= ?1 ORDER BY rowid"))?;
    let (mut from, mut gaps) = (1, 0);
    loop {
        let mut last = None;
        let mut read = || {
            let mut rows = find.query([from])?;
            while let Some(row) = rows.next()? {
                last = Some(row.get::<_, i64>(0)?);
                each(row)?;
            }
            Ok(())
        };
        match read() {
            Err(error) if is_unusable(&error) => gaps += 1,
            read => return read.map(|()| gaps),
        }
        let bad = last.unwrap_or(from).checked_add(1);
        match bad.map(|bad| next(db, table, bad)).transpose()?.flatten() {
            Some(next) => from = next,
            None => return Ok(gaps),
        }
    }
}

/// The first row id from `from` on at which a row can be read.
fn next(db: &Connection, table: &str, from: i64) -> rusqlite::Result<Option<i64>> {
    let mut find =
        db.prepare(&format!("SELECT rowid FROM \"{table}\" WHERE rowid >= ?1 ORDER BY rowid LIMIT 1"))?;
    // `None`: the row cannot be read. `Some(None)`: no row follows.
    let mut at = |number: i64| match find.query_row([number], |row| row.get(0)).optional() {
        Err(error) if is_unusable(&error) => Ok(None),
        found => found.map(Some),
    };
    let (mut bad, mut step) = (from, 1);
    if let Some(found) = at(from)? {
        return Ok(found);
    }
    let mut good = loop {
        if bad - from >= NEAR {
            step *= 2;
        }
        let Some(number) = bad.checked_add(step) else { return Ok(None) };
        match at(number)? {
            Some(found) => break (number, found),
            None => bad = number,
        }
    };
    while good.0 - bad > 1 {
        let middle = bad + (good.0 - bad) / 2;
        match at(middle)? {
            Some(found) => good = (middle, found),
            None => bad = middle,
        }
    }
    Ok(good.1)
}

/// Passes each row of a table without row ids to `each`, as far as it can be read from either end. A row may be
/// passed twice. Returns whether some rows could not be read.
pub(super) fn both_ways(
    db: &Connection,
    table: &str,
    columns: &str,
    key: &[String],
    mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<bool> {
    let order =
        |way: &str| key.iter().map(|column| format!("\"{column}\"{way}")).collect::<Vec<_>>().join(", ");
    for way in ["", " DESC"] {
        let mut find = db.prepare(&format!("SELECT {columns} FROM \"{table}\" ORDER BY {}", order(way)))?;
        let mut read = || {
            let mut rows = find.query([])?;
            while let Some(row) = rows.next()? {
                each(row)?;
            }
            Ok(())
        };
        match read() {
            Err(error) if is_unusable(&error) => {}
            // This direction has read the whole table.
            read => return read.map(|()| way == " DESC"),
        }
    }
    Ok(true)
}
