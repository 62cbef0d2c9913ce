//! What only the inside shows: failing disks and query plans.
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether this sync is one of those that fail.
pub(super) fn fails(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
}
