//! The codes with which connections are closed.

/// Why a connection is closed: the status code of a WebSocket close frame (RFC 6455, section 7.4), which transports
/// without close frames send as the `close` field of a last `error` event. `docs/transports.md`, "Close codes", says what
/// a client does about each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseCode {
    /// Answers the peer's own close.
    Normal,
    /// The peer did not answer a ping.
    GoingAway,
    /// The peer broke RFC 6455.
    ProtocolError,
    /// The peer sent a text frame that is not UTF-8.
    InvalidPayload,
    /// The peer did not keep to a rule, such as the rate of frames.
    PolicyViolation,
    /// A frame is longer than the limit.
    TooLarge,
    /// The gateway stops. What waits in the outbox is sent first.
    ServiceRestart,
    /// There are too many connections.
    TryAgainLater,
    /// The credentials are missing, wrong or late.
    Unauthenticated,
    /// The peer read nothing for too long.
    TooSlow,
}

impl CloseCode {
    /// All codes, by their numbers.
    pub const ALL: [Self; 10] = [
        Self::Normal,
        Self::GoingAway,
        Self::ProtocolError,
        Self::InvalidPayload,
        Self::PolicyViolation,
        Self::TooLarge,
        Self::ServiceRestart,
        Self::TryAgainLater,
        Self::Unauthenticated,
        Self::TooSlow,
    ];

    /// The number on the wire. Those from 4000 on are this protocol's own, the others are registered with IANA.
    pub const fn number(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::GoingAway => 1001,
            Self::ProtocolError => 1002,
            Self::InvalidPayload => 1007,
            Self::PolicyViolation => 1008,
            Self::TooLarge => 1009,
            Self::ServiceRestart => 1012,
            Self::TryAgainLater => 1013,
            Self::Unauthenticated => 4401,
            Self::TooSlow => 4408,
        }
    }
}
