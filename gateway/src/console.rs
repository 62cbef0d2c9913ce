//! The only module that prints to standard output and standard error, apart from the log. Printed text is for people;
//! the log is for operators.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks on these")]

use std::{
    io::{self, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

use zeroize::Zeroizing;

/// How long to wait until a message is written before the process exits.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Prints a line to standard output. Errors are ignored, as when the reader is gone.
pub(crate) fn line(text: &str) {
    raw(&format!("{text}\n"));
}

/// Prints text unchanged to standard output and flushes it.
pub(crate) fn raw(text: &str) {
    let mut out = io::stdout().lock();
    // The reader is gone: the command goes on without it.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a line to standard error.
pub(crate) fn note(text: &str) {
    let mut out = io::stderr().lock();
    // As above.
    let _ = writeln!(out, "{text}");
}

/// Prints a line to standard error and waits until it is written, for at most [`LAST_WORDS`]: the process has to exit
/// even if nobody reads.
pub(crate) fn print_before_exit(text: String) {
    let (written, is_written) = mpsc::channel();
    let print = move || {
        note(&text);
        let _ = written.send(());
    };
    // If no thread can be started, the line is not printed.
    if thread::Builder::new().spawn(print).is_ok() {
        let _ = is_written.recv_timeout(LAST_WORDS);
    }
}

/// Prints text to standard output on a separate thread, so that the caller never waits for a reader.
pub(crate) fn announce(text: Zeroizing<String>) {
    // If no thread can be started, the text is not printed.
    let _ = thread::Builder::new().name("announce".into()).spawn(move || raw(&text));
}

/// Prints a prompt to standard error, without a newline.
pub(crate) fn prompt(text: &str) {
    let mut out = io::stderr().lock();
    // As above.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
