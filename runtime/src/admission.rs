//! Who may speak: what a front door knows of a peer before its first frame.

use std::{fmt, sync::Arc};

use switchboard_core::ids::Principal;

/// Turns a credential into the principal behind it.
pub trait Verifier: Send + Sync + 'static {
    /// The principal of a token, or `None` if it is wrong or has ended. Must compare in constant time.
    fn verify(&self, token: &str) -> Option<Principal>;
}

/// What a front door decided about a connection that is being opened.
///
/// Constructed by whoever checked `Host`, `Origin` and credentials, and never from the client's word. In an
/// axum application it travels as a request extension.
#[derive(Clone)]
pub enum Admission {
    /// The handshake carried a valid credential, or the door needs none.
    Verified(Principal),
    /// It carried none: the first frame must be `authenticate`, on transports that have one.
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
