//! The positions of an instance's records in its spool.
//!
//! The output of the instance's processes, one behind the other, is a sequence of bytes. A record of output has the
//! position of its end, and a note comes behind all output up to some offset:
//!
//! | Record | Position |
//! |---|---|
//! | output up to an offset | `offset << 12` |
//! | the n-th note behind that output | `(offset << 12) + n`, counted from 1 |

/// Number of bits for the notes at one offset.
const NOTE_BITS: u32 = 12;

/// The arithmetic of positions.
pub(crate) struct Position;

impl Position {
    /// The position of a record of output that ends at `offset`.
    pub(crate) fn of_output(offset: u64) -> u64 {
        offset << NOTE_BITS
    }

    /// The position of a note behind the output up to `offset` and behind the note at position `last`. `None` if there
    /// are 4095 notes at that offset.
    pub(crate) fn of_note(offset: u64, last: u64) -> Option<u64> {
        let position = last.max(Self::of_output(offset)) + 1;
        (position != Self::of_output(Self::offset(position))).then_some(position)
    }

    /// The offset of the last byte before a position.
    pub(crate) fn offset(position: u64) -> u64 {
        position >> NOTE_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_grow_with_output_and_notes() {
        let note = |offset, last| Position::of_note(offset, last).unwrap();
        let mut last = Position::of_output(0);
        for offset in [0, 0, 1, 1, 1, 500, 1 << 40] {
            let output = Position::of_output(offset);
            let position = note(offset, last);
            assert!(position > last && position > output && position < Position::of_output(offset + 1));
            assert_eq!((Position::offset(output), Position::offset(position)), (offset, offset));
            last = position;
        }
        // A gateway that is behind says too little.
        assert_eq!(note(3, last), last + 1);
    }

    #[test]
    fn one_offset_has_room_for_a_bounded_number_of_notes() {
        let mut last = 0;
        let count = std::iter::from_fn(|| {
            last = Position::of_note(7, last)?;
            Some(last)
        });
        assert_eq!(count.count(), (1 << NOTE_BITS) - 1);
    }
}
