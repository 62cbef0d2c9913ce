//! Randomness with a seed that is printed.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// `SWITCHBOARD_SEED`, or the time. A failing test's output has it.
#[allow(clippy::print_stdout, reason = "it repeats the run")]
pub fn seed() -> u64 {
    let given = std::env::var("SWITCHBOARD_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |since| u64::try_from(since.as_micros()).unwrap_or(1))
    };
    let seed = given.unwrap_or_else(now);
    println!("SWITCHBOARD_SEED={seed}");
    seed
}
