//! What a conversation wants done.

use switchboard_core::{ids::TurnId, wire::ChatEvent};

use super::{frames::Summary, unsent::Unsent};

/// Something to be done outside, in this order.
#[derive(Debug)]
pub(super) enum Effect {
    /// Send this frame.
    Send(String),
    /// Show an event of the chat. `own`: it belongs to a turn of this client.
    Show { event: Box<ChatEvent>, own: bool },
    /// The event replaces what was shown: the connection could not be taken up where it ended.
    Replaced,
    /// Tell the person.
    Note(String),
    /// Draw a page of what is asked, and call [`Session::handle_armed`] after the arming time.
    Ask(Vec<String>),
    /// Draw this prompt, drop what was typed before it, and call [`Session::handle_prompted`].
    Prompt(String),
    /// Keep this message over the end of the program.
    Keep(Unsent),
    /// It is accepted, or given up.
    Forget(TurnId),
    /// Show the chats.
    List(Vec<Summary>),
    /// Call [`Session::flush`] after so many milliseconds.
    RetryAfter(u64),
    /// Nothing is left to do in this turn; the person may write.
    Idle,
    /// End, with this status.
    Quit(u8),
}
