//! The version of a chat.

/// The number of appends that a journal has committed for a chat, in all its epochs. 0: there is no such chat.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The version after one more append.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
