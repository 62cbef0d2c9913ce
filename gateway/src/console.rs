//! The only place that prints. What is printed is for people; the log is for operators.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks on these")]

use std::io::{self, Write};

/// Prints a line to standard output. A reader that has gone is no error.
pub(crate) fn line(text: &str) {
    raw(&format!("{text}\n"));
}

/// Prints text as it is to standard output, at once.
pub(crate) fn raw(text: &str) {
    let mut out = io::stdout().lock();
    // Nobody listens any more: the command goes on without.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a line to standard error.
pub(crate) fn note(text: &str) {
    let mut out = io::stderr().lock();
    // As above.
    let _ = writeln!(out, "{text}");
}

/// Asks for something on standard error, without a newline.
pub(crate) fn prompt(text: &str) {
    let mut out = io::stderr().lock();
    // As above.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
