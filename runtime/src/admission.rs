//! How a transport learns which principal is on a new connection.

use std::{fmt, sync::Arc};

use switchboard_core::ids::Principal;

/// Checks tokens.
pub trait Verifier: Send + Sync + 'static {
    /// The principal that a token belongs to, or `None` if the token is wrong or has expired. Implementations must
    /// compare in constant time.
    fn verify(&self, token: &str) -> Option<Principal>;
}

/// The outcome of the authentication of a connection that is being opened.
///
/// Made by the code that checked `Host`, `Origin` and the credentials, never from anything that the client claims. In
/// an axum application it is a request extension.
#[derive(Clone)]
pub enum Admission {
    /// The handshake carried a valid credential, or the listener requires none.
    Verified(Principal),
    /// The handshake carried no credential: the first frame must be `authenticate`, on transports that have that
    /// frame.
    FirstFrame(Arc<dyn Verifier>),
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified(principal) => f.debug_tuple("Verified").field(principal).finish(),
            Self::FirstFrame(_) => f.write_str("FirstFrame"),
        }
    }
}
