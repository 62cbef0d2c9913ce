//! An agent's requests to a person: permissions and questions, from the request to the answer.
//!
//! A request's id in the chat is made of a counter, which continues across restarts and epochs, and the epoch. If the
//! journal loses the counter's state, the chat gets another epoch, so an id never names two requests. The agent's own
//! id is not sent to clients. The whole input of a permission is stored with the open request, and an answer allows
//! exactly that input.

mod answers;
mod lifecycle;
mod state;

pub(super) use self::state::Requests;
