//! Random worlds around a hub, compared with naive models of clients, agents, their hosts and the log. Gateways, hosts
//! and agents die at any moment, alone or together. The journal fails, and loses appends that were not synced, or even
//! synced ones.
//!
//! `SWITCHBOARD_SIM_SEED=7` runs one seed. Otherwise seeds are run in order, from `SWITCHBOARD_SIM_FIRST_SEED` on, for
//! `SWITCHBOARD_SIM_SECONDS` (5 by default) and at least `SWITCHBOARD_SIM_STEPS` steps.

#![allow(unreachable_pub, reason = "the modules of a test are used by its root only")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "the test prints which seeds it ran")]

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

mod agents;
mod feed;
mod healed;
mod host;
mod owners;
mod reader;
mod recorder;
mod rng;
mod sim;
// Shared with the other tests of the hub.
#[path = "../support/mod.rs"]
mod support;

use self::sim::Defect;

/// Seeds that once failed, and the cause. After a change of the simulator, a seed makes another world; therefore each
/// cause has a trace too.
const REGRESSIONS: &[u64] = &[
    32,     // the next gateway adopted an agent that had been asked to stop
    75,     // an agent without a turn was adopted and never stopped
    132,    // an agent got a prompt before the journal had its `AgentStarted`
    1345,   // a repeated message was answered with a cursor of an earlier epoch
    1738,   // an agent had ended a turn whose start was lost, and wrote nothing more in that turn
    3394,   // a cancellation counted as committed, since its id was below that of a prompt appended again
    11_554, // after a refused append, an agent got a prompt before the journal had its `AgentStarted`
    14_379, // a turn was accepted and ended before the journal answered, and was accepted again
    16_725, // an agent in a turn whose start was lost was adopted for the earlier turn, whose end was lost
    32_043, // a question was committed together with the end of its agent, and asked again
    40_358, // an agent was adopted for a queued turn, and had exited in the turn before
    46_777, // an agent in a lost turn got the prompt of the next turn
    49_935, // an answer was sent for a request whose earlier answer the journal had lost
    72_571, // the end of a turn counted as committed, since the journal had a later `AgentStarted`
];

#[test]
fn regressions() {
    for seed in REGRESSIONS {
        run(*seed);
    }
}

/// The number of worlds in which a defect must be found.
const SEARCHED: u64 = 300;

#[test]
fn a_hub_that_ignores_the_end_of_a_grant_is_found() {
    let seed = (1..=SEARCHED).find(|seed| is_found(*seed, Defect::HubIgnoresEnds));
    println!("found with seed {seed:?}");
    assert!(seed.is_some());
}

#[test]
fn a_journal_that_ignores_terms_is_found() {
    let seed = (1..=SEARCHED).find(|seed| is_found(*seed, Defect::JournalIgnoresTerms));
    println!("found with seed {seed:?}");
    assert!(seed.is_some());
}

fn is_found(seed: u64, defect: Defect) -> bool {
    let world = || sim::Sim::new(seed, Some(defect)).run(steps(seed));
    catch_unwind(AssertUnwindSafe(world)).is_err()
}

#[test]
fn random_worlds() {
    if let Some(seed) = number("SWITCHBOARD_SIM_SEED") {
        run(seed);
        return;
    }
    let until = Instant::now() + Duration::from_secs(number("SWITCHBOARD_SIM_SECONDS").unwrap_or(5));
    let min_steps = number("SWITCHBOARD_SIM_STEPS").unwrap_or(0);
    let first = number("SWITCHBOARD_SIM_FIRST_SEED").unwrap_or(1);
    let (mut seed, mut steps) = (first, 0);
    let mut reported = Instant::now();
    while Instant::now() < until || steps < min_steps {
        steps += run(seed);
        seed += 1;
        if reported.elapsed() > Duration::from_secs(60) {
            println!("seeds {first} to {} hold so far: {steps} steps", seed - 1);
            reported = Instant::now();
        }
    }
    println!("seeds {first} to {} hold: {} worlds, {steps} steps", seed - 1, seed - first);
}

/// Runs one world. Returns the number of its random steps.
fn run(seed: u64) -> u64 {
    let world = || sim::Sim::new(seed, None).run(steps(seed));
    if let Err(panic) = catch_unwind(AssertUnwindSafe(world)) {
        eprintln!("SWITCHBOARD_SIM_SEED={seed} fails");
        resume_unwind(panic);
    }
    u64::try_from(steps(seed)).expect("small")
}

fn steps(seed: u64) -> usize {
    usize::try_from(200 + seed % 7 * 200).expect("small")
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}
