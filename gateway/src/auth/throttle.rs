//! Counts wrong tokens per address, loopback included.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Most addresses remembered at once, in two generations of equal size. When the young generation is full, it becomes
/// the old one, and the previous old generation is dropped.
const ADDRESSES: usize = 4096;
const WINDOW: Duration = Duration::from_secs(60);

/// Counts wrong tokens per address. A valid token is never throttled.
#[derive(Debug)]
pub struct Throttle {
    per_window: u32,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<IpAddr, Wrong>,
    old: HashMap<IpAddr, Wrong>,
}

#[derive(Debug)]
struct Wrong {
    since: Instant,
    count: u32,
}

impl Generations {
    fn entry(&mut self, address: IpAddr, now: Instant) -> &mut Wrong {
        if !self.young.contains_key(&address) && self.young.len() >= ADDRESSES / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        let known = self.old.remove(&address);
        self.young.entry(address).or_insert_with(|| known.unwrap_or(Wrong { since: now, count: 0 }))
    }
}

/// How to answer a wrong token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongToken {
    /// Answer that the token is wrong.
    Wrong,
    /// Answer that too many wrong tokens came from this address.
    TooMany,
}

impl Throttle {
    /// Allows `per_minute` wrong tokens per minute and address before the answer becomes `WrongToken::TooMany`.
    pub fn new(per_minute: u32) -> Self {
        Self { per_window: per_minute, generations: Mutex::default() }
    }

    /// Counts a wrong token that came from `address` at `now`.
    pub fn wrong(&self, address: IpAddr, now: Instant) -> WrongToken {
        let address = bucket(address);
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = generations.entry(address, now);
        if now.duration_since(entry.since) >= WINDOW {
            *entry = Wrong { since: now, count: 0 };
        }
        entry.count = entry.count.saturating_add(1);
        if entry.count <= self.per_window { WrongToken::Wrong } else { WrongToken::TooMany }
    }
}

/// The address under which a peer is counted. IPv4-mapped IPv6 addresses count as IPv4. IPv6 addresses count by /64
/// network, since one client usually controls all of it.
pub(super) fn bucket(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn too_many_are_too_many_until_the_minute_is_over() {
        let (throttle, start) = (Throttle::new(2), Instant::now());
        let local = address("127.0.0.1");
        let verdicts: Vec<WrongToken> = (0..5).map(|_| throttle.wrong(local, start)).collect();
        use WrongToken::{TooMany, Wrong};
        assert_eq!(verdicts, [Wrong, Wrong, TooMany, TooMany, TooMany]);
        assert_eq!(throttle.wrong(local, start + WINDOW), Wrong);
    }

    #[test]
    fn one_address_is_one_address_however_it_is_written() {
        let (throttle, now) = (Throttle::new(1), Instant::now());
        assert_eq!(throttle.wrong(address("1.2.3.4"), now), WrongToken::Wrong);
        assert_eq!(throttle.wrong(address("::ffff:1.2.3.4"), now), WrongToken::TooMany);
        assert_eq!(throttle.wrong(address("2001:db8::1"), now), WrongToken::Wrong);
        assert_eq!(throttle.wrong(address("2001:db8::ffff:2"), now), WrongToken::TooMany);
        assert_eq!(throttle.wrong(address("1.2.3.5"), now), WrongToken::Wrong);
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::new(1), Instant::now());
        for n in 0..20_000_u32 {
            throttle.wrong(IpAddr::V4(n.into()), now + Duration::from_millis(n.into()));
        }
        let generations = throttle.generations.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= ADDRESSES);
    }
}
