//! The state of one connection.

use alloc::{
    collections::{BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};

use super::{asked::Asked, io::ChatRef, rate::Bucket};
use crate::{
    ids::{ChatId, Epoch, Principal},
    journal::Query,
    limits::Limits,
};

/// Maximum number of outstanding pages, of history or of chats, of one connection.
const PAGES: usize = 64;

/// A connection: which chats it is attached to, and what its outbox may get.
#[derive(Debug)]
pub(super) struct Connection {
    principal: Principal,
    client_id: String,
    /// The default chat named in `ready`, and the epoch reserved for it until its first message.
    default_chat: (ChatId, Epoch),
    chats: BTreeSet<ChatRef>,
    /// Chats that the connection will be attached to once the journal has the message or `new_chat` that it sent.
    expected_chats: BTreeSet<ChatRef>,
    frames: Bucket,
    /// Frames refused in a row for their rate.
    refused_frames: u32,
    /// `WatchDrain` is not answered yet: the connection is fed nothing until then.
    watched: bool,
    /// A snapshot or a page is being fetched or sent. The next one waits, so that they do not pile up in the outbox.
    fetching: bool,
    /// The queued questions for pages that the client asked for.
    pages: VecDeque<(Query, Asked)>,
    /// The chat that was fed last. The chat after it is fed first the next time.
    last_fed: Option<ChatRef>,
    closing: bool,
    /// The client asked for its chats, and was not told of a change since.
    awaits_changes: bool,
}

impl Connection {
    pub(super) fn new(principal: Principal, client_id: String, default_chat: (ChatId, Epoch)) -> Self {
        Self {
            principal,
            client_id,
            default_chat,
            chats: BTreeSet::new(),
            expected_chats: BTreeSet::new(),
            frames: Bucket::default(),
            refused_frames: 0,
            watched: false,
            fetching: false,
            pages: VecDeque::new(),
            last_fed: None,
            closing: false,
            awaits_changes: false,
        }
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(super) fn client_id(&self) -> &String {
        &self.client_id
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Marks the connection as closing. `false`: it is already.
    pub(super) fn close(&mut self) -> bool {
        !core::mem::replace(&mut self.closing, true)
    }

    /// Counts a frame for the rate limit. After a frame within the limit, refused frames count from 0 again.
    ///
    /// # Errors
    /// If the frame is over the limit: the milliseconds until the next one is taken, and how many frames were refused
    /// in a row.
    pub(super) fn take_frame(&mut self, now_ms: u64, limits: &Limits) -> Result<(), (u64, u32)> {
        match self.frames.take(now_ms, limits.frames_per_second, 1000, limits.frames_burst) {
            Ok(()) => {
                self.refused_frames = 0;
                Ok(())
            }
            Err(wait_ms) => {
                self.refused_frames += 1;
                Err((wait_ms, self.refused_frames))
            }
        }
    }
}

/// Chats.
impl Connection {
    pub(super) fn default_chat(&self) -> &ChatId {
        &self.default_chat.0
    }

    /// The epoch that is reserved for this chat, if it is the default chat.
    pub(super) fn reserved_epoch(&self, chat: &ChatId) -> Option<Epoch> {
        (self.default_chat.0 == *chat).then(|| self.default_chat.1.clone())
    }

    /// Replaces the reserved epoch, if this is the default chat.
    pub(super) fn reserve_epoch(&mut self, chat: &ChatId, epoch: Epoch) {
        if self.default_chat.0 == *chat {
            self.default_chat.1 = epoch;
        }
    }

    /// The chats that the connection is attached to.
    pub(super) fn chats(&self) -> &BTreeSet<ChatRef> {
        &self.chats
    }

    /// Whether the connection may be attached to a further chat.
    pub(super) fn has_room(&self, limits: &Limits) -> bool {
        self.chats.len() + self.expected_chats.len() < limits.chats_per_connection
    }

    /// Whether the connection may be attached to this chat, which it is not attached to.
    pub(super) fn may_attach(&self, chat: ChatRef, limits: &Limits) -> bool {
        self.expected_chats.contains(&chat) || self.has_room(limits)
    }

    /// Counts this chat among the connection's chats already now: the connection is attached once the journal has the
    /// frame that it sent.
    pub(super) fn expect(&mut self, chat: ChatRef) {
        self.expected_chats.insert(chat);
    }

    /// Undoes [`expect`](Self::expect) once the append is answered.
    pub(super) fn stop_expecting(&mut self, chat: ChatRef) {
        self.expected_chats.remove(&chat);
    }

    pub(super) fn attach(&mut self, chat: ChatRef) {
        self.expected_chats.remove(&chat);
        self.chats.insert(chat);
    }

    pub(super) fn detach(&mut self, chat: ChatRef) {
        self.chats.remove(&chat);
    }

    /// The chats to feed, beginning after the one that was fed last.
    pub(super) fn chats_to_feed(&self) -> Vec<ChatRef> {
        let (before, after): (Vec<ChatRef>, Vec<ChatRef>) =
            self.chats.iter().partition(|chat| self.last_fed.is_some_and(|fed| **chat <= fed));
        after.into_iter().chain(before).collect()
    }

    pub(super) fn fed(&mut self, chat: ChatRef) {
        self.last_fed = Some(chat);
    }
}

/// The list of chats.
impl Connection {
    /// The client asks for its chats. It is to be told once of a change.
    pub(super) fn await_changes(&mut self) {
        self.awaits_changes = true;
    }

    /// Whether the client is to be told that its list of chats has changed. From now on it is not, until it asks again.
    pub(super) fn take_change(&mut self) -> bool {
        core::mem::take(&mut self.awaits_changes)
    }
}

/// The outbox, snapshots and pages.
impl Connection {
    /// Whether the shell is to watch the outbox from now on: it does not yet.
    pub(super) fn watch(&mut self) -> bool {
        !self.closing && !core::mem::replace(&mut self.watched, true)
    }

    /// The outbox is at most half full.
    pub(super) fn drained(&mut self) {
        self.watched = false;
    }

    /// Queues a page. `false`: too many pages wait.
    pub(super) fn queue_page(&mut self, query: Query, asked: Asked) -> bool {
        let room = self.pages.len() < PAGES;
        if room {
            self.pages.push_back((query, asked));
        }
        room
    }

    /// The next page to fetch, unless a page or a snapshot is being fetched.
    pub(super) fn next_page(&mut self) -> Option<(Query, Asked)> {
        if self.fetching {
            return None;
        }
        let page = self.pages.pop_front();
        self.fetching = page.is_some();
        page
    }

    /// Whether a page or a snapshot is being fetched or sent.
    pub(super) fn is_fetching(&self) -> bool {
        self.fetching
    }

    /// A page or a snapshot is being fetched from now on, or not any more.
    pub(super) fn set_fetching(&mut self, fetching: bool) {
        self.fetching = fetching;
    }
}
