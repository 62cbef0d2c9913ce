//! A connection pool that can be closed and opened again: after a failed sync the database is reopened.

use std::{
    ops::{Deref, DerefMut},
    sync::{Condvar, Mutex, PoisonError},
};

use rusqlite::Connection;

use super::{files::Files, locked};

/// Opens a connection of the kind that the pool contains.
type Open = fn(&Files) -> rusqlite::Result<Connection>;

#[derive(Debug)]
pub(super) struct Gate {
    files: Files,
    open: Open,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    lent: usize,
    shut: bool,
}

/// A connection that returns to the pool when it is dropped.
#[derive(Debug)]
pub(super) struct BorrowedConnection<'a> {
    gate: &'a Gate,
    db: Option<Connection>,
}

impl Gate {
    pub(super) fn new(files: Files, open: Open) -> Self {
        Self { files, open, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes a connection out of the pool, or opens a new one. Waits while the pool is closed.
    pub(super) fn lend(&self) -> rusqlite::Result<BorrowedConnection<'_>> {
        let mut state = locked(&self.state);
        while state.shut {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.lent += 1;
        let idle = state.idle.pop();
        drop(state);
        // The connection is counted already while it is being opened, so that the pool is not closed meanwhile.
        let mut lent = BorrowedConnection { gate: self, db: idle };
        if lent.db.is_none() {
            lent.db = Some((self.open)(&self.files)?);
        }
        Ok(lent)
    }

    /// Closes the pool: waits until every connection has been returned, and closes all connections. No connection is
    /// given out until `open` is called.
    pub(super) fn shut(&self) {
        let mut state = locked(&self.state);
        state.shut = true;
        while state.lent > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle.clear();
    }

    pub(super) fn open(&self) {
        locked(&self.state).shut = false;
        self.changed.notify_all();
    }
}

impl Deref for BorrowedConnection<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.db.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for BorrowedConnection<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.db.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for BorrowedConnection<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.gate.state);
        state.lent -= 1;
        state.idle.extend(self.db.take());
        drop(state);
        self.gate.changed.notify_all();
    }
}
