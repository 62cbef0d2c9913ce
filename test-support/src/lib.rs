//! What the tests of several crates share. Helpers panic where something fails: the panic fails the test.
//!
//! | To test with | Look at |
//! |---|---|
//! | the gateway as a process | [`Gateway`] |
//! | a client over WebSocket, SSE or a Unix socket | [`Client`] |
//! | what a client received | [`matches()`], [`answer_text`], [`unbalanced`] |
//! | a single HTTP request | [`Gateway::request`], [`Response`] |
//! | a condition that nothing reports | [`eventually`] |
//! | Claude Code without an account | [`scripted_model`] |
//! | agents and their hosts | [`process`] |
//! | a host of an unknown version | [`AlteredHost`] |
//! | a host of the version before | [`EarlierHost`] |
//! | random numbers | [`Rng`] |
//! | something that this machine may not have | [`report_skipped`] |
//! | a fuzz target's corpus, damaged in every place | [`replay_damaged`] |
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod altered_host;
mod client;
mod corpus;
mod earlier_host;
mod events;
mod gateway;
mod http;
mod model;
pub mod process;
mod rng;
mod skip;
mod wait;

pub use altered_host::{Alteration, AlteredHost};
pub use client::{Client, SseClient, UnixClient, WebSocketClient, delta_text};
pub use corpus::replay_damaged;
pub use earlier_host::{Agent, EarlierHost};
pub use events::{agent_turns, answer_text, matches, unbalanced};
pub use gateway::{ECHO_AGENT, Gateway, config_file, switchboard};
pub use http::{Response, UPGRADE_HEADERS, connect};
pub use model::scripted_model;
pub use rng::Rng;
pub use skip::report_skipped;
pub use wait::{TIMEOUT, becomes_true, eventually, run, wait_for_exit};
