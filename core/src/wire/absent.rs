//! Which values are left out of a frame.

/// A flag that is not set is left out.
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}
