//! The names of the suite's parts.

/// What a part of the suite is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Appends change the state of a chat as the fold of `core` does, and its log and turns likewise.
    Fold,
    /// An append is committed once, and only after the one that it expects.
    Versions,
    /// An append of an earlier owner is refused, and its questions are not answered.
    Fences,
    /// Events that do not follow, and changes of turns that are not open, are conflicts.
    Contradictions,
    /// A turn's id is accepted once, also after the turn has ended.
    TurnIds,
    /// Nothing of a deleted chat is left, and its id is not used again.
    Deletion,
    /// The appends of a chat are answered in their order.
    Order,
    /// Pages of the log, forwards and backwards, have no gap and no overlap.
    Pages,
    /// Lists of chats are ordered by activity, and say what runs and what waits.
    Lists,
    /// Chats of the same id of several principals have nothing to do with each other.
    Principals,
    /// What was answered is there after the journal was opened again.
    Reopening,
}

impl Part {
    /// All parts.
    pub const ALL: &[Self] = &[
        Self::Fold,
        Self::Versions,
        Self::Fences,
        Self::Contradictions,
        Self::TurnIds,
        Self::Deletion,
        Self::Order,
        Self::Pages,
        Self::Lists,
        Self::Principals,
        Self::Reopening,
    ];
}
