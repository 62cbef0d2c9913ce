//! Random requests, mostly close to what is meant. Nothing panics, nothing hangs, and a good client is served at the
//! end.

use std::time::Duration;

use switchboard_conformance::{
    WAIT,
    random::{Random, Run},
};
use switchboard_transport_sse::Options;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    raw::{Open, Raw, request},
    site::{Site, generous},
};

/// Requests for streams to begin with.
const TARGETS: &[&str] = &[
    "/sse",
    "/sse?chat=c1&chat=c2",
    "/sse?after=c1@e:5,c2@e:0&client_id=me",
    "/sse?after=c2@0:18446744073709551615",
    "/messages",
];
const HEADERS: &[&str] = &[
    "Last-Event-ID: c1@e:5,c2",
    "Content-Type: application/json",
    "Switchboard-Stream: 0123456789abcdef0123456789abcdef",
    "Transfer-Encoding: chunked",
    "Content-Length: 5",
    "Expect: 100-continue",
];

/// A request that is good, or was.
fn anything(random: &mut Random, stream: &str) -> Vec<u8> {
    let stream = format!("Switchboard-Stream: {stream}");
    let body = random.frame();
    let mut bytes = if random.below(6) > 0 {
        let mut headers = vec!["Content-Type: application/json", &*stream];
        if random.below(4) == 0 {
            headers.push(random.one_of(HEADERS));
        }
        let mut bytes = request("POST", "/messages", &headers, Some(&body)).into_bytes();
        bytes.extend(body);
        bytes
    } else {
        let headers: Vec<&str> = (0..random.below(3)).map(|_| random.one_of(HEADERS)).collect();
        request(random.one_of(&["GET", "GET", "POST", "HEAD"]), random.one_of(TARGETS), &headers, None)
            .into_bytes()
    };
    if random.below(3) == 0 {
        random.damage(&mut bytes, 4);
    }
    bytes
}

#[tokio::test]
async fn random_requests_do_no_harm() {
    let mut run = Run::begin();
    let short = Duration::from_millis(50);
    let options = Options {
        body_within: short,
        answer_within: short,
        // Who has gone with a question unread is noticed by what is written.
        comment_every: Duration::from_millis(200),
        ..Options::default()
    };
    let site = Site::with(run.limits(generous()), options).await;
    let mut good = Open::new(site.address, "/sse").await;
    let victim = Open::new(site.address, "/sse").await;
    while run.goes_on() {
        timeout(WAIT, one(&mut run.random, &site, &victim)).await.expect("nothing hangs");
        good.post(r#"{"type":"ping"}"#).await;
        good.raw.wait_for("pong").await;
    }
    drop(victim);
    site.world.until(|counts| counts.connections == 1).await.unwrap();
    run.end();
}

/// One connection, from its beginning to whatever end it takes.
async fn one(random: &mut Random, site: &Site, victim: &Open) {
    let mut raw = Raw::connect(site.address).await;
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(12) {
        bytes.extend(anything(random, &victim.name));
    }
    // It may be cut off at any byte.
    let _ = raw.io.write_all(&bytes).await;
    match random.below(4) {
        0 => raw.io.set_zero_linger().unwrap(),
        1 => {
            let _ = raw.io.shutdown().await;
            // A stream may go on if more was asked for behind it.
            let _ = timeout(Duration::from_millis(5), raw.ended()).await;
        }
        2 => {
            let _ = timeout(Duration::from_millis(2), raw.ended()).await;
        }
        _ => {}
    }
    // What was asked of the other stream is answered there, and has to be read.
    let mut sink = vec![0; 1 << 16];
    while victim.raw.io.try_read(&mut sink).is_ok_and(|read| read > 0) {}
}
