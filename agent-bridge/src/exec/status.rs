//! Puts exit statuses into words.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

/// Describes how a process ended, as part of a sentence.
pub(crate) fn how_it_ended(status: Option<ExitStatus>) -> String {
    describe_end(status.and_then(|status| status.code()), status.and_then(|status| status.signal()))
}

/// Describes how a process ended, by its exit status or the signal that ended it, as part of a sentence.
pub(crate) fn describe_end(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "went away".into(),
    }
}
