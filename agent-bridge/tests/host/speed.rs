//! What a host costs, beside a process of the gateway's own. Prints; asserts only what no machine should miss.

use std::{sync::Arc, time::Instant};

use libtest_mimic::Trial;
use switchboard_agent_bridge::{ProcessAgent, ProcessConfig};

use crate::{bench::Bench, support, trial};

#[allow(clippy::print_stderr, reason = "figures are of use only where they can be read")]
pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("a_host_costs_little", |place| async move {
        const DELTAS: usize = 100_000;
        let config = place.demo();
        // The same seed would give both the same mark, and the one's end would sweep the other.
        let alone = ProcessConfig { mark_prefix: format!("{}-alone", place.mark), ..config.process.clone() };
        let mut direct = support::Bench::begin(Arc::new(ProcessAgent::new(alone)), None);
        let mut hosted = Bench::begin(config);
        let began = Instant::now();
        direct.said("fast 100").await;
        let without = began.elapsed();
        let began = Instant::now();
        hosted.said("fast 100").await;
        eprintln!("the first turn: {without:?} without a host, {:?} with one", began.elapsed());
        let prompt = format!("fast {DELTAS}");
        let began = Instant::now();
        direct.said(&prompt).await;
        let without = began.elapsed();
        let began = Instant::now();
        hosted.said(&prompt).await;
        let with = began.elapsed();
        eprintln!("{DELTAS} deltas: {without:?} without a host, {with:?} with one");

        let mut trips = Vec::new();
        for _ in 0..50 {
            let began = Instant::now();
            direct.said("fast 1").await;
            let without = began.elapsed();
            let began = Instant::now();
            hosted.said("fast 1").await;
            trips.push((without, began.elapsed()));
        }
        let median = |mut times: Vec<_>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        let without = median(trips.iter().map(|trip| trip.0).collect());
        let with = median(trips.iter().map(|trip| trip.1).collect());
        eprintln!("a short turn, p50: {without:?} without a host, {with:?} with one");
        let status = std::fs::read_to_string(format!("/proc/{}/status", place.host_pid())).unwrap();
        let memory = status.lines().find(|line| line.starts_with("RssAnon"));
        eprintln!("a host's own memory: {}", memory.unwrap_or_default());
        direct.stop().await;
        hosted.stop().await;
    })]
}
