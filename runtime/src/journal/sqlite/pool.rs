//! A connection pool that can be closed and opened again: after a failed sync the database is reopened.

use std::{
    ops::{Deref, DerefMut},
    sync::{Condvar, Mutex, PoisonError},
};

use rusqlite::Connection;

use super::{files::Files, mutex::locked};

/// Opens a connection of the kind that the pool contains.
type Open = fn(&Files) -> rusqlite::Result<Connection>;

#[derive(Debug)]
pub(super) struct ConnectionPool {
    files: Files,
    open: Open,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    /// How many connections are in use or being opened.
    in_use: usize,
    closed: bool,
}

/// A connection that returns to the pool when it is dropped.
#[derive(Debug)]
pub(super) struct PooledConnection<'a> {
    pool: &'a ConnectionPool,
    db: Option<Connection>,
}

impl ConnectionPool {
    pub(super) fn new(files: Files, open: Open) -> Self {
        Self { files, open, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes a connection out of the pool, or opens a new one. Waits while the pool is closed.
    pub(super) fn get(&self) -> rusqlite::Result<PooledConnection<'_>> {
        let mut state = locked(&self.state);
        while state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.in_use += 1;
        let idle = state.idle.pop();
        drop(state);
        // The connection is counted already while it is being opened, so that the pool is not closed meanwhile.
        let mut connection = PooledConnection { pool: self, db: idle };
        if connection.db.is_none() {
            connection.db = Some((self.open)(&self.files)?);
        }
        Ok(connection)
    }

    /// Closes the pool: waits until every connection has been returned, and closes all connections. No connection is
    /// given out until [`reopen`](Self::reopen) is called.
    pub(super) fn close(&self) {
        let mut state = locked(&self.state);
        state.closed = true;
        while state.in_use > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle.clear();
    }

    /// Gives out connections again.
    pub(super) fn reopen(&self) {
        locked(&self.state).closed = false;
        self.changed.notify_all();
    }
}

impl Deref for PooledConnection<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.db.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for PooledConnection<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.db.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.pool.state);
        state.in_use -= 1;
        state.idle.extend(self.db.take());
        drop(state);
        self.pool.changed.notify_all();
    }
}
