//! Limits on what a peer may leave open, and signs of life.

use std::time::Duration;

use switchboard_transport_ws::Options;

use crate::{
    raw::{PING, PONG, Raw, TEXT, frame, header},
    site::{Site, generous, verified},
};

const SHORT: Duration = Duration::from_millis(150);

/// Bytes of memory that this process has in use.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test]
async fn a_message_in_a_million_pieces_is_closed_and_costs_nothing() {
    let site = Site::new().await;
    let raw = Raw::open(site.address).await;
    let mut good = Raw::open(site.address).await;
    let mut bytes = frame(0x01, b"[");
    let piece = frame(0x00, b"[");
    for _ in 0..1_000_000 {
        bytes.extend_from_slice(&piece);
    }
    let before = resident();
    let (mut reader, mut writer) = raw.io.into_split();
    let writing = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        // It is cut off early.
        let _ = writer.write_all(&bytes).await;
    });
    let mut received = Vec::new();
    {
        use tokio::io::AsyncReadExt as _;
        // Closed, and after that perhaps reset.
        let _ = reader.read_to_end(&mut received).await;
    }
    assert_eq!(received[..1], [0x88], "{received:?}");
    assert_eq!(received[2..4], 1008_u16.to_be_bytes());
    writing.await.unwrap();
    let grown = resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more");
    good.works().await;
}

#[tokio::test]
async fn as_many_pieces_as_may_be_are_one_message() {
    let site = Site::new().await;
    let mut raw = Raw::open(site.address).await;
    let text = format!("{:1024}", r#"{"type":"ping","nonce":"pieces"}"#);
    let mut bytes = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        let first = if at == 0 { 0x01 } else { 0x00 };
        bytes.extend(frame(if at == 1023 { first | 0x80 } else { first }, &[byte]));
        // Control frames may come between the pieces, and are none.
        bytes.extend(frame(PONG, b""));
    }
    raw.write(&bytes).await;
    assert_eq!(raw.event().await["nonce"], "pieces");
}

#[tokio::test]
async fn a_message_that_does_not_end_is_closed() {
    let options = Options { message_within: SHORT, ..Options::default() };
    let site = Site::with(generous(), options, verified()).await;
    for bytes in
        [frame(0x01, b"{"), header(TEXT, 100), vec![0x81], frame(TEXT, br#"{"type":"ping"}"#)[..10].to_vec()]
    {
        let mut raw = Raw::open(site.address).await;
        raw.write(&bytes).await;
        assert_eq!(raw.closed().await.0, 1008, "{bytes:?}");
    }
    // A slow one that makes it is served, and so are many that follow closely on one another.
    let mut raw = Raw::open(site.address).await;
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
    let site = Site::new().await;
    let mut raw = Raw::open(site.address).await;
    for payload in [&b""[..], b"x", &[7; 125]] {
        raw.send(PING, payload).await;
        let frame = raw.next().await.unwrap();
        assert_eq!((frame.first, frame.payload.as_slice()), (PONG, payload));
    }
}

#[tokio::test]
async fn a_peer_that_answers_pings_lives_and_one_that_does_not_is_closed() {
    let options = Options { ping_every: SHORT, pong_within: SHORT, ..Options::default() };
    let site = Site::with(generous(), options, verified()).await;
    let mut good = Raw::open(site.address).await;
    for _ in 0..5 {
        let frame = good.next().await.unwrap();
        assert_eq!(frame.first, PING);
        good.send(PONG, &frame.payload).await;
    }
    good.works().await;
    let mut silent = Raw::open(site.address).await;
    assert_eq!(silent.next().await.unwrap().first, PING);
    let (code, reason) = silent.closed().await;
    assert_eq!((code, reason.as_str()), (1001, "no sign of life"));
}

#[tokio::test]
async fn a_flood_of_pings_that_nobody_reads_the_answers_to_ends() {
    let site = Site::new().await;
    let raw = Raw::connect_narrow(site.address).await;
    let mut raw = raw;
    raw.upgrade("").await;
    let mut good = Raw::open(site.address).await;
    let pings = frame(PING, &[7; 125]).repeat(1000);
    let before = resident();
    // It is refused once its answers fill its own buffers and the allowance.
    let flood = async {
        use tokio::io::AsyncWriteExt as _;
        while raw.io.write_all(&pings).await.is_ok() {}
    };
    tokio::time::timeout(switchboard_conformance::WAIT, flood).await.expect("it is cut off");
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
    good.works().await;
}
