//! Refused peers in the log.

use switchboard_runtime::Tally;

/// Counts refused peers by their user id, if the system named one. Whoever is refused a million times writes no more
/// into the log than somebody who is refused twice. What was not yet summed up at the end is logged when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Refused(Tally<Option<u32>>);

impl Refused {
    /// Counts a peer, and logs it if it is the first for a while.
    pub(crate) fn count(&self, uid: Option<u32>) {
        if self.0.count(uid) {
            tracing::warn!(reason = "another_user", uid, "a peer was refused");
        }
    }

    /// Waits until the peers that were refused since the last line are to be logged, and logs them.
    pub(crate) async fn sum_up_when_due(&self) {
        self.0.due().await;
        self.sum_up();
    }

    fn sum_up(&self) {
        if let Some((count, last_uid)) = self.0.take() {
            tracing::warn!(reason = "another_user", count, last_uid, "a peer was refused, again");
        }
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        self.sum_up();
    }
}
