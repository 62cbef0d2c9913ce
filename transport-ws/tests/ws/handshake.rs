//! The opening handshake, as raw requests (RFC 6455 section 4.2).

use switchboard_conformance::generous_limits;
use switchboard_core::wire::PROTOCOL as NAME;

use crate::{
    raw::{PROTOCOL, Raw, UPGRADE, frame},
    server::{Server, first_frame, verified},
};

/// The name of a case, a change of the request, and the status of the response. Each request carries credentials.
const TABLE: &[(&str, &str, u16)] = &[
    ("as it should be", "", 101),
    ("another method", "GET /|POST /", 400),
    ("another version of HTTP", "HTTP/1.1|HTTP/1.0", 400),
    ("no Upgrade", "Upgrade: websocket\r\n|", 426),
    ("another Upgrade", "Upgrade: websocket|Upgrade: h2c", 426),
    ("Upgrade in another case", "Upgrade: websocket|uPGRADE: WebSocket", 101),
    ("Upgrade in a list", "Upgrade: websocket|Upgrade: h2c, websocket", 101),
    ("no Connection", "Connection: Upgrade\r\n|", 426),
    ("another Connection", "Connection: Upgrade|Connection: keep-alive", 426),
    ("a token that only contains it", "Connection: Upgrade|Connection: upgrades", 426),
    ("Connection in another case", "Connection: Upgrade|Connection: UPGRADE", 101),
    ("Connection in a list", "Connection: Upgrade|Connection: keep-alive, upgrade", 101),
    ("Connection in two lines", "Connection: Upgrade|Connection: keep-alive\r\nConnection: upgrade", 101),
    ("no version", "Sec-WebSocket-Version: 13\r\n|", 426),
    ("another version", "Version: 13|Version: 8", 426),
    ("two versions", "Version: 13|Version: 13\r\nSec-WebSocket-Version: 8", 426),
    ("no key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n|", 400),
    ("two keys", "Upgrade: websocket|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUpgrade: websocket", 400),
    ("a short key", "dGhlIHNhbXBsZSBub25jZQ==|dGhlIHNhbXBsZQ==", 400),
    ("a long key", "dGhlIHNhbXBsZSBub25jZQ==|dGhlIHNhbXBsZSBub25jZSBhbmQgc28=", 400),
    ("a key that is no base64", "dGhlIHNhbXBsZSBub25jZQ==|dGhlIHNhbXBsZSB?b25jZQ==", 400),
    ("an empty key", "dGhlIHNhbXBsZSBub25jZQ==|", 400),
    ("a body", "Host|Content-Length: 5\r\nHost", 400),
    ("an empty body", "Host|Content-Length: 0\r\nHost", 101),
    ("a body in chunks", "Host|Transfer-Encoding: chunked\r\nHost", 400),
    ("the subprotocol", "Host|Sec-WebSocket-Protocol: switchboard.v1\r\nHost", 101),
    ("the subprotocol in a list", "Host|Sec-WebSocket-Protocol: mqtt, switchboard.v1\r\nHost", 101),
    (
        "the subprotocol in a second line",
        "Host|Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Protocol: switchboard.v1\r\nHost",
        101,
    ),
    ("only other subprotocols", "Host|Sec-WebSocket-Protocol: mqtt, graphql-ws\r\nHost", 400),
    ("the subprotocol in another case", "Host|Sec-WebSocket-Protocol: Switchboard.v1\r\nHost", 400),
];

/// The standard request with the change `FROM|TO`; without a `|`, the request as it is.
fn request(change: &str) -> String {
    let request = format!("{UPGRADE}\r\n");
    let Some((from, to)) = change.split_once('|') else { return request };
    assert!(request.contains(from), "{from}");
    request.replacen(from, to, 1)
}

async fn answer(server: &Server, change: &str) -> (u16, String, Raw) {
    let mut raw = Raw::connect(server.address).await;
    raw.write(request(change).as_bytes()).await;
    let head = raw.head().await;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    (status, head.to_ascii_lowercase(), raw)
}

async fn keep_to_the_table(server: Server) {
    for (name, change, expected) in TABLE {
        let (status, head, mut raw) = answer(&server, change).await;
        assert_eq!(status, *expected, "{name}: {head}");
        if status == 101 {
            assert!(head.contains("\r\nupgrade: websocket\r\n"), "{name}: {head}");
            assert!(head.contains("\r\nconnection: upgrade\r\n"), "{name}: {head}");
            assert!(
                head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
                "{name}: {head}"
            );
            let offered = change.contains("switchboard.v1");
            assert_eq!(head.contains(&format!("\r\nsec-websocket-protocol: {NAME}\r\n")), offered, "{name}");
            assert_eq!(raw.event().await["event"], "ready", "{name}");
        } else {
            assert!(head.contains("\r\nconnection: close\r\n"), "{name}: {head}");
            assert_eq!(head.contains("\r\nsec-websocket-version: 13\r\n"), status == 426, "{name}: {head}");
            // The connection is closed, so that no proxy keeps a tunnel open after the refusal.
            raw.ended().await;
        }
    }
    server.gateway.until(|counts| counts.connections == 0).await.unwrap();
}

#[tokio::test]
async fn upgrades_on_the_own_listener() {
    keep_to_the_table(Server::new().await).await;
}

#[tokio::test]
async fn upgrades_in_an_application() {
    keep_to_the_table(Server::mounted(Some(verified())).await).await;
}

#[tokio::test]
async fn without_credentials_only_the_subprotocol_may_come_in() {
    for server in [
        Server::mounted(Some(first_frame())).await,
        Server::with(generous_limits(), Default::default(), first_frame()).await,
    ] {
        for (change, expected) in [
            ("", 401),
            ("Host|Sec-WebSocket-Protocol: switchboard.v1\r\nHost", 101),
            ("Host|Sec-WebSocket-Protocol: mqtt\r\nHost", 400),
        ] {
            let (status, head, _) = answer(&server, change).await;
            assert_eq!(status, expected, "{change}: {head}");
            assert_eq!(head.contains("\r\nwww-authenticate: bearer\r\n"), status == 401, "{head}");
        }
    }
}

#[tokio::test]
async fn an_application_that_admits_nobody_lets_nobody_in() {
    let server = Server::mounted(None).await;
    for change in ["", "Host|Sec-WebSocket-Protocol: switchboard.v1\r\nHost"] {
        assert_eq!(answer(&server, change).await.0, 401, "{change}");
    }
}

#[tokio::test]
async fn a_refused_upgrade_closes_the_connection() {
    let server = Server::shut().await;
    let (status, head, mut raw) = answer(&server, "").await;
    assert_eq!(status, 403);
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    raw.ended().await;
}

#[tokio::test]
async fn frames_in_the_segment_of_the_request_are_not_lost() {
    for server in [Server::new().await, Server::mounted(Some(verified())).await] {
        let mut raw = Raw::connect(server.address).await;
        let mut bytes = format!("{UPGRADE}\r\n").into_bytes();
        for nonce in 0..100 {
            bytes.extend(frame(0x81, format!(r#"{{"type":"ping","nonce":"{nonce}"}}"#).as_bytes()));
        }
        raw.write(&bytes).await;
        raw.head().await;
        assert_eq!(raw.event().await["event"], "ready");
        for nonce in 0..100 {
            assert_eq!(raw.event().await["nonce"], nonce.to_string());
        }
    }
}

#[tokio::test]
async fn a_client_is_called_what_it_calls_itself() {
    let server = Server::new().await;
    for (query, name) in [("client_id=a%20b", "a b"), ("x=1&client_id=%C3%A9", "é"), ("client_id=+a+", "a")]
    {
        let mut raw = Raw::connect(server.address).await;
        raw.write(request(&format!("GET /|GET /?{query}")).as_bytes()).await;
        raw.head().await;
        assert_eq!(raw.event().await["client_id"], name);
    }
}

#[tokio::test]
async fn compression_is_not_negotiated() {
    let server = Server::new().await;
    let mut raw = Raw::connect(server.address).await;
    let head = raw.upgrade("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n").await;
    assert!(!head.to_ascii_lowercase().contains("sec-websocket-extensions"), "{head}");
    assert_eq!(raw.event().await["event"], "ready");
    // A frame that is marked as compressed, without the extension.
    raw.send(0xc1, b"{}").await;
    assert_eq!(raw.closed().await.0, 1002);
}

#[tokio::test]
async fn a_silent_or_endless_head_is_not_waited_for() {
    let options = switchboard_transport_ws::Options {
        header_within: std::time::Duration::from_millis(200),
        ..Default::default()
    };
    let server = Server::with(generous_limits(), options, verified()).await;
    for bytes in [&b""[..], b"GET / HT", UPGRADE.as_bytes()] {
        let mut raw = Raw::connect(server.address).await;
        raw.write(bytes).await;
        raw.ended().await;
    }
    let mut raw = Raw::connect(server.address).await;
    // The response may be lost, because the server resets the connection instead of reading the rest.
    let sent = raw.io.try_write(format!("{UPGRADE}X: {}\r\n\r\n", "x".repeat(64 * 1024)).as_bytes());
    assert!(sent.is_ok());
    raw.ended().await;
    let (status, _, _) = answer(&server, &format!("Host|{}Host", "X: y\r\n".repeat(65))).await;
    assert_eq!(status, 431);
    assert!(answer(&server, &format!("Host|{PROTOCOL}Host")).await.0 == 101);
}
