//! Decodes arbitrary lines. `cargo bolero test -p switchboard-agent-bridge
//! dialect::claude::tests::fuzz::whatever_an_agent_writes_is_decoded` searches further.

use std::path::Path;

use switchboard_test_support::replay_damaged;

use super::{super::ClaudeCodec, codec};
use crate::dialect::{Codec as _, Decoded};

fn lines(bytes: &[u8]) {
    let (mut codec, mut skipping) = (codec(), codec());
    for (position, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let mut out = Decoded::default();
        codec.decode(position as u64, line, &mut out);
        skipping.skipped(position as u64, line, 1 << 24, &mut out);
        assert!(out.events.len() < 100 + line.len(), "{} events of {} bytes", out.events.len(), line.len());
        assert!(out.replies.iter().all(|reply| serde_json::from_slice::<serde_json::Value>(reply).is_ok()));
    }
    let checkpoint = codec.checkpoint();
    let restored = ClaudeCodec::restore(Path::new("/workspace"), &checkpoint).unwrap();
    assert_eq!(restored.checkpoint(), checkpoint);
}

#[test]
fn whatever_an_agent_writes_is_decoded() {
    bolero::check!(name = "agent_lines")
        .with_iterations(1000)
        .with_max_len(600)
        .for_each(|bytes: &[u8]| lines(bytes));
}

#[test]
fn damaged_lines_are_decoded() {
    replay_damaged(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/__fuzz__/agent_lines/corpus"), lines);
}
