//! Random lines, mostly close to what is meant. Nothing panics, nothing hangs, and a good client is served at the
//! end.

use switchboard_conformance::{
    WAIT, generous_limits,
    random::{Random, Run},
};
use switchboard_transport_unix::Options;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::server::{Raw, Server};

/// Lines that are good, or were; the last may have no end.
fn lines(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(20) {
        bytes.extend_from_slice(random.good().as_bytes());
        bytes.push(b'\n');
    }
    random.damage(&mut bytes, 8);
    bytes
}

#[tokio::test]
async fn random_lines_do_no_harm() {
    let mut run = Run::begin();
    let server = Server::with(run.limits(generous_limits()), Options::default()).await;
    let mut good = Raw::open(&server.path).await;
    while run.goes_on() {
        timeout(WAIT, one(&mut run.random, &server)).await.expect("nothing hangs");
        good.works().await;
    }
    server.gateway.until(|counts| counts.connections == 1).await.unwrap();
    good.works().await;
    run.end();
}

/// One connection, from its beginning to whatever end it takes.
async fn one(random: &mut Random, server: &Server) {
    let mut raw = Raw::connect(&server.path).await;
    let mut bytes = lines(random);
    if random.below(4) == 0 {
        // It may be cut off at any byte.
        let _ = raw.io.write_all(&bytes).await;
        return;
    }
    bytes.extend_from_slice(b"\n{\"type\":\"ping\",\"nonce\":\"the last\"}\n");
    raw.write(&bytes).await;
    if random.below(2) == 0 {
        raw.io.shutdown().await.unwrap();
    }
    // Whatever was asked is taken, and what is said is a line each.
    let pong = serde_json::json!({ "event": "pong", "nonce": "the last" });
    while raw.event().await != pong {}
}
