//! Connections that have shown no credentials yet, bounded for each address and altogether. One beyond that has to show
//! them with its first request, and soon; so nobody is kept out by what others of the same address leave open.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{PeerAddress, throttle::bucket};

/// Counts the connections without credentials.
#[derive(Debug)]
pub struct PreAuth {
    per_address: usize,
    most: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// Bounded by `all`: an address without connections has no entry.
    of_address: HashMap<IpAddr, usize>,
}

impl PreAuth {
    /// So many at once of an address, and altogether.
    pub fn new(per_address: usize, most: usize) -> Arc<Self> {
        Arc::new(Self { per_address, most, counts: Mutex::default() })
    }

    /// A connection was accepted.
    pub(crate) fn accepted(self: &Arc<Self>, peer: PeerAddress) -> Arc<Unproven> {
        let permit = self.permit(bucket(peer.counted_as()));
        let hurries = AtomicBool::new(permit.is_none());
        Arc::new(Unproven { permit: Mutex::new(permit), hurries })
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

/// A place among the connections without credentials.
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

/// Goes with a connection, and with the check of its first frame, until one of its requests has shown credentials.
#[derive(Debug)]
pub(crate) struct Unproven {
    permit: Mutex<Option<Permit>>,
    hurries: AtomicBool,
}

impl Unproven {
    /// Whether there was no place for it: only a request with credentials may pass.
    pub(crate) fn hurries(&self) -> bool {
        self.hurries.load(Ordering::Relaxed)
    }

    /// It has shown credentials.
    pub(crate) fn proven(&self) {
        self.hurries.store(false, Ordering::Relaxed);
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
    fn each_address_has_so_many_and_all_together_have_so_many() {
        let counted = PreAuth::new(2, 5);
        let accept = |address| counted.accepted(from(address));
        let of_one = [accept("10.0.0.1"), accept("::ffff:10.0.0.1"), accept("10.0.0.1")];
        assert_eq!(of_one.each_ref().map(|one| one.hurries()), [false, false, true]);
        let of_a_network = [accept("2001:db8::1"), accept("2001:db8::2"), accept("2001:db8::3")];
        assert_eq!(of_a_network.each_ref().map(|one| one.hurries()), [false, false, true]);
        let others = [accept("10.0.0.2"), accept("10.0.0.3")];
        assert_eq!(others.each_ref().map(|one| one.hurries()), [false, true]);
        let local = counted.accepted(PeerAddress::Locally);
        assert!(local.hurries());
        drop(of_a_network);
        assert!(!accept("10.0.0.3").hurries());
        assert!(accept("10.0.0.1").hurries(), "its address has as many as before");
        of_one[0].proven();
        let (next, after) = (accept("10.0.0.1"), accept("10.0.0.1"));
        assert_eq!((next.hurries(), after.hurries()), (false, true));
        after.proven();
        assert!(!after.hurries(), "it has shown credentials");
        drop((of_one, others, local, next, after));
        assert!(counted.counts().of_address.is_empty(), "nothing is left of it");
        assert_eq!(counted.counts().all, 0);
    }
}
