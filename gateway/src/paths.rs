//! The paths of the HTTP endpoints, below the base path.

/// WebSocket.
pub(crate) const WS: &str = "/ws";
/// WebSocket, for clients of the older wire vocabulary.
pub(crate) const WS_OLDER: &str = "/ws/";
/// The stream of server-sent events.
pub(crate) const SSE: &str = "/sse";
/// POSTs of the clients of such a stream.
pub(crate) const MESSAGES: &str = "/messages";
/// Whether the process lives.
pub(crate) const HEALTH: &str = "/healthz";
/// Whether the gateway accepts new clients.
pub(crate) const READY: &str = "/readyz";
