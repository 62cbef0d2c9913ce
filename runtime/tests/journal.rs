//! The journal on SQLite, held to the model, to crashes, to damage and to full disks.
//!
//! `SWITCHBOARD_SEED` repeats a run; `SWITCHBOARD_CRASH_SECONDS` (default 5) is how long processes are killed.

#![cfg(feature = "sqlite")]
#![allow(unreachable_pub, reason = "modules of one test")]

#[path = "journal/backup.rs"]
mod backup;
#[path = "journal/crash.rs"]
mod crash;
#[path = "journal/damage.rs"]
mod damage;
#[path = "journal/damaged_chat.rs"]
mod damaged_chat;
#[path = "journal/deletion.rs"]
mod deletion;
#[path = "journal/desk.rs"]
mod desk;
#[path = "journal/documented.rs"]
mod documented;
#[path = "journal/full.rs"]
mod full;
#[path = "journal/joined.rs"]
mod joined;
#[path = "journal/lost_files.rs"]
mod lost_files;
#[path = "journal/make.rs"]
mod make;
#[path = "journal/model.rs"]
mod model;
#[path = "journal/opening.rs"]
mod opening;
#[path = "journal/room.rs"]
mod room;
#[path = "journal/salvage.rs"]
mod salvage;

// The desk is shared with the tests inside, where these are in the crate's root.
use switchboard_runtime::{
    Answers, Journal, OpenError, OpenJournal, OpenReport, OpenSqlite, Request, Sqlite, SqliteOptions,
};
