//! Errors for the person at the terminal.

use std::fmt;

/// An error in two sentences for a person: what happened, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    what: String,
    remedy: String,
    status: u8,
}

/// The exit status of failures that a person has to mend before a start can succeed (`EX_CONFIG` in `sysexits.h`). A
/// supervisor need not try again.
const NEEDS_A_PERSON: u8 = 78;

impl Failure {
    /// A failure with its remedy, and with exit status 1.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), status: 1 }
    }

    /// Marks a failure that a person has to mend, so that another try is of no use.
    pub(crate) fn for_a_person(self) -> Self {
        Self { status: NEEDS_A_PERSON, ..self }
    }

    /// The exit status of the process.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// A failure of a system call that the start needs.
    pub(crate) fn system(error: std::io::Error) -> Self {
        Self::new(
            format!("The system refused what the gateway needs to start: {error}."),
            "Look at the limits of this user (ulimit -a) and try again.",
        )
    }

    /// What happened, without the remedy.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to do about it.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.what, self.remedy)
    }
}

impl std::error::Error for Failure {}

/// The result of an operation whose failure is explained to a person.
pub type Result<T, E = Failure> = std::result::Result<T, E>;
