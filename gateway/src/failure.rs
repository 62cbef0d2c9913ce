//! Errors for the person at the terminal.

use std::fmt;

/// What happened, and what to do about it. Both are sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    what: String,
    remedy: String,
    status: u8,
}

/// What has to be put right by a person before a start can succeed (`sysexits.h`: `EX_CONFIG`). A supervisor need not try
/// again.
const NEEDS_A_PERSON: u8 = 78;

impl Failure {
    /// A failure with its remedy.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), status: 1 }
    }

    /// The same, which no further try changes.
    pub(crate) fn for_a_person(self) -> Self {
        Self { status: NEEDS_A_PERSON, ..self }
    }

    /// The status that the process ends with.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// The system refuses what a start needs.
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

/// The result of what can fail for a reason that a person can do something about.
pub type Result<T, E = Failure> = std::result::Result<T, E>;
