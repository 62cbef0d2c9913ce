//! How a chat is deleted.

mod lifecycle;
mod state;

pub(super) use self::state::Deletion;
