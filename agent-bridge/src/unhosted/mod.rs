//! Agents as subprocesses of the gateway: started for the first prompt, reused over turns where the dialect allows it,
//! and ended together with all their descendants.

mod agent;
mod instance;
mod reader;

pub use self::{agent::ProcessAgent, instance::UnhostedInstance};
