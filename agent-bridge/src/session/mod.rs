//! The life of an agent instance as a state machine without I/O: it waits for a prompt, starts a process, sees it
//! through its handshake, sends commands, resumes a session once and then begins a new one, keeps the deadlines, and
//! decides why the instance has ended.
//!
//! The machine serves both ways of running an agent: as a subprocess of the gateway and under a host. Both carry out
//! its outputs, and feed what then happens as records to its [`RecordDecoder`], which may belong to another task. To
//! drive it:
//!
//! 1. [`Session::handle`] an [`Input`], with the time and the decoder. After new records, and when the time of
//!    [`Session::deadline`] has come, the input is [`Input::Progress`].
//! 2. Carry out all outputs of [`Session::poll_output`], in order.
//! 3. Wait for the next command, the next record or the deadline, and begin again.
//!
//! A command of an [`Output::Command`] counts as delivered when its record is decoded. Until then it may be lost, and
//! the machine does not send it twice.

pub(crate) mod backoff;
pub(crate) mod decoder;
mod end;
mod io;
mod machine;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    decoder::{DecodedBatch, Record, RecordDecoder, SessionState},
    end::{End, SessionConfig, gone, start_failed},
    io::{Input, Output},
    machine::Session,
};
