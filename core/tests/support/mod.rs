//! What the tests of the hub share: a world around a bare hub, and a runner that plays traces in it.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]
#![allow(clippy::print_stderr, reason = "printed on request, to debug a run")]

pub mod script;
pub mod world;
