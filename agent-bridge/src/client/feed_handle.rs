//! What an instance shares with its feed, which is a task of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::awaited::Awaited;
use crate::{exec::read_mode::ReadMode, session::RecordDecoder};

/// Progress of a feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Incremented whenever the instance should review the decoder's state.
    pub(super) notable: u64,
    /// The events of all records up to this position have been sent.
    pub(super) sent: u64,
    /// Whether everything was sent that the spool had when the host was found.
    pub(super) caught_up: bool,
    /// Whether the host has ended its agent.
    pub(super) ended: bool,
}

/// What an instance shares with its feed.
pub(super) struct FeedHandle {
    pub(super) decoder: Arc<Mutex<RecordDecoder>>,
    /// Always locked before the decoder.
    pub(super) awaited: Arc<Mutex<Awaited>>,
    /// Whether events are wanted. The feed drops them when this is dropped.
    pub(super) mode: watch::Sender<ReadMode>,
    pub(super) progressed: watch::Receiver<Progress>,
}

impl FeedHandle {
    pub(super) fn decoder(&self) -> MutexGuard<'_, RecordDecoder> {
        lock(&self.decoder)
    }

    /// Makes the message for a command. The caller must send it before another one is made, and must not have locked the
    /// decoder.
    pub(super) fn awaited(&self) -> MutexGuard<'_, Awaited> {
        lock(&self.awaited)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
