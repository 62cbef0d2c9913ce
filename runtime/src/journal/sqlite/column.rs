//! Values in columns of the database, and the types that they stand for.

use std::io;

use bytes::Bytes;
use rusqlite::{Row, types::Type};
use serde::de::DeserializeOwned;
use switchboard_core::{ids::InvalidId, wire::Frame};

use super::leb128;

/// SQLite's integers are signed; no counter or time exceeds their range.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The length of each delta of a merged record; `None`: the event is not merged.
pub(super) fn lengths_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Vec<u32>>> {
    let Some(bytes) = row.get_ref(column)?.as_blob_or_null()? else { return Ok(None) };
    leb128::decode(bytes).map(Some).ok_or_else(|| damaged(column))
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

pub(super) fn id<T>(
    row: &Row<'_>,
    column: usize,
    parse: impl Fn(&str) -> Result<T, InvalidId>,
) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    parse(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// The frame of an event, in the column after its checksum. Fails if they do not match.
pub(super) fn event_frame(row: &Row<'_>, sum: usize) -> rusqlite::Result<Frame> {
    let frame = frame(row, sum + 1)?;
    let expected: u32 = row.get(sum)?;
    if crc32fast::hash(frame.bytes()) == expected { Ok(frame) } else { Err(damaged(sum + 1)) }
}

/// Text that is no frame was damaged on the disk, and must not be published.
pub(super) fn frame(row: &Row<'_>, column: usize) -> rusqlite::Result<Frame> {
    let json = Bytes::copy_from_slice(row.get_ref(column)?.as_bytes()?);
    Frame::new(json).ok_or_else(|| damaged(column))
}

pub(super) fn damaged(column: usize) -> rusqlite::Error {
    let error = io::Error::other("an event is damaged");
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

pub(super) fn json<T: DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}
