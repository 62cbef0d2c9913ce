//! The log: to standard error, for people or as JSON.
//!
//! Nothing here keeps secrets out of it; that is the business of whoever logs. What is not ours to log stays
//! out because only `tracing` is listened to, and not the `log` crate, by which libraries print frames.

use std::io;

use tracing_subscriber::{EnvFilter, fmt};

use crate::failure::{Failure, Result};

/// The variable that says what to log if no flag does.
const VARIABLE: &str = "RUST_LOG";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Starts the log. `filter` is what `--log` says; without it the environment decides.
pub fn start(filter: Option<&str>, format: LogFormat) -> Result<()> {
    let from_environment = std::env::var(VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let (source, text) = match (filter, &from_environment) {
        (Some(text), _) => ("--log", text),
        (None, Some(text)) => (VARIABLE, text.as_str()),
        (None, None) => ("--log", "info"),
    };
    let filter = EnvFilter::builder().parse(text).map_err(|error| {
        Failure::new(
            format!("{source} is {text:?}, which it cannot be: {error}."),
            "Give error, warn, info, debug, trace or off, or a list such as info,switchboard_runtime=debug.",
        )
    })?;
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match format {
        LogFormat::Human => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // A second gateway in one process, as in tests, logs where the first one does.
    started.or(Ok(()))
}
