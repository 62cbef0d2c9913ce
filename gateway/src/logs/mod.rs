//! The log: to standard error, for people or as JSON.
//!
//! This module does not filter secrets; the code that logs must not log any. Only `tracing` events are logged, and not
//! those of the `log` crate, through which libraries print frames.
//!
//! If standard error is full, closed or not read, lines of the log are lost, but nothing else is affected.

mod writer;

use std::{fs::File, io, os::fd::AsFd, panic, sync::Arc, time::Duration};

use tracing_subscriber::{
    EnvFilter, fmt,
    fmt::{
        format::Writer,
        time::{FormatTime, SystemTime},
    },
};

use crate::failure::{Failure, Result};
use writer::LossyWriter;

/// How long to wait at the end of the process for the last lines to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The environment variable with the filter, if `--log` is not given.
const VARIABLE: &str = "RUST_LOG";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Human,
    /// One JSON object per line.
    Json,
}

/// The running log. Dropping it waits briefly for the last lines to be written.
#[derive(Debug)]
#[must_use = "dropped, it ends the wait for the last lines too early"]
pub struct Log(Arc<LossyWriter>);

impl Drop for Log {
    fn drop(&mut self) {
        self.0.wait_until_written(LAST_LINES);
    }
}

/// Starts the log. `filter` is the value of `--log`; without it, the filter comes from the environment. Panic messages
/// go to the log, too.
///
/// # Errors
///
/// The filter cannot be parsed, or the system refuses a descriptor or a thread.
pub fn start(filter: Option<&str>, format: LogFormat) -> Result<Log> {
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
    // A separate descriptor, since the standard library's handle is locked during a write.
    let file = io::stderr().as_fd().try_clone_to_owned().map(File::from).map_err(Failure::system)?;
    let writer = LossyWriter::start(file, format.notice()).map_err(Failure::system)?;
    let lines = fmt().with_env_filter(filter).log_internal_errors(false).with_writer(Arc::clone(&writer));
    let started = match format {
        LogFormat::Human => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // A second gateway in one process, as in tests, uses the log of the first one.
    if started.is_ok() {
        log_panics(Arc::clone(&writer), format);
    }
    Ok(Log(writer))
}

/// Sends panic messages to the log. The standard library's hook would block if nobody reads standard error.
fn log_panics(writer: Arc<LossyWriter>, format: LogFormat) {
    panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let mut text = format!("thread {:?}: {panic}", thread.name().unwrap_or("without a name"));
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            text.push_str(&format!("\n{backtrace}"));
        }
        writer.push(format.line("ERROR", &text, None).as_bytes());
    }));
}

impl LogFormat {
    fn notice(self) -> writer::Notice {
        const LOST: &str = "lines of this log are lost: standard error did not take them";
        match self {
            Self::Human => |lost| Self::Human.line("WARN", LOST, Some(lost)),
            Self::Json => |lost| Self::Json.line("WARN", LOST, Some(lost)),
        }
    }

    /// Formats a line as `tracing` would, but without the filter; works inside of a `tracing` event as well.
    fn line(self, level: &str, text: &str, lost: Option<u64>) -> String {
        let mut time = String::new();
        // Writing to a String does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let target = module_path!();
        match (self, lost) {
            (Self::Human, None) => format!("{time} {level:>5} {target}: {text}\n"),
            (Self::Human, Some(lost)) => format!("{time} {level:>5} {target}: {text} lost={lost}\n"),
            (Self::Json, _) => {
                let mut line = serde_json::json!({
                    "timestamp": time, "level": level, "message": text, "target": target,
                });
                if let Some(lost) = lost {
                    line["lost"] = lost.into();
                }
                format!("{line}\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_lines_look_like_the_others() {
        let human = LogFormat::Human.notice()(3);
        assert!(human.contains("Z  WARN switchboard_gateway::logs: lines of this log are lost"), "{human}");
        assert!(human.ends_with(" lost=3\n") && human.lines().count() == 1, "{human}");
        let json: serde_json::Value = serde_json::from_str(&LogFormat::Json.notice()(3)).unwrap();
        assert_eq!((json["lost"].as_u64(), json["level"].as_str()), (Some(3), Some("WARN")));
        let panicked = LogFormat::Json.line("ERROR", "a\nb", None);
        assert_eq!(panicked.lines().count(), 1, "{panicked}");
    }
}
