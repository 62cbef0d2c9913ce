//! How something fails a part of a suite.

use std::fmt;

/// How what is tested fails a part of its suite.
#[derive(Debug)]
pub struct Failure<P> {
    /// The part.
    pub part: P,
    /// What was expected, and what the answer was.
    pub what: String,
}

impl<P: fmt::Debug> fmt::Display for Failure<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.part, self.what)
    }
}
