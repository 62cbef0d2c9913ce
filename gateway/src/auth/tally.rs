//! Refusals in the log: the first refusal of a kind at once, then one line per kind and period with the count.
//! A peer that is refused a million times causes no more log lines than a peer that is refused twice.

use switchboard_runtime::Tally;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::peer::{AuthMethod, PeerAddress};

/// Why a request was refused; the log names the reason.
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
    UnauthenticatedFull,
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
        Self::UnauthenticatedFull,
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
            Self::UnauthenticatedFull => "too_many_unauthenticated",
            Self::PreAuthFull => "too_many_connections_without_credentials",
        }
    }

    /// Whether this refusal hints at a peer that guesses tokens or uses up connections; logged as a warning.
    fn is_suspicious(self) -> bool {
        matches!(self, Self::WrongToken | Self::TooManyWrong | Self::UnauthenticatedFull | Self::PreAuthFull)
    }

    fn message(self) -> &'static str {
        let of_credentials =
            matches!(self, Self::NoCredentials | Self::WrongToken | Self::Disagreeing | Self::TooManyWrong);
        if of_credentials { "authentication failed" } else { "request refused" }
    }
}

/// Per kind, the number of refusals since the last summary and the peer of the latest refusal.
#[derive(Debug, Default)]
pub(crate) struct Refusals([Tally<PeerAddress>; Kind::ALL.len()]);

impl Refusals {
    /// Counts a refusal, and logs it if it is the first of its kind in this period.
    pub(crate) fn refused(&self, kind: Kind, peer: PeerAddress, method: Option<AuthMethod>) {
        if !self.0[kind as usize].count(peer) {
            return;
        }
        let (message, reason) = (kind.message(), kind.reason());
        let method = method.map(tracing::field::display);
        if kind.is_suspicious() {
            tracing::warn!(reason, %peer, method, "{message}");
        } else {
            tracing::info!(reason, %peer, method, "{message}");
        }
    }

    /// Logs one line per kind with the number of refusals since the last summary, and resets the counts.
    pub(crate) fn sum_up(&self) {
        for kind in Kind::ALL {
            let Some((count, last_peer)) = self.0[kind as usize].take() else { continue };
            let (message, reason) = (kind.message(), kind.reason());
            if kind.is_suspicious() {
                tracing::warn!(reason, count, %last_peer, "{message}, again");
            } else {
                tracing::info!(reason, count, %last_peer, "{message}, again");
            }
        }
    }

    /// Logs a summary every [`Tally::PERIOD`] until `stop` becomes true.
    pub(crate) async fn watch(&self, mut stop: watch::Receiver<bool>) {
        let mut ticks = interval(Tally::<PeerAddress>::PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.sum_up(),
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_index_and_a_name_of_its_own() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            assert!(Kind::ALL[..index].iter().all(|other| other.reason() != kind.reason()));
        }
    }
}
