//! The gateway's side of agent hosts. A host is a process that owns an agent and outlives the gateway.

mod agent;
mod cadence;
mod connected;
mod ending;
mod feed;
mod find;
mod hosts;
mod instance;
mod link;
mod loan;
mod peek;
mod shutdown;
mod starter;
mod waiting;

pub use self::{
    agent::HostAgent,
    hosts::{HostState, end_orphans, kill_all_hosts, list_hosts},
    starter::{HostConfig, HostedInstance},
};
