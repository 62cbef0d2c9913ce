//! Who is at the other end of a connection, and how a request shows it.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// The peer of a request's connection, used for counts and logs; it gives no authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddress {
    /// A TCP peer with this address.
    From(IpAddr),
    /// A peer on a Unix socket, most likely a reverse proxy.
    Locally,
}

impl PeerAddress {
    /// The key under which wrong tokens are counted; all peers on Unix sockets share one key.
    pub(super) fn counted_as(self) -> IpAddr {
        match self {
            Self::From(address) => address.to_canonical(),
            Self::Locally => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(address) => address.fmt(f),
            Self::Locally => f.write_str("unix"),
        }
    }
}

/// How a request carried its credentials; logged.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AuthMethod {
    Bearer,
    Query,
    FirstFrame,
    NoAuth,
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer => "bearer",
            Self::Query => "query",
            Self::FirstFrame => "first_frame",
            Self::NoAuth => "no_auth",
        })
    }
}
