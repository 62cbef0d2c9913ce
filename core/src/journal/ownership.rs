//! Which gateway may append to a chat.

/// Numbers the owners of a chat in the order in which the journal granted the chat to them. The journal counts the
/// terms and takes them from no clock, so that of two owners it is certain which one came later.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// The journal's permission to append to a chat. An append names the term, and is a
/// [`Conflict::Fenced`](super::Conflict::Fenced) once the journal has granted the chat under a newer term.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The term of the new owner.
    pub term: Term,
    /// The time until which no other gateway gets the chat, on the clock of
    /// [`Moment::boot_ms`](crate::Moment::boot_ms). `None`: for ever.
    pub until_ms: Option<u64>,
}

impl Grant {
    /// A grant that never ends.
    pub fn for_ever(term: Term) -> Self {
        Self { term, until_ms: None }
    }
}
