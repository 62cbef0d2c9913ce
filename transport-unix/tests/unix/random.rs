//! Random lines, mostly close to what is meant. Nothing panics, nothing hangs, and a good client is served at the
//! end. `SWITCHBOARD_FUZZ_SECONDS` says how long, `SWITCHBOARD_FUZZ_SEED` repeats a run.

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
use switchboard_conformance::WAIT;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::site::{Raw, Site};

/// Lines to begin with.
const GOOD: &[&str] = &[
    r#"{"type":"ping","nonce":"n"}"#,
    r#"{"type":"attach","chat_id":"c1","after":{"epoch":"e","seq":1}}"#,
    r#"{"type":"message","chat_id":"c2","content":"hello","turn_id":"t1"}"#,
    r#"{"type":"list_chats","limit":3}"#,
    r#"{"type":"history","chat_id":"c2","before":"x"}"#,
    r#"{"type":"respond","chat_id":"c2","request_id":"r","decision":"allow"}"#,
    r#"{"type":"cancel","chat_id":"c2"}"#,
    r#"{"type":"set_goal_state","chat_id":"c2","goal_state":{"active":true}}"#,
];

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.0.next_u64() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.0.next_u32().to_le_bytes()[0]
    }

    /// Lines that are good, or were; the last may have no end.
    fn lines(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..1 + self.below(20) {
            bytes.extend_from_slice(GOOD[self.below(GOOD.len())].as_bytes());
            bytes.push(b'\n');
        }
        for _ in 0..self.below(8) {
            let at = self.below(bytes.len() + 1);
            match self.below(4) {
                0 if at > 0 => bytes.truncate(at),
                1 => bytes.insert(at, self.byte()),
                2 if at < bytes.len() => bytes[at] = self.byte(),
                _ => bytes.extend_from_within(at / 2..at),
            }
        }
        bytes
    }
}

#[tokio::test]
async fn random_lines_do_no_harm() {
    let seconds = env::var("SWITCHBOARD_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let seed = env::var("SWITCHBOARD_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let entropy = switchboard_runtime::entropy().unwrap();
    let seed = seed.unwrap_or_else(|| u64::from_le_bytes(entropy[..8].try_into().unwrap()));
    println!("SWITCHBOARD_FUZZ_SEED={seed} SWITCHBOARD_FUZZ_SECONDS={seconds}");
    let panics = Arc::new(AtomicUsize::new(0));
    let (counted, before) = (Arc::clone(&panics), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        // Other tests of this process are not meant.
        if info.location().is_some_and(|at| !at.file().contains("tests")) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        before(info);
    }));
    let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
    let site = Site::new().await;
    let mut good = Raw::open(&site.path).await;
    let (until, mut connections) = (Instant::now() + Duration::from_secs(seconds), 0_u32);
    while Instant::now() < until {
        connections += 1;
        timeout(WAIT, one(&mut random, &site)).await.expect("nothing hangs");
        good.works().await;
    }
    println!("{connections} connections");
    site.world.until(|counts| counts.connections == 1).await.unwrap();
    good.works().await;
    assert_eq!(panics.load(Ordering::Relaxed), 0);
}

/// One connection, from its beginning to whatever end it takes.
async fn one(random: &mut Random, site: &Site) {
    let mut raw = Raw::connect(&site.path).await;
    // It may be cut off at any byte.
    let _ = raw.io.write_all(&random.lines()).await;
    if random.below(2) == 0 {
        let _ = raw.io.shutdown().await;
        // What is said is a line each, whatever was asked.
        while let Ok(Some(line)) = timeout(Duration::from_millis(5), raw.next()).await {
            serde_json::from_str::<serde_json::Value>(&line).unwrap();
        }
    }
}
