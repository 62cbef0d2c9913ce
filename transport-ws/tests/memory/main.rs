//! The memory that a hostile client can use. A process of its own, because other tests would count.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
#[path = "../ws/raw.rs"]
mod raw;
#[allow(dead_code, reason = "shared with the other tests, which use more of it")]
#[path = "../ws/server.rs"]
mod server;

use raw::{PING, Raw, frame};
use server::Server;

#[tokio::test]
async fn hostile_peers_cost_little() {
    a_message_in_a_million_pieces_is_closed_and_costs_nothing().await;
    a_flood_of_pings_whose_pongs_are_not_read_costs_no_memory_and_others_are_served().await;
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

async fn a_message_in_a_million_pieces_is_closed_and_costs_nothing() {
    let server = Server::new().await;
    let raw = Raw::open(server.address).await;
    let mut good = Raw::open(server.address).await;
    let mut bytes = frame(0x01, b"[");
    let piece = frame(0x00, b"[");
    for _ in 0..1_000_000 {
        bytes.extend_from_slice(&piece);
    }
    let before = resident();
    let (mut reader, mut writer) = raw.io.into_split();
    let writing = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        // The server closes the connection before everything is written.
        let _ = writer.write_all(&bytes).await;
    });
    let mut received = Vec::new();
    {
        use tokio::io::AsyncReadExt as _;
        // The connection may be reset after the close frame.
        let _ = reader.read_to_end(&mut received).await;
    }
    assert_eq!(received[..1], [0x88], "{received:?}");
    assert_eq!(received[2..4], 1008_u16.to_be_bytes());
    writing.await.unwrap();
    let grown = resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more");
    good.works().await;
}

async fn a_flood_of_pings_whose_pongs_are_not_read_costs_no_memory_and_others_are_served() {
    let server = Server::new().await;
    let mut raw = Raw::connect_narrow(server.address).await;
    raw.upgrade("").await;
    let mut good = Raw::open(server.address).await;
    let pings = frame(PING, &[7; 125]).repeat(1000);
    let before = resident();
    // The connection stays open, since the client takes a pong now and then. Only the newest pong waits.
    let flood = async {
        use tokio::io::AsyncWriteExt as _;
        for _ in 0..200 {
            if raw.io.write_all(&pings).await.is_err() {
                break;
            }
        }
    };
    let mut served = 0;
    let others = async {
        loop {
            good.works().await;
            served += 1;
        }
    };
    let until_sent = async {
        tokio::select! {
            () = flood => {}
            () = others => {}
        }
    };
    tokio::time::timeout(switchboard_conformance::WAIT, until_sent).await.expect("it is read");
    assert!(served > 0, "others are served meanwhile");
    let grown = resident().saturating_sub(before);
    assert!(grown < 2 << 20, "{grown} bytes more");
    good.works().await;
}
