//! Random lines, most of them almost valid. The server neither panics nor hangs, and still serves a good client at the
//! end.

use switchboard_conformance::{
    WAIT, generous_limits,
    random::{Random, Run},
};
use switchboard_transport_unix::Options;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::server::{Raw, Server};

/// Valid lines, some of them damaged. The last one may lack its newline.
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

/// Opens a connection, sends random bytes, and ends the connection.
async fn one(random: &mut Random, server: &Server) {
    let mut raw = Raw::connect(&server.path).await;
    let mut bytes = lines(random);
    if random.below(4) == 0 {
        // The server may close the connection at any byte.
        let _ = raw.io.write_all(&bytes).await;
        return;
    }
    bytes.extend_from_slice(b"\n{\"type\":\"ping\",\"nonce\":\"the last\"}\n");
    raw.write(&bytes).await;
    if random.below(2) == 0 {
        raw.io.shutdown().await.unwrap();
    }
    // The server has read everything, and each of its lines is an event.
    let pong = serde_json::json!({ "event": "pong", "nonce": "the last" });
    while raw.event().await != pong {}
}
