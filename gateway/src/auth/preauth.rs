//! Limits on connections that have shown no credentials yet, per address and in total. A connection over a limit is
//! still accepted, but its first request must come soon and carry credentials. Idle connections thus never lock out a
//! client with a token behind the same address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{peer::PeerAddress, throttle::bucket};

/// Counts the open connections that have shown no credentials.
#[derive(Debug)]
pub struct PreAuth {
    per_address: usize,
    most: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// Connections per address. Bounded by `all`: an address without connections has no entry.
    of_address: HashMap<IpAddr, usize>,
}

impl PreAuth {
    /// Allows `per_address` connections without credentials at once from one address, and `most` from all addresses.
    pub fn new(per_address: usize, most: usize) -> Arc<Self> {
        Arc::new(Self { per_address, most, counts: Mutex::default() })
    }

    /// Registers a newly accepted connection. The returned state belongs to the connection and its requests.
    pub(crate) fn accepted(self: &Arc<Self>, peer: PeerAddress) -> Arc<PreAuthState> {
        let permit = self.permit(bucket(peer.counted_as()));
        let must_authenticate = AtomicBool::new(permit.is_none());
        Arc::new(PreAuthState { permit: Mutex::new(permit), must_authenticate })
    }

    fn permit(self: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let mut counts = self.counts();
        if counts.all >= self.most {
            return None;
        }
        let of_address = counts.of_address.entry(address).or_default();
        if *of_address >= self.per_address {
            return None;
        }
        *of_address += 1;
        counts.all += 1;
        Some(Permit { counted: Arc::clone(self), address })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One counted connection without credentials; dropping the permit decrements the counts.
#[derive(Debug)]
struct Permit {
    counted: Arc<PreAuth>,
    address: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.counted.counts();
        counts.all -= 1;
        if let Some(of_address) = counts.of_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                counts.of_address.remove(&self.address);
            }
        }
    }
}

/// The pre-auth state of one connection. Shared by its requests and by the check of a first frame; no longer counted
/// once a request has shown credentials.
#[derive(Debug)]
pub(crate) struct PreAuthState {
    permit: Mutex<Option<Permit>>,
    must_authenticate: AtomicBool,
}

impl PreAuthState {
    /// Whether the connection is over a limit: only requests with credentials are admitted on it.
    pub(crate) fn must_authenticate(&self) -> bool {
        self.must_authenticate.load(Ordering::Relaxed)
    }

    /// Records that a request on this connection has shown credentials, and releases the connection's permit.
    pub(crate) fn mark_authenticated(&self) {
        self.must_authenticate.store(false, Ordering::Relaxed);
        drop(self.permit.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> PeerAddress {
        PeerAddress::From(address.parse().unwrap())
    }

    #[test]
    fn connections_are_limited_for_each_address_and_for_all_together() {
        let counted = PreAuth::new(2, 5);
        let accept = |address| counted.accepted(from(address));
        let of_one = [accept("10.0.0.1"), accept("::ffff:10.0.0.1"), accept("10.0.0.1")];
        assert_eq!(of_one.each_ref().map(|one| one.must_authenticate()), [false, false, true]);
        let of_a_network = [accept("2001:db8::1"), accept("2001:db8::2"), accept("2001:db8::3")];
        assert_eq!(of_a_network.each_ref().map(|one| one.must_authenticate()), [false, false, true]);
        let others = [accept("10.0.0.2"), accept("10.0.0.3")];
        assert_eq!(others.each_ref().map(|one| one.must_authenticate()), [false, true]);
        let local = counted.accepted(PeerAddress::Locally);
        assert!(local.must_authenticate());
        drop(of_a_network);
        assert!(!accept("10.0.0.3").must_authenticate());
        assert!(accept("10.0.0.1").must_authenticate(), "its address has as many as before");
        of_one[0].mark_authenticated();
        let (next, after) = (accept("10.0.0.1"), accept("10.0.0.1"));
        assert_eq!((next.must_authenticate(), after.must_authenticate()), (false, true));
        after.mark_authenticated();
        assert!(!after.must_authenticate(), "it has shown credentials");
        drop((of_one, others, local, next, after));
        assert!(counted.counts().of_address.is_empty(), "nothing is left of it");
        assert_eq!(counted.counts().all, 0);
    }
}
