//! Reads arbitrary bytes as a spool or as a host's frames. `cargo bolero test -p switchboard-agent-bridge
//! host::fuzz::whatever_is_spooled_is_read_or_refused` searches further.

use std::path::Path;

use bytes::BytesMut;
use switchboard_test_support::replay_damaged;

use super::protocol::{Frame, InvalidFrame, ToHost, record_head};

/// Longest frame, in bytes.
const LONGEST: usize = 256;

/// Number of frames, number of their bytes, and an error if the rest cannot become a frame.
fn read(bytes: &[u8], size: usize) -> (usize, usize, Result<(), InvalidFrame>) {
    let (mut buffer, mut frames, mut length) = (BytesMut::new(), 0, 0);
    for piece in bytes.chunks(size) {
        buffer.extend_from_slice(piece);
        loop {
            match Frame::next(&mut buffer, LONGEST) {
                Ok(Some(frame)) => {
                    let mut again =
                        record_head(frame.kind, frame.first, frame.count, frame.payload.len()).to_vec();
                    again.extend_from_slice(&frame.payload);
                    assert_eq!(again, bytes[length..length + again.len()], "it is what was written");
                    length += again.len();
                    frames += 1;
                }
                Ok(None) => break,
                Err(broken) => return (frames, length, Err(broken)),
            }
        }
        assert!(buffer.capacity() <= 4 * LONGEST + bytes.len(), "what a length claims is not made room for");
    }
    (frames, length, Ok(()))
}

fn spool(bytes: &[u8]) {
    let whole = read(bytes, bytes.len().max(1));
    for size in [1, 5] {
        assert_eq!(read(bytes, size), whole, "in pieces of {size}");
    }
    // Messages from a gateway have the same framing.
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(_)) = ToHost::next(&mut buffer, LONGEST) {}
}

#[test]
fn whatever_is_spooled_is_read_or_refused() {
    bolero::check!(name = "spool")
        .with_iterations(2000)
        .with_max_len(600)
        .for_each(|bytes: &[u8]| spool(bytes));
}

#[test]
fn a_damaged_spool_is_read_or_refused() {
    replay_damaged(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/__fuzz__/spool/corpus"), spool);
}
