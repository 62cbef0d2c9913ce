//! Processes: how they are started, confined, stopped, and ended with all their descendants.
//!
//! An agent process inherits only the environment variables of an allow-list and no descriptors beyond 0 to 2. Its
//! working directory is the workspace. A prompt is never part of its command line.

pub(crate) mod command;
pub(crate) mod environment;
pub(crate) mod input;
pub(crate) mod lines;
pub(crate) mod mark;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod process_table;
pub(crate) mod random;
pub(crate) mod read_mode;
pub(crate) mod sandbox;
pub(crate) mod status;
pub(crate) mod stderr_tail;
pub(crate) mod stop;
pub(crate) mod sweep;
