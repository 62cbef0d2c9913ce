//! Random worlds around a hub, with naive models of clients, agents, their hosts and the log beside it. Gateways, hosts
//! and agents die at any moment, alone or together; the journal fails, and loses what was not synced, or more.
//!
//! `SWITCHBOARD_SIM_SEED=7` runs one seed; `SWITCHBOARD_SIM_SECONDS=60` looks for longer than the default of 5 s. With
//! `SWITCHBOARD_SIM_STEPS` a run goes on until there were so many, and `SWITCHBOARD_SIM_FIRST_SEED` says where it begins.

#![allow(unreachable_pub, reason = "modules of a test are read by its root")]
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a test says which seeds it ran")]

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

#[path = "simulator/agents.rs"]
mod agents;
#[path = "simulator/feed.rs"]
mod feed;
#[path = "simulator/healed.rs"]
mod healed;
#[path = "simulator/host.rs"]
mod host;
#[path = "simulator/reader.rs"]
mod reader;
#[path = "simulator/recorder.rs"]
mod recorder;
#[path = "simulator/rng.rs"]
mod rng;
#[path = "simulator/sim.rs"]
mod sim;
mod support;

/// Seeds that once failed, and why. A change of the simulator changes what a seed does; traces keep what it showed.
const REGRESSIONS: &[u64] = &[
    32,     // an agent that was asked to stop, adopted by the next gateway
    75,     // an agent without a turn, taken up and never stopped
    132,    // an agent that got a prompt before the journal named it
    1345,   // a repeated message that was said to be in an epoch that was over
    1738,   // an agent that had ended a turn whose start was lost, and wrote nothing more in it
    3394, // a cancellation that was taken for committed, as its number was below that of a prompt logged again
    11_554, // an agent that got a prompt before the journal named it, after a refusal
    14_379, // a turn that was accepted and ended while the journal did not answer, and was accepted again
    16_725, // an agent in a turn whose start was lost, taken up for the turn before it, whose end was lost
    32_043, // a question that was committed with the end of its agent, and was asked again
    40_358, // an agent that was taken up for a turn that waited, and had gone in the one before
    46_777, // an agent in a turn that was lost before it was logged again, and then got the next prompt
    49_935, // an answer to what the log had lost the answer to
    72_571, // the end of a turn that was taken for committed, as an agent was named behind it
];

#[test]
fn regressions() {
    for seed in REGRESSIONS {
        run(*seed);
    }
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

/// Runs one world, and gives how many steps it took before everything healed.
fn run(seed: u64) -> u64 {
    let steps = 200 + seed % 7 * 200;
    let world = || sim::Sim::new(seed).run(usize::try_from(steps).expect("small"));
    if let Err(panic) = catch_unwind(AssertUnwindSafe(world)) {
        eprintln!("SWITCHBOARD_SIM_SEED={seed} fails");
        resume_unwind(panic);
    }
    steps
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}
