//! Random input for a transport's own tests: mostly nearly valid frames, repeatable by a seed, for a limited time.
//!
//! `SWITCHBOARD_FUZZ_SECONDS` sets the duration of a run, and `SWITCHBOARD_FUZZ_SEED` repeats a run; each run prints
//! both. With `SWITCHBOARD_FUZZ_FRAMES` a run goes on for at least that many frames, and memory must not grow. Then run
//! only one test in the process, since the memory of the whole process is measured.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use switchboard_core::Limits;

/// Seconds of a run without `SWITCHBOARD_FUZZ_SECONDS`.
const SECONDS: u64 = 5;
/// Memory may grow by this over the last three quarters of the frames, for the allocator and a journal in memory.
const GROWTH_BYTES: u64 = 8 << 20;

/// Valid frames, from which random frames are derived.
pub const FRAMES: &[&str] = &[
    r#"{"type":"ping","nonce":"n"}"#,
    r#"{"type":"attach","chat_id":"c1","after":{"epoch":"e","seq":1}}"#,
    r#"{"type":"message","chat_id":"c2","content":"hello","turn_id":"t1"}"#,
    r#"{"type":"list_chats","limit":3}"#,
    r#"{"type":"history","chat_id":"c2","before":"x"}"#,
    r#"{"type":"respond","chat_id":"c2","request_id":"r","decision":"allow"}"#,
    r#"{"type":"cancel","chat_id":"c2"}"#,
    r#"{"type":"detach","chat_id":"c2"}"#,
    r#"{"type":"set_goal_state","chat_id":"c2","goal_state":{"active":true}}"#,
];

/// A run with random input: the source of randomness, the duration, and the counts of frames and panics.
#[derive(Debug)]
pub struct Run {
    /// The source of random numbers and frames.
    pub random: Random,
    until: Instant,
    /// Least number of frames; 0 if memory is not measured.
    wanted: u64,
    /// Resident memory after a quarter of the frames, in bytes.
    in_use: Option<u64>,
    rounds: u32,
    panics: Arc<AtomicUsize>,
}

impl Run {
    /// Begins a run. From now on, panics in this process outside of test code are counted.
    #[allow(clippy::print_stdout, reason = "what repeats the run is said")]
    pub fn begin() -> Self {
        let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
        let seed = number("SWITCHBOARD_FUZZ_SEED").unwrap_or_else(fresh_seed);
        let seconds = number("SWITCHBOARD_FUZZ_SECONDS").unwrap_or(SECONDS);
        println!("SWITCHBOARD_FUZZ_SEED={seed} SWITCHBOARD_FUZZ_SECONDS={seconds}");
        let until = Instant::now() + Duration::from_secs(seconds);
        let wanted = number("SWITCHBOARD_FUZZ_FRAMES").unwrap_or(0);
        // Each goal is stored in the journal without a rate limit, so goals would make memory grow.
        let unkept = |frame: &&&str| wanted == 0 || !frame.contains("set_goal_state");
        let good = FRAMES.iter().filter(unkept).copied().collect();
        let random = Random { source: ChaCha8Rng::seed_from_u64(seed), good, frames: 0 };
        Self { random, until, wanted, in_use: None, rounds: 0, panics: count_panics() }
    }

    /// The limits for a run. If memory is measured, messages and new chats are limited, since chats would fill the
    /// memory.
    pub fn limits(&self, generous: Limits) -> Limits {
        if self.wanted == 0 {
            return generous;
        }
        Limits { messages_per_minute: Some(30), new_chats_per_minute: Some(5), ..generous }
    }

    /// Whether to run another round: time is left, or frames are still missing.
    pub fn goes_on(&mut self) -> bool {
        self.rounds += 1;
        if self.in_use.is_none() && self.random.frames * 4 >= self.wanted {
            self.in_use = Some(resident());
        }
        Instant::now() < self.until || self.random.frames < self.wanted
    }

    /// Ends the run.
    ///
    /// # Panics
    ///
    /// Something panicked during the run, or memory was measured and grew.
    #[allow(clippy::print_stdout, reason = "how much was tried is said")]
    pub fn end(self) {
        let (frames, before, now) = (self.random.frames, self.in_use.unwrap_or_default(), resident());
        println!(
            "{} rounds, {frames} frames, {} KiB, then {} KiB",
            self.rounds - 1,
            before / 1024,
            now / 1024
        );
        assert!(
            self.wanted == 0 || now < before + GROWTH_BYTES,
            "memory is not flat: {before} bytes, then {now}"
        );
        assert_eq!(self.panics.load(Ordering::Relaxed), 0, "something panicked");
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096
}

fn fresh_seed() -> u64 {
    let entropy = switchboard_runtime::entropy().expect("the system has entropy");
    entropy[..8].iter().fold(0, |seed, byte| (seed << 8) | u64::from(*byte))
}

fn count_panics() -> Arc<AtomicUsize> {
    let panics = Arc::new(AtomicUsize::new(0));
    let (counted, before) = (Arc::clone(&panics), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        // Panics in test code do not count.
        if info.location().is_some_and(|at| !at.file().contains("tests")) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        before(info);
    }));
    panics
}

/// A source of random numbers, the same numbers for the same seed.
#[derive(Debug)]
pub struct Random {
    source: ChaCha8Rng,
    good: Vec<&'static str>,
    frames: u64,
}

impl Random {
    /// A random number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.source.next_u64() % bound as u64).expect("it is below a usize")
    }

    /// A random byte.
    pub fn byte(&mut self) -> u8 {
        self.source.next_u32().to_le_bytes()[0]
    }

    /// A random element of `all`, which must not be empty.
    pub fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    /// Cuts, inserts, changes or repeats bytes, fewer than `times` times. `times` must not be 0.
    pub fn damage(&mut self, bytes: &mut Vec<u8>, times: usize) {
        for _ in 0..self.below(times) {
            let at = self.below(bytes.len() + 1);
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.byte()),
                2 if at < bytes.len() => bytes[at] = self.byte(),
                _ => bytes.extend_from_within(at / 2..at),
            }
        }
    }

    /// Counts frames that were made in another way than with [`Random::good`].
    pub fn made(&mut self, frames: u64) {
        self.frames += frames;
    }

    /// A valid frame.
    pub fn good(&mut self) -> &'static str {
        self.made(1);
        let at = self.below(self.good.len());
        self.good[at]
    }

    /// A valid frame, possibly damaged.
    pub fn frame(&mut self) -> Vec<u8> {
        let mut bytes = self.good().as_bytes().to_vec();
        self.damage(&mut bytes, 4);
        bytes
    }
}
