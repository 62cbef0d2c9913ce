//! What the tests of the hub share: a trace language, and a world around a bare hub.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]
#![allow(clippy::print_stderr, reason = "asked for, to look into a run")]

pub mod script;
pub mod world;

pub use switchboard_conformance::{journal_model as journal, trace, translate as meaning};
