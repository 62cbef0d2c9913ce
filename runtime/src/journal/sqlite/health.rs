//! Whether the journal can be written and read, reported to monitoring and to connected clients.

use std::{
    fmt::Display,
    sync::Mutex,
    time::{Duration, Instant},
};

use rusqlite::ErrorCode;

use super::mutex::locked;
use crate::journal::Answers;

/// How often writing and reading are tried again after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// The state of writing and of reading.
#[derive(Debug)]
pub(super) struct Health {
    answers: Answers,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Why the journal cannot be written.
    writing: Option<Fault>,
    /// Why the journal cannot be read.
    reading: Option<Fault>,
}

#[derive(Debug)]
struct Fault {
    full: bool,
    text: String,
    try_at: Instant,
}

impl Health {
    pub(super) fn new(answers: Answers) -> Self {
        Self { answers, state: Mutex::default() }
    }

    /// Reports the state to the gateway.
    fn report(&self, state: &State) {
        let fault = state.writing.as_ref().or(state.reading.as_ref());
        self.answers.degraded(fault.map(|fault| fault.text.clone()));
    }

    /// Records that a write failed.
    pub(super) fn failed(&self, error: &rusqlite::Error) {
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        self.write_failed(full, error);
    }

    /// Records that a write, a sync or a reopening failed.
    pub(super) fn write_failed(&self, full: bool, error: &dyn Display) {
        let mut state = locked(&self.state);
        let try_at = Instant::now() + AGAIN;
        if let Some(fault) = state.writing.as_mut().filter(|fault| fault.full == full) {
            fault.try_at = try_at;
            return;
        }
        let text = if full {
            "the disk is full, so what is sent is refused: make room where the data directory is".to_owned()
        } else {
            format!(
                "the journal cannot be written ({error}), so what is sent is refused: look at the disk of the data \
                 directory"
            )
        };
        tracing::error!("{text}");
        state.writing = Some(Fault { full, text, try_at });
        self.report(&state);
    }

    /// Records that nothing can be read from the disk.
    pub(super) fn unreadable(&self, error: &dyn Display) {
        let mut state = locked(&self.state);
        let try_at = Instant::now() + AGAIN;
        if let Some(fault) = &mut state.reading {
            fault.try_at = try_at;
            return;
        }
        let text = format!(
            "the journal cannot be read ({error}), so chats cannot be opened: look at the disk of the data directory"
        );
        tracing::error!("{text}");
        state.reading = Some(Fault { full: false, text, try_at });
        self.report(&state);
    }

    /// Records that a write succeeded.
    pub(super) fn written(&self) {
        let mut state = locked(&self.state);
        if state.writing.take().is_some() {
            tracing::info!("the journal can be written again");
            self.report(&state);
        }
    }

    /// When the next retry is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let state = locked(&self.state);
        [&state.writing, &state.reading].into_iter().flatten().map(|fault| fault.try_at).min()
    }

    /// What is to be tried again now: writing, and whether the disk was full when it failed; reading.
    pub(super) fn take_due(&self) -> (Option<bool>, bool) {
        let now = Instant::now();
        let mut state = locked(&self.state);
        let due = |fault: &mut Option<Fault>| {
            let fault = fault.as_mut().filter(|fault| fault.try_at <= now)?;
            fault.try_at = now + AGAIN;
            Some(fault.full)
        };
        (due(&mut state.writing), due(&mut state.reading).is_some())
    }

    /// Records that a read from the disk succeeded.
    pub(super) fn readable(&self) {
        let mut state = locked(&self.state);
        state.reading = None;
        tracing::info!("the journal can be read again");
        self.report(&state);
    }
}
