//! The effects that a session asks the client to carry out.

use switchboard_core::{
    ids::{ChatId, TurnId},
    wire::{ChatEvent, Resolution},
};

use super::{frames::Summary, unsent::Unsent};

/// An effect outside the session. Effects are carried out in the order in which the session gives them.
#[derive(Debug)]
pub(super) enum Effect {
    /// Send this frame.
    Send(String),
    /// Draw an event of the chat. `own`: the event belongs to a turn of this client. `permission`: how the request for the
    /// tool use was closed that the event ends.
    Print { event: Box<ChatEvent>, own: bool, permission: Option<Resolution> },
    /// Say that the following events replace those on the screen: the gateway could not replay from the cursor.
    Replaced,
    /// Forget what was printed of the chat: what follows is another one's.
    LeftChat,
    /// Print a line for the person.
    Note(String),
    /// Draw a page of a request, and call [`Session::handle_armed`] after the arming delay.
    DrawRequest(Vec<String>),
    /// Draw this prompt, drop input typed before it, and call [`Session::handle_prompted`].
    Prompt(String),
    /// Store this message on disk until it is accepted or given up.
    Store(Unsent),
    /// Remove the stored message of this turn: it was accepted or given up.
    Forget(TurnId),
    /// Print a page of the list of chats. `open`: the chat on this screen.
    List { chats: Vec<Summary>, open: Option<ChatId> },
    /// Call [`Session::flush`] after this many milliseconds.
    RetryAfter(u64),
    /// End the program with this exit status.
    Quit(u8),
}
