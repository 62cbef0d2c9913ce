//! The journal on SQLite, held to the model, to crashes, to damage and to full disks.
//!
//! `SWITCHBOARD_SEED` repeats a run; `SWITCHBOARD_CRASH_SECONDS` (default 5) is how long processes are killed.

#![cfg(feature = "sqlite")]
#![allow(unreachable_pub, reason = "modules of one test")]

mod accounts;
mod backup;
mod chats;
mod crash;
mod damage;
mod damaged_chat;
mod deletion;
mod documented;
mod full;
mod joined;
mod lost_files;
mod model;
mod opening;
mod room;
mod salvage;
mod support;

use support::{desk, make};
// The tests inside find these in the crate's root, too.
use switchboard_runtime::{
    Answers, Journal, OpenError, OpenJournal, OpenReport, OpenSqlite, Request, Sqlite, SqliteOptions,
};
