//! Random bytes, most of them almost valid. The server neither panics nor hangs, and still serves a good client at the
//! end.

use std::time::Duration;

use switchboard_conformance::{
    WAIT, generous_limits,
    random::{Random, Run},
};
use switchboard_transport_ws::Options;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    raw::{PROTOCOL, Raw, UPGRADE, frame},
    server::{Server, TOKEN, first_frame, verified},
};

/// Frames that exist on WebSocket only.
const MORE: &[&str] = &[r#"{"type":"authenticate","token":"0123456789abcdef"}"#, "hello"];

/// A valid payload, perhaps damaged.
fn payload(random: &mut Random) -> Vec<u8> {
    if random.below(5) > 0 {
        return random.frame();
    }
    random.made(1);
    let mut bytes = random.one_of(MORE).as_bytes().to_vec();
    random.damage(&mut bytes, 4);
    bytes
}

fn frames(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(6) {
        let first =
            if random.below(4) > 0 { 0x81 + u8::try_from(random.below(2)).unwrap() } else { random.byte() };
        let mut frame = frame(first, &payload(random));
        if random.below(8) == 0 {
            let at = random.below(frame.len());
            frame[at] = random.byte();
        }
        bytes.extend(frame);
    }
    if random.below(4) == 0 {
        bytes.truncate(random.below(bytes.len()));
    }
    bytes
}

#[tokio::test]
async fn random_bytes_do_no_harm() {
    let mut run = Run::begin();
    let short = Duration::from_millis(100);
    let options = Options { authenticate_within: short, message_within: short, ..Options::default() };
    let open = Server::with(run.limits(generous_limits()), options.clone(), verified()).await;
    let closed = Server::with(run.limits(generous_limits()), options, first_frame()).await;
    let mut good = Raw::open(open.address).await;
    while run.goes_on() {
        timeout(WAIT, one(&mut run.random, &open, &closed)).await.expect("nothing hangs");
        good.works().await;
    }
    open.gateway.until(|counts| counts.connections == 1).await.unwrap();
    closed.gateway.until(|counts| counts.connections == 0).await.unwrap();
    good.works().await;
    let mut late = Raw::connect(closed.address).await;
    late.upgrade(PROTOCOL).await;
    late.text(&format!(r#"{{"type":"authenticate","token":"{TOKEN}"}}"#)).await;
    assert_eq!(late.event().await["event"], "ready");
    run.end();
}

/// Opens a connection, sends random bytes, and ends the connection.
async fn one(random: &mut Random, open: &Server, closed: &Server) {
    let (server, more) = if random.below(3) == 0 { (closed, PROTOCOL) } else { (open, "") };
    let mut head = format!("{UPGRADE}{more}\r\n").into_bytes();
    if random.below(10) == 0 {
        let at = random.below(head.len());
        head[at] = random.byte();
    }
    let mut raw = Raw::connect(server.address).await;
    let mut bytes = head;
    for _ in 0..1 + random.below(3) {
        bytes.extend(frames(random));
    }
    // The server may close the connection at any byte.
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
