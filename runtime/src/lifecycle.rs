//! Events that the engine handles before the frames of clients.

use switchboard_core::ids::ConnId;

/// Events that overtake frames. Bounded by the number of connections, each of which reports once.
#[derive(Debug)]
pub(crate) enum Lifecycle {
    Drained(ConnId),
    Shutdown,
    Leave,
}
