//! Waiting for conditions and for processes, always with a limit.

use std::{
    io::{Read, Write as _},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long a test waits for any single thing before it fails; far longer than a working program needs.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// How often a condition is checked.
const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until a condition holds.
///
/// # Panics
///
/// The condition does not hold within [`TIMEOUT`]; the message contains `what`.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(becomes_true(condition), "not true within {TIMEOUT:?}: {what}");
}

/// Waits until a condition holds, and returns whether it did within [`TIMEOUT`].
pub fn becomes_true(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(INTERVAL);
    }
    true
}

/// Waits for the exit of a process.
///
/// # Panics
///
/// The process does not exit within [`TIMEOUT`]; it is killed.
#[track_caller]
pub fn wait_for_exit(child: &mut Child) -> ExitStatus {
    let mut status = None;
    let exits = becomes_true(|| {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !exits {
        let _ = child.kill();
        panic!("a process did not exit within {TIMEOUT:?}");
    }
    status.unwrap()
}

/// Runs a command that exits by itself, with `input` on its standard input.
///
/// # Panics
///
/// The process does not exit within [`TIMEOUT`] after it has got its input; it is killed.
pub fn run(mut command: Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that refuses to start does not read its input.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let (stdout, stderr) = (collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap()));
    let status = wait_for_exit(&mut child);
    Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

/// Reads a pipe to its end in a thread.
fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        bytes
    })
}
