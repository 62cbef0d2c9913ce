//! The gateway's side of agent hosts. A host is a process that owns an agent and outlives the gateway.

mod agent;
mod awaited;
mod cadence;
mod connected;
mod ending;
mod feed;
mod feed_handle;
mod find;
mod frames;
mod held_pipe;
mod hosts;
mod instance;
mod link;
mod shutdown;
mod spool_reader;
mod starter;
mod waiting;

pub use self::{
    agent::HostAgent,
    hosts::{HostState, end_orphans, kill_all_hosts, list_hosts},
    starter::{HostConfig, HostedInstance},
};
