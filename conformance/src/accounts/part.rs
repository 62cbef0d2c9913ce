//! The names of the suite's parts.

/// What a part of the suite is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Entries are changed exactly where they are as expected, and read as they were stored.
    Entries,
    /// A version is never given twice, also not to an entry that was removed in the meantime.
    Versions,
    /// Spaces, owners, and entries and counters of one name have nothing to do with each other.
    Apart,
    /// The longest names and the largest values are stored whole.
    Sizes,
    /// Counters add up in each window, also below 0 and at the bounds of their type.
    Counters,
    /// The newest windows of each period are kept, and earlier ones are forgotten.
    Windows,
    /// Pages have all entries whose names begin as asked, once and in order, and are bounded.
    Lists,
    /// Of callers that change one entry at once, one succeeds, and none of their additions is lost.
    Concurrent,
    /// A change whose answer is lost was made once or not at all.
    LostAnswers,
    /// What was answered is there after the store was opened again.
    Reopening,
}

impl Part {
    /// All parts.
    pub const ALL: &[Self] = &[
        Self::Entries,
        Self::Versions,
        Self::Apart,
        Self::Sizes,
        Self::Counters,
        Self::Windows,
        Self::Lists,
        Self::Concurrent,
        Self::LostAnswers,
        Self::Reopening,
    ];
}
