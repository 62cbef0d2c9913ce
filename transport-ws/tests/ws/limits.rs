//! Limits on unfinished messages and handshakes, and pings.

use std::time::Duration;

use switchboard_conformance::generous_limits;
use switchboard_transport_ws::Options;

use crate::{
    raw::{PING, PONG, Raw, TEXT, frame, header},
    server::{Server, verified},
};

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn as_many_pieces_as_may_be_are_one_message() {
    let server = Server::new().await;
    let mut raw = Raw::open(server.address).await;
    let text = format!("{:1024}", r#"{"type":"ping","nonce":"pieces"}"#);
    let mut bytes = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        let first = if at == 0 { 0x01 } else { 0x00 };
        bytes.extend(frame(if at == 1023 { first | 0x80 } else { first }, &[byte]));
        // Control frames may come between fragments, and do not count as fragments.
        bytes.extend(frame(PONG, b""));
    }
    raw.write(&bytes).await;
    assert_eq!(raw.event().await["nonce"], "pieces");
}

/// After a large message the read buffer is replaced. The bytes that arrive with the message or after it are not lost.
#[tokio::test]
async fn what_comes_with_a_large_message_is_read_however_it_is_cut() {
    let server = Server::new().await;
    let mut raw = Raw::open(server.address).await;
    let ping = |nonce: &str, length: usize| {
        let text = format!(r#"{{"type":"ping","nonce":"{nonce}"}}"#);
        frame(TEXT, format!("{text:length$}").as_bytes())
    };
    let whole = [ping("large", 60_000), ping("small", 0), frame(PING, b"p"), ping("next", 50_000)].concat();
    let second = ping("large", 60_000).len();
    let third = second + ping("small", 0).len();
    let cuts = [
        1,
        5,
        5_000,
        second - 1,
        second,
        second + 1,
        third - 1,
        third,
        third + 3,
        third + 9,
        whole.len() - 1,
    ];
    for cut in cuts {
        let mut events = Vec::new();
        for piece in [&whole[..cut], &whole[cut..]] {
            raw.write(piece).await;
            // Lets the server read this piece by itself.
            tokio::task::yield_now().await;
        }
        while events.len() < 3 {
            let next = raw.next().await.expect("the connection lives");
            if next.first == TEXT {
                events.push(
                    serde_json::from_slice::<serde_json::Value>(&next.payload).unwrap()["nonce"].clone(),
                );
            } else {
                assert_eq!((next.first, &*next.payload), (PONG, &b"p"[..]));
            }
        }
        assert_eq!(events, ["large", "small", "next"], "cut at {cut}");
        raw.works().await;
    }
}

#[tokio::test]
async fn a_message_that_does_not_end_is_closed() {
    let options = Options { message_within: SHORT, ..Options::default() };
    let server = Server::with(generous_limits(), options, verified()).await;
    for bytes in
        [frame(0x01, b"{"), header(TEXT, 100), vec![0x81], frame(TEXT, br#"{"type":"ping"}"#)[..10].to_vec()]
    {
        let mut raw = Raw::open(server.address).await;
        raw.write(&bytes).await;
        assert_eq!(raw.closed().await.0, 1008, "{bytes:?}");
    }
    // Slow messages within the limit are served, also one right after the other.
    let mut raw = Raw::open(server.address).await;
    let deadline = tokio::time::Instant::now() + 4 * SHORT;
    while tokio::time::Instant::now() < deadline {
        let ping = frame(TEXT, br#"{"type":"ping"}"#);
        raw.write(&ping[..5]).await;
        raw.write(&ping[5..]).await;
        assert_eq!(raw.event().await["event"], "pong");
    }
}

#[tokio::test]
async fn a_ping_gets_its_pong() {
    let server = Server::new().await;
    let mut raw = Raw::open(server.address).await;
    for payload in [&b""[..], b"x", &[7; 125]] {
        raw.send(PING, payload).await;
        let frame = raw.next().await.unwrap();
        assert_eq!((frame.first, frame.payload.as_slice()), (PONG, payload));
    }
}

#[tokio::test]
async fn a_burst_of_pings_ends_nothing_and_the_newest_is_answered() {
    const PINGS: u32 = 20_000;
    let server = Server::new().await;
    let mut raw = Raw::open(server.address).await;
    // The client does not read meanwhile, so not every pong has room in the socket's buffers.
    let padding = [7; 121];
    let mut burst = Vec::new();
    for number in 1..=PINGS {
        burst.extend(frame(PING, &[&number.to_be_bytes()[..], &padding].concat()));
    }
    raw.write(&burst).await;
    raw.send(TEXT, br#"{"type":"ping","nonce":"after the burst"}"#).await;
    let (mut answered, mut is_served) = (0, false);
    while answered < PINGS || !is_served {
        let frame = raw.next().await.expect("the connection stays open");
        if frame.first == TEXT {
            is_served = true;
            continue;
        }
        assert_eq!((frame.first, frame.payload.len()), (PONG, 125));
        let number = u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
        assert!(number > answered, "{number} after {answered}");
        answered = number;
    }
    raw.works().await;
}

#[tokio::test]
async fn a_peer_that_answers_pings_lives_and_one_that_does_not_is_closed() {
    let options = Options { ping_every: SHORT, pong_within: SHORT, ..Options::default() };
    let server = Server::with(generous_limits(), options, verified()).await;
    let mut good = Raw::open(server.address).await;
    for _ in 0..5 {
        let frame = good.next().await.unwrap();
        assert_eq!(frame.first, PING);
        good.send(PONG, &frame.payload).await;
    }
    good.works().await;
    let mut silent = Raw::open(server.address).await;
    assert_eq!(silent.next().await.unwrap().first, PING);
    let (code, reason) = silent.closed().await;
    assert_eq!((code, reason.as_str()), (1001, "no sign of life"));
}
