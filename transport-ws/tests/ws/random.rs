//! Random bytes, mostly close to what is meant. Nothing panics, nothing hangs, and a good client is served at the
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
use switchboard_transport_ws::Options;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    raw::{PROTOCOL, Raw, UPGRADE, frame},
    site::{Site, TOKEN, first_frame, generous, verified},
};

/// Frames to begin with.
const GOOD: &[&str] = &[
    r#"{"type":"ping","nonce":"n"}"#,
    r#"{"type":"attach","chat_id":"c1","after":{"epoch":"e","seq":1}}"#,
    r#"{"type":"message","chat_id":"c2","content":"hello","turn_id":"t1"}"#,
    r#"{"type":"list_chats","limit":3}"#,
    r#"{"type":"history","chat_id":"c2","before":"x"}"#,
    r#"{"type":"respond","chat_id":"c2","request_id":"r","decision":"allow"}"#,
    r#"{"type":"cancel","chat_id":"c2"}"#,
    r#"{"type":"set_goal_state","chat_id":"c2","goal_state":{"active":true}}"#,
    r#"{"type":"authenticate","token":"0123456789abcdef"}"#,
    "hello",
];

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.0.next_u64() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.0.next_u32().to_le_bytes()[0]
    }

    /// A frame that is good, or was.
    fn payload(&mut self) -> Vec<u8> {
        let mut bytes = GOOD[self.below(GOOD.len())].as_bytes().to_vec();
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.byte()),
                2 if at < bytes.len() => bytes[at] = self.byte(),
                _ => bytes.extend_from_within(at / 2..at),
            }
        }
        bytes
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..1 + self.below(6) {
            let first =
                if self.below(4) > 0 { 0x81 + u8::try_from(self.below(2)).unwrap() } else { self.byte() };
            let mut frame = frame(first, &self.payload());
            if self.below(8) == 0 {
                let at = self.below(frame.len());
                frame[at] = self.byte();
            }
            bytes.extend(frame);
        }
        if self.below(4) == 0 {
            bytes.truncate(self.below(bytes.len()));
        }
        bytes
    }
}

#[tokio::test]
async fn random_bytes_do_no_harm() {
    let seconds = env::var("SWITCHBOARD_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let seed = env::var("SWITCHBOARD_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        u64::from_le_bytes(switchboard_runtime::entropy().unwrap()[..8].try_into().unwrap())
    });
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
    let short = Duration::from_millis(100);
    let options = Options { authenticate_within: short, message_within: short, ..Options::default() };
    let open = Site::with(generous(), options.clone(), verified()).await;
    let closed = Site::with(generous(), options, first_frame()).await;
    let mut good = Raw::open(open.address).await;
    let (until, mut connections) = (Instant::now() + Duration::from_secs(seconds), 0_u32);
    while Instant::now() < until {
        connections += 1;
        timeout(WAIT, one(&mut random, &open, &closed)).await.expect("nothing hangs");
        good.works().await;
    }
    println!("{connections} connections");
    open.world.until(|counts| counts.connections == 1).await.unwrap();
    closed.world.until(|counts| counts.connections == 0).await.unwrap();
    good.works().await;
    let mut late = Raw::connect(closed.address).await;
    late.upgrade(PROTOCOL).await;
    late.text(&format!(r#"{{"type":"authenticate","token":"{TOKEN}"}}"#)).await;
    assert_eq!(late.event().await["event"], "ready");
    assert_eq!(panics.load(Ordering::Relaxed), 0);
}

/// One connection, from its beginning to whatever end it takes.
async fn one(random: &mut Random, open: &Site, closed: &Site) {
    let (site, more) = if random.below(3) == 0 { (closed, PROTOCOL) } else { (open, "") };
    let mut head = format!("{UPGRADE}{more}\r\n").into_bytes();
    if random.below(10) == 0 {
        let at = random.below(head.len());
        head[at] = random.byte();
    }
    let mut raw = Raw::connect(site.address).await;
    let mut bytes = head;
    for _ in 0..1 + random.below(3) {
        bytes.extend(random.bytes());
    }
    // It may be cut off at any byte.
    let _ = raw.io.write_all(&bytes).await;
    match random.below(4) {
        0 => raw.io.set_zero_linger().unwrap(),
        1 => {
            let _ = raw.io.shutdown().await;
            raw.ended().await;
        }
        2 => {
            let _ = timeout(Duration::from_millis(5), raw.ended()).await;
        }
        _ => {}
    }
}
