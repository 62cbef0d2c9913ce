//! Entries: small values, changed by compare-and-set.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::fmt;

use bytes::Bytes;

use crate::{
    ids::{InvalidId, Principal},
    journal::Durability,
};

/// The longest name of an entry or a counter, in bytes.
pub const LONGEST_NAME: usize = 256;
/// The largest value of an entry, in bytes.
pub const LONGEST_VALUE: usize = 64 * 1024;
/// The most entries of a page, whatever the query asks for.
pub const PAGE_ENTRIES: usize = 1_000;
/// A page ends with the entry whose value reaches this many bytes in all.
pub const PAGE_BYTES: usize = 1024 * 1024;

/// What an entry is for. Entries of different spaces have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Tokens, by their hashes. Their owner is the one who runs the gateway, [`Principal::owner`], because a token is
    /// looked up before it is known whose it is.
    Tokens,
    /// Credentials from outside that are valid no more, by their ids. The owner is the one who runs the gateway.
    Revocations,
    /// Limits of what a principal may use.
    Budgets,
    /// Chats that a principal has pinned, by their ids.
    Pins,
    /// How far a principal has read each chat, by the chats' ids.
    ReadMarks,
    /// Where a principal gets push notifications.
    PushSubscriptions,
    /// Who did what, by time. The owner is the one who runs the gateway.
    Audit,
}

impl Space {
    /// All spaces.
    pub const ALL: &[Self] = &[
        Self::Tokens,
        Self::Revocations,
        Self::Budgets,
        Self::Pins,
        Self::ReadMarks,
        Self::PushSubscriptions,
        Self::Audit,
    ];

    /// The name under which stores have the space.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Revocations => "revocations",
            Self::Budgets => "budgets",
            Self::Pins => "pins",
            Self::ReadMarks => "read_marks",
            Self::PushSubscriptions => "push_subscriptions",
            Self::Audit => "audit",
        }
    }
}

/// The name of an entry or counter: 1 to [`LONGEST_NAME`] bytes without control characters. Names are ordered by their
/// UTF-8 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryName(Arc<str>);

impl EntryName {
    /// Parses a name.
    ///
    /// # Errors
    /// If the text is empty, too long, or has a control character.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let is_valid = (1..=LONGEST_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
        if is_valid { Ok(Self(text.into())) } else { Err(InvalidId("invalid name of an entry")) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Identifies an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    /// What the entry is for.
    pub space: Space,
    /// Whose entry it is.
    pub owner: Principal,
    /// The entry's name, unique among the entries of the space and the owner.
    pub name: EntryName,
}

/// The contents of an entry: at most [`LONGEST_VALUE`] bytes, which the store does not interpret.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryValue(Bytes);

impl EntryValue {
    /// Checks the size of a value. `None`: it is too large.
    pub fn new(bytes: impl Into<Bytes>) -> Option<Self> {
        let bytes = bytes.into();
        (bytes.len() <= LONGEST_VALUE).then_some(Self(bytes))
    }

    /// The value's bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Prints the length only: values do not belong in the gateway's own log.
impl fmt::Debug for EntryValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Identifies what an entry contained at one time. A store gives each version once: it is larger than all versions of
/// the store before it, also where the entry was removed in the meantime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryVersion(pub u64);

/// A stored entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The version, which a later [`CompareAndSet`] expects.
    pub version: EntryVersion,
    /// The contents.
    pub value: EntryValue,
}

/// A change of one entry, made only if the entry is still as expected.
#[derive(Debug, Clone)]
pub struct CompareAndSet {
    /// The entry.
    pub key: EntryKey,
    /// The version that the entry must have; none: there must be no such entry.
    pub expect: Option<EntryVersion>,
    /// The contents from now on; none: the entry is removed.
    pub value: Option<EntryValue>,
    /// What the change must survive before it is answered.
    pub durability: Durability,
}

/// What became of a [`CompareAndSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The entry has the value, under this version.
    Stored(EntryVersion),
    /// There is no such entry now.
    Removed,
    /// The entry is not as expected, and was not changed. The version that it has; none: there is no such entry.
    Conflict(Option<EntryVersion>),
}

/// A question for the entries of one space and owner whose names begin alike.
#[derive(Debug, Clone)]
pub struct EntryQuery {
    /// What the entries are for.
    pub space: Space,
    /// Whose entries.
    pub owner: Principal,
    /// How the names begin; may be empty.
    pub prefix: String,
    /// The [`next`](EntryPage::next) of the page before; none for the first page.
    pub after: Option<EntryName>,
    /// The most entries of the page. [`PAGE_ENTRIES`] and [`PAGE_BYTES`] bound it as well.
    pub limit: usize,
}

/// A page of entries, ordered by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryPage {
    /// The entries with their names.
    pub entries: Vec<(EntryName, Entry)>,
    /// The last name of this page, if more entries follow.
    pub next: Option<EntryName>,
}

impl EntryPage {
    /// Makes a page of what a store finds: the entries that `query` asks for, in order and from the first one on. Takes
    /// no more of them than it needs.
    ///
    /// # Errors
    /// The first error of the store.
    pub fn collect<E>(
        query: &EntryQuery,
        found: impl IntoIterator<Item = Result<(EntryName, Entry), E>>,
    ) -> Result<Self, E> {
        let (mut page, mut bytes) = (Self::default(), 0);
        for one in found {
            let (name, entry) = one?;
            if !name.as_str().starts_with(query.prefix.as_str()) {
                break;
            }
            if page.entries.len() >= query.limit.min(PAGE_ENTRIES) || bytes >= PAGE_BYTES {
                page.next = page.entries.last().map(|(name, _)| name.clone());
                break;
            }
            bytes += entry.value.bytes().len();
            page.entries.push((name, entry));
        }
        Ok(page)
    }
}
