//! Refusals in the log: the first of a kind at once, then one line per kind and period that says how many there were.
//! Whoever is refused a million times writes no more into the log than somebody who is refused twice.

use std::{
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{Came, Way};

/// How often refusals are summed up.
const PERIOD: Duration = Duration::from_secs(10);

/// What is refused, as the log names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Version,
    Form,
    HostMissing,
    HostRepeated,
    HostForeign,
    OriginForeign,
    SiteForeign,
    NoCredentials,
    WrongToken,
    Disagreeing,
    TooManyWrong,
    LobbyFull,
    PreAuthFull,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Version,
        Self::Form,
        Self::HostMissing,
        Self::HostRepeated,
        Self::HostForeign,
        Self::OriginForeign,
        Self::SiteForeign,
        Self::NoCredentials,
        Self::WrongToken,
        Self::Disagreeing,
        Self::TooManyWrong,
        Self::LobbyFull,
        Self::PreAuthFull,
    ];

    fn reason(self) -> &'static str {
        match self {
            Self::Version => "http_version",
            Self::Form => "request_form",
            Self::HostMissing => "host_missing",
            Self::HostRepeated => "host_repeated",
            Self::HostForeign => "host_foreign",
            Self::OriginForeign => "origin_foreign",
            Self::SiteForeign => "site_foreign",
            Self::NoCredentials => "no_credentials",
            Self::WrongToken => "wrong_token",
            Self::Disagreeing => "credentials_disagree",
            Self::TooManyWrong => "too_many_wrong_tokens",
            Self::LobbyFull => "too_many_unauthenticated",
            Self::PreAuthFull => "too_many_connections_without_credentials",
        }
    }

    /// Somebody guesses, or keeps others out.
    fn is_suspicious(self) -> bool {
        matches!(self, Self::WrongToken | Self::TooManyWrong | Self::LobbyFull | Self::PreAuthFull)
    }

    fn message(self) -> &'static str {
        let of_credentials =
            matches!(self, Self::NoCredentials | Self::WrongToken | Self::Disagreeing | Self::TooManyWrong);
        if of_credentials { "authentication failed" } else { "request refused" }
    }
}

/// Refusals since they were last summed up.
#[derive(Debug, Default)]
pub(crate) struct Tally([Mutex<Count>; Kind::ALL.len()]);

/// Of one kind.
#[derive(Debug, Default)]
struct Count {
    /// The log has a line about this kind already, of this period or the one before.
    is_known: bool,
    /// How many the log does not know of, and where the last of them came from.
    further: Option<(u64, Came)>,
}

impl Tally {
    /// Counts a refusal, and logs it if it is the first of its kind for a while.
    pub(crate) fn refused(&self, kind: Kind, peer: Came, way: Option<Way>) {
        if !self.count(kind, peer) {
            return;
        }
        let (message, reason) = (kind.message(), kind.reason());
        let way = way.map(tracing::field::display);
        if kind.is_suspicious() {
            tracing::warn!(reason, %peer, way, "{message}");
        } else {
            tracing::info!(reason, %peer, way, "{message}");
        }
    }

    /// Logs how many of each kind there were since the last time.
    pub(crate) fn sum_up(&self) {
        for (kind, count, last_peer) in self.take() {
            let (message, reason) = (kind.message(), kind.reason());
            if kind.is_suspicious() {
                tracing::warn!(reason, count, %last_peer, "{message}, again");
            } else {
                tracing::info!(reason, count, %last_peer, "{message}, again");
            }
        }
    }

    /// Sums up every [`PERIOD`] until `stop` becomes true.
    pub(crate) async fn watch(&self, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.sum_up(),
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// True if it is the first for a while.
    fn count(&self, kind: Kind, peer: Came) -> bool {
        let mut count = self.0[kind as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if !mem::replace(&mut count.is_known, true) {
            return true;
        }
        let before = count.further.map_or(0, |(n, _)| n);
        count.further = Some((before.saturating_add(1), peer));
        false
    }

    /// A kind of which there were no more is told at once the next time.
    fn take(&self) -> Vec<(Kind, u64, Came)> {
        let of_kind = |kind: Kind| {
            let mut count = self.0[kind as usize].lock().unwrap_or_else(PoisonError::into_inner);
            let further = count.further.take();
            count.is_known = further.is_some();
            further.map(|(n, last)| (kind, n, last))
        };
        Kind::ALL.into_iter().filter_map(of_kind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_are_counted() {
        let tally = Tally::default();
        let from = |n: u32| Came::From(std::net::IpAddr::V4(n.into()));
        assert!(tally.count(Kind::WrongToken, from(1)));
        assert!(tally.count(Kind::HostForeign, from(1)), "kinds are told apart");
        for n in 0..1000 {
            assert!(!tally.count(Kind::WrongToken, from(n)));
        }
        assert_eq!(tally.take(), [(Kind::WrongToken, 1000, from(999))]);
        assert!(!tally.count(Kind::WrongToken, from(1)), "it goes on");
        assert!(tally.count(Kind::HostForeign, from(1)), "it was quiet for a period");
        assert_eq!(tally.take(), [(Kind::WrongToken, 1, from(1))]);
        assert_eq!(tally.take(), []);
        assert!(tally.count(Kind::WrongToken, from(1)));
    }

    #[test]
    fn every_kind_has_a_place_and_a_name_of_its_own() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            assert!(Kind::ALL[..place].iter().all(|other| other.reason() != kind.reason()));
        }
    }
}
