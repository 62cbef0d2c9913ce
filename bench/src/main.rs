//! Measures a release build of the gateway on loopback against minimal references on the same machine.
//!
//! The measured process runs on one core, the load and the agents on the other. Every subscriber checks every delta for
//! loss, repetition and order. Started by `cargo xtask bench`.
#![expect(clippy::print_stdout, reason = "the table is what the bench is for")]

mod agent;
mod bare;
mod connections;
mod cpu;
mod durable;
mod history;
mod paced;
mod peer;
mod reference;
mod rows;
mod server;
mod stats;
mod stops;
mod table;
mod token;
mod transports;
mod wire;

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_setaffinity},
};
use tokio::runtime;

use crate::{server::Durability, table::Row, wire::Wire};

/// Measures the gateway and prints a table of ratios.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Rounds of each row; the measured processes take turns within one.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only rows of a group (throughput, paced, first, idle, stalled; transports; with journal and hosts
    /// on: durable, durable paced, durable first, acknowledged, replay, start, cut, stops, one chat unpaced,
    /// 50 chats unpaced, 200 chats unpaced, 50 chats paced, 200 chats paced, paced with messages,
    /// idle connections, handshakes, long start), or throughput rows with this in their name ("durable 50 chats" for
    /// those with journal and hosts).
    #[arg(long, default_value = "")]
    only: String,
}

/// What the bench starts itself as.
#[derive(Debug, Subcommand)]
enum Role {
    /// An agent that writes as fast as it is told to.
    Agent {
        /// The session to resume; the agent has none, and ignores it.
        #[arg(long)]
        resume: Option<String>,
    },
    /// The bare broadcaster.
    Limit {
        #[arg(long)]
        agent: String,
        #[arg(long)]
        wire: Wire,
        #[arg(long)]
        unix: PathBuf,
        #[arg(long)]
        chats: usize,
        #[arg(long)]
        sockets: usize,
    },
    /// The bare relay.
    Relay {
        #[arg(long)]
        agent: String,
    },
    /// The server of bare WebSocket handshakes.
    Handshakes,
    /// The bare loop on SQLite.
    Keep { directory: PathBuf, chats: usize, each: usize },
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    if let Some(Role::Agent { .. }) = args.role {
        agent::run()?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(Role::Keep { directory, chats, each }) = &args.role {
        println!("{}", bare::keep(directory, *chats, *each)?);
        return Ok(ExitCode::SUCCESS);
    }
    raise_file_limit()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match args.role {
            Some(Role::Limit { agent, wire, unix, chats, sockets }) => {
                reference::limit(&agent, wire, &unix, chats, sockets).await?;
            }
            Some(Role::Relay { agent }) => reference::relay(&agent).await?,
            Some(Role::Handshakes) => reference::handshakes().await?,
            Some(Role::Agent { .. } | Role::Keep { .. }) => {}
            None => return measure(&args).await,
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Raises the limit of open files: ten thousand connections need as many file descriptors.
fn raise_file_limit() -> Result<(), Box<dyn Error>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

async fn measure(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let mut core = CpuSet::new();
    core.set(server::LOAD_CORE);
    if sched_setaffinity(None, &core).is_err() {
        println!("there is only one core: load and server share it, and the ratios mean little");
    }
    let rounds = args.rounds;
    let wanted = |group: &str| group.contains(&args.only);
    let mut missed = 0;
    let mut print = |rows: Vec<Row>| {
        for row in rows {
            missed += usize::from(!row.holds());
            println!("{row}");
        }
    };
    println!("median of {rounds} rounds (least to greatest), bar, what");
    for (row, bars) in rows::THROUGHPUT {
        if wanted("throughput") || wanted(row.name) {
            print(rows::throughput(&row, bars, rounds).await?);
        }
    }
    if wanted("paced") {
        print(rows::paced(rounds, Durability::Nothing, 1.4).await?);
    }
    if wanted("first") {
        print(rows::first_delta(rounds, Wire::WebSocket, 2.0).await?);
    }
    if wanted("idle") {
        print(rows::idle(Wire::WebSocket, 10_000, 12.0).await?);
    }
    if wanted("stalled") {
        print(rows::stalled(rounds.min(2)).await?);
    }
    for (row, bars) in transports::THROUGHPUT {
        if wanted("transports") || wanted(row.name) {
            print(rows::throughput(&row, bars, rounds).await?);
        }
    }
    if wanted("transports") {
        for transports::Single { wire, idle_kib, first_delta } in transports::SINGLE {
            print(rows::idle(wire, 5_000, idle_kib).await?);
            print(rows::first_delta(rounds, wire, first_delta).await?);
        }
    }
    measure_durable(rounds, wanted, &mut print).await?;
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Measures with a journal and hosts, and what people have.
async fn measure_durable(
    rounds: usize,
    wanted: impl Fn(&str) -> bool,
    print: &mut impl FnMut(Vec<Row>),
) -> Result<(), Box<dyn Error>> {
    for (row, _) in rows::THROUGHPUT {
        if wanted(&format!("durable {}", row.name)) {
            print(durable::throughput(&row, rounds).await?);
        }
    }
    if wanted("durable paced") {
        print(rows::paced(rounds, Durability::Everything, 1.6).await?);
    }
    if wanted("durable first") {
        print(durable::first_delta(rounds).await?);
    }
    if wanted("acknowledged") {
        print(durable::acknowledged(rounds).await?);
    }
    if wanted("replay") {
        print(durable::replay(rounds).await?);
    }
    if wanted("start") {
        print(durable::start(rounds).await?);
    }
    if wanted("cut") {
        print(durable::cut().await?);
    }
    if wanted("stops") {
        print(stops::replaced(rounds).await?);
        for number in [32, 256] {
            print(stops::stopped(number, rounds.min(3)).await?);
        }
    }
    if wanted("one chat unpaced") {
        print(durable::fresh_starts().await?);
    }
    for (row, bar) in durable::UNPACED {
        if wanted(row.name) {
            print(durable::of_limit(&row, rounds, bar).await?);
        }
    }
    for (group, load) in paced::LOADS {
        if wanted(group) {
            print(paced::rows(&load, rounds).await?);
        }
    }
    if wanted("idle connections") {
        print(connections::idle().await?);
    }
    if wanted("handshakes") {
        print(connections::handshakes(rounds).await?);
    }
    if wanted("long start") {
        print(durable::long_start(rounds).await?);
    }
    Ok(())
}
