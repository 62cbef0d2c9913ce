//! Random requests, most of them almost valid. The server neither panics nor hangs, and still serves a good client at
//! the end.

use std::{net::SocketAddr, time::Duration};

use switchboard_conformance::{
    WAIT, generous_limits,
    random::{Random, Run},
};
use switchboard_transport_sse::Options;
use tokio::{io::AsyncWriteExt as _, task::JoinSet, time::timeout};

use switchboard_conformance::sse_client::{OpenStream, RawClient, request};

use crate::server::Server;

/// The targets of requests for streams.
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

/// The number of concurrent connections, each of which spends most of its time waiting.
const AT_ONCE: usize = 64;

/// A POST of a valid or an invalid frame to this stream, sometimes with wrong headers.
fn post(random: &mut Random, stream: &str) -> Vec<u8> {
    let body = random.frame();
    let mut headers = vec!["Content-Type: application/json", stream];
    if random.below(16) == 0 {
        headers.push(random.one_of(HEADERS));
    }
    let mut bytes = request("POST", "/messages", &headers, Some(&body)).into_bytes();
    bytes.extend(body);
    if random.below(8) == 0 {
        random.damage(&mut bytes, 4);
    }
    bytes
}

/// Another request. If its response does not end, the requests behind it are not answered.
fn other(random: &mut Random) -> Vec<u8> {
    let headers: Vec<&str> = (0..random.below(3)).map(|_| random.one_of(HEADERS)).collect();
    let method = random.one_of(&["GET", "GET", "POST", "HEAD"]);
    let mut bytes = request(method, random.one_of(TARGETS), &headers, None).into_bytes();
    if random.below(3) == 0 {
        random.damage(&mut bytes, 4);
    }
    bytes
}

/// A connection to open: what it sends, and how it ends.
struct Peer {
    address: SocketAddr,
    bytes: Vec<u8>,
    end: usize,
}

impl Peer {
    fn new(random: &mut Random, victim: &OpenStream, address: SocketAddr) -> Self {
        let stream = format!("Switchboard-Stream: {}", victim.name);
        let mut bytes: Vec<u8> = (0..1 + random.below(12)).flat_map(|_| post(random, &stream)).collect();
        if random.below(3) == 0 {
            bytes.extend(other(random));
        }
        Self { address, bytes, end: random.below(8) }
    }

    /// Opens the connection, sends everything, and ends it.
    async fn lives(self) {
        let mut raw = RawClient::connect(self.address).await;
        // The server may close the connection at any byte.
        let _ = raw.io.write_all(&self.bytes).await;
        match self.end {
            0 => raw.io.set_zero_linger().unwrap(),
            1 => {}
            end => {
                if end == 2 {
                    let _ = raw.io.shutdown().await;
                }
                // Streams stay open, and so do connections whose requests were all valid.
                let _ = timeout(Duration::from_millis(50), raw.ended()).await;
            }
        }
    }
}

async fn all_events(open: &mut OpenStream) {
    loop {
        open.raw.event().await;
    }
}

#[tokio::test]
async fn random_requests_do_no_harm() {
    let mut run = Run::begin();
    let short = Duration::from_millis(50);
    let options = Options {
        body_within: short,
        answer_within: short,
        // A client that has disappeared is noticed when a comment is written to it.
        comment_every: Duration::from_millis(200),
        unanswered_posts: AT_ONCE,
        ..Options::default()
    };
    let server = Server::with(run.limits(generous_limits()), options).await;
    let mut good = OpenStream::new(server.address, "/sse").await;
    let mut victim = OpenStream::new(server.address, "/sse").await;
    let mut peers = JoinSet::new();
    while run.goes_on() {
        while peers.len() < AT_ONCE {
            peers.spawn(Peer::new(&mut run.random, &victim, server.address).lives());
        }
        let ends = async {
            while peers.len() > AT_ONCE / 2 {
                peers.join_next().await.unwrap().unwrap();
            }
        };
        tokio::select! {
            ended = timeout(WAIT, ends) => ended.expect("nothing hangs"),
            // Frames that were posted to the victim's stream are answered there, each by a valid event.
            () = all_events(&mut victim) => {}
        }
        good.post(r#"{"type":"ping"}"#).await;
        good.raw.wait_for("pong").await;
    }
    peers.join_all().await;
    victim.post(r#"{"type":"ping","nonce":"the last"}"#).await;
    while victim.raw.wait_for("pong").await["nonce"] != "the last" {}
    drop(victim);
    server.gateway.until(|counts| counts.connections == 1).await.unwrap();
    good.works().await;
    run.end();
}
