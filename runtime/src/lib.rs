//! tokio around `switchboard-core`: the loop that owns the hub, outboxes, clock, entropy, the journal
//! and the agents.

mod agent;

pub use agent::{Agent, GatewayGone, Orders, Order, Records, Seat};
