//! Random numbers that a printed seed repeats.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64 (Steele, Lea, Flood 2014). The same seed gives the same numbers.
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    /// A generator for a test, with the seed in the environment variable `SWITCHBOARD_SEED` or a new one. Prints the
    /// seed.
    #[allow(clippy::print_stderr, reason = "the output of a failed test has to contain the seed")]
    pub fn for_test(name: &str) -> Self {
        let given = std::env::var("SWITCHBOARD_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos()) ^ (now.as_secs() << 20) ^ u64::from(std::process::id())
        });
        eprintln!("{name}: SWITCHBOARD_SEED={seed}");
        Self(seed)
    }

    /// The next random number.
    #[allow(clippy::should_implement_trait, reason = "a generator has no end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A random number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A random element; `None` if there is none.
    pub fn pick<'a, T>(&mut self, elements: &'a [T]) -> Option<&'a T> {
        elements.get(usize::try_from(self.below(elements.len() as u64)).unwrap())
    }
}
