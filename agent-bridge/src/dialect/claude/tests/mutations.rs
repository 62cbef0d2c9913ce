//! The codec accepts mutated lines and goes on.

use std::{path::Path, sync::LazyLock};

use proptest::prelude::*;

use super::{codec, recordings};
use crate::dialect::{Codec as _, Decoded, claude::ClaudeCodec};

static LINES: LazyLock<Vec<String>> = LazyLock::new(|| {
    recordings::all().iter().flat_map(|(_, recording)| recordings::lines(recording)).collect()
});

#[derive(Debug, Clone)]
enum Mutation {
    Keep,
    Cut(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Splice(prop::sample::Index, prop::sample::Index),
    /// Replaces the n-th value by another one.
    Value(prop::sample::Index, &'static str),
}

const VALUES: &[&str] = &["null", "7", "-1", "\"x\"", "{}", "[]", "[null]", "1e400", "true"];

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        3 => Just(Mutation::Keep),
        1 => at().prop_map(Mutation::Cut),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Flip(at, byte)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (at(), at()).prop_map(|(from, to)| Mutation::Splice(from, to)),
        3 => (at(), prop::sample::select(VALUES)).prop_map(|(at, value)| Mutation::Value(at, value)),
    ]
}

fn mutate(line: &str, mutation: &Mutation) -> Vec<u8> {
    let mut bytes = line.as_bytes().to_vec();
    let length = bytes.len();
    match mutation {
        Mutation::Keep => {}
        Mutation::Cut(at) => bytes.truncate(at.index(length)),
        Mutation::Flip(at, byte) => bytes[at.index(length)] ^= byte,
        Mutation::Insert(at, new) => {
            let at = at.index(length);
            bytes.splice(at..at, new.iter().copied());
        }
        Mutation::Splice(from, to) => {
            let tail = bytes[from.index(length)..].to_vec();
            bytes.truncate(to.index(length));
            bytes.extend(tail);
        }
        Mutation::Value(at, value) => {
            let colons: Vec<usize> =
                line.match_indices("\":").map(|(at, _)| at + 2).filter(|at| *at < length).collect();
            let start = colons[at.index(colons.len())];
            let mut values =
                serde_json::Deserializer::from_str(&line[start..]).into_iter::<serde_json::Value>();
            if let Some(Ok(_)) = values.next() {
                bytes.splice(start..start + values.byte_offset(), value.bytes());
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_of_what_was_recorded_panics(
        picks in prop::collection::vec((any::<prop::sample::Index>(), mutation()), 1..60),
        start in any::<prop::sample::Index>(),
        in_order in any::<bool>(),
    ) {
        let mut codec = codec();
        let start = start.index(LINES.len());
        for (position, (pick, mutation)) in picks.iter().enumerate() {
            let index = if in_order { (start + position) % LINES.len() } else { pick.index(LINES.len()) };
            let mut out = Decoded::default();
            codec.decode(position as u64, &mutate(&LINES[index], mutation), &mut out);
        }
        let checkpoint = codec.checkpoint();
        let restored = ClaudeCodec::restore(Path::new("/workspace"), &checkpoint);
        prop_assert_eq!(restored.map(|codec| codec.checkpoint()).ok(), Some(checkpoint));
    }
}
