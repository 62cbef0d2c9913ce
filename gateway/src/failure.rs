//! Errors for the person at the terminal.

use std::fmt;

/// What happened, and what to do about it. Both are sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    what: String,
    remedy: String,
}

impl Failure {
    /// A failure with its remedy.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
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
