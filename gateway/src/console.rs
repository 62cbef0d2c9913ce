//! The only place that prints. What is printed is for people; the log is for operators.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks on these")]

use std::{
    io::{self, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

use zeroize::Zeroizing;

/// The last words of a program wait this long for a reader.
const LAST_WORDS: Duration = Duration::from_secs(1);

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

/// Prints a line to standard error and waits until it is written, but not for long: the program is to end also where
/// nobody reads.
pub(crate) fn print_before_exit(text: String) {
    let (written, is_written) = mpsc::channel();
    let print = move || {
        note(&text);
        let _ = written.send(());
    };
    // Without threads there are no words either.
    if thread::Builder::new().spawn(print).is_ok() {
        let _ = is_written.recv_timeout(LAST_WORDS);
    }
}

/// Prints text to standard output, whenever somebody reads it.
pub(crate) fn announce(text: Zeroizing<String>) {
    // A gateway without threads has other worries.
    let _ = thread::Builder::new().name("announce".into()).spawn(move || raw(&text));
}

/// Asks for something on standard error, without a newline.
pub(crate) fn prompt(text: &str) {
    let mut out = io::stderr().lock();
    // As above.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
