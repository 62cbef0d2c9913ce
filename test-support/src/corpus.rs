//! A fuzz target's corpus, damaged in every place: what a fuzzer would try first, in the same order every time.

use std::{fs, path::Path};

/// Bytes that mean something in JSON, in lines and in frames, and one that is no text.
const BYTES: [u8; 5] = [b'"', b'}', b'\n', 0, 0xff];

/// Runs the target on every file below `dir`: whole, cut off at every byte, with every byte replaced and doubled, and
/// with the head of each joined to the tail of each.
pub fn replay_damaged(dir: &Path, target: impl Fn(&[u8])) {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap_or_else(|e| panic!("{e}")).path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        .collect();
    assert!(!corpus.is_empty(), "{} is empty", dir.display());
    for input in &corpus {
        target(input);
        for at in 0..input.len() {
            target(&input[..at]);
            let mut damaged = input.clone();
            for byte in BYTES {
                damaged[at] = byte;
                target(&damaged);
            }
            damaged[at] = input[at];
            damaged.insert(at, input[at]);
            target(&damaged);
        }
        for other in &corpus {
            target(&[&input[..input.len() / 2], &other[other.len() / 2..]].concat());
        }
    }
}
