//! Logs refused peers.

use switchboard_runtime::Tally;

/// Counts refused peers for the log, with their user id if the system reports it. A [`Tally`] bounds the number of
/// lines. Peers that were not logged yet are logged when this value is dropped.
#[derive(Debug, Default)]
pub(crate) struct Refused(Tally<Option<u32>>);

impl Refused {
    /// Counts a peer, and logs it at once if no peer was refused lately.
    pub(crate) fn count(&self, uid: Option<u32>) {
        if self.0.count(uid) {
            tracing::warn!(reason = "another_user", uid, "a peer was refused");
        }
    }

    /// Waits until the sum of refused peers is due, and logs it.
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
