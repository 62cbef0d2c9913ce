//! Random numbers for jitter and marks. They need to differ, but not to be secret.

/// SplitMix64 with a seed from the caller.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: u64,
    other: u64,
}

impl Random {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        let seed = u128::from_le_bytes(seed);
        Self { state: seed as u64, other: (seed >> 64) as u64 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state ^ self.other.rotate_left(17);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 (inclusive) to 1 (exclusive).
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
