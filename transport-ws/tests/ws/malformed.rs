//! Malformed frames: each gets an error with its code, and unless it exceeded a limit, the connection still works.

use serde_json::Value;

use crate::{
    raw::{BINARY, Raw, TEXT, frame, header},
    server::Server,
};

/// The name of a case, an invalid frame, and the code of its error.
const SOFT: &[(&str, &str, &str)] = &[
    ("no JSON", "{", "malformed"),
    ("no JSON at its end", r#"{"type":"ping""#, "malformed"),
    ("something behind it", r#"{"type":"ping"} {}"#, "malformed"),
    ("an array", r#"[{"type":"ping"}]"#, "malformed"),
    ("a type that is no text", r#"{"type":1}"#, "invalid_field"),
    ("an unknown type", r#"{"type":"dance"}"#, "unknown_type"),
    ("a type in another case", r#"{"type":"Ping"}"#, "unknown_type"),
    ("a type that is not served", r#"{"type":"fork_chat","chat_id":"c1"}"#, "unsupported"),
    ("no chat", r#"{"type":"attach"}"#, "invalid_field"),
    ("a chat that is a number", r#"{"type":"attach","chat_id":7}"#, "invalid_field"),
    ("a chat id with a slash", r#"{"type":"attach","chat_id":"../c"}"#, "invalid_field"),
    ("an empty chat id", r#"{"type":"attach","chat_id":""}"#, "invalid_field"),
    ("an unknown chat", r#"{"type":"attach","chat_id":"nowhere"}"#, "unknown_chat"),
    ("a cursor that is text", r#"{"type":"attach","chat_id":"c1","after":"now"}"#, "invalid_field"),
    (
        "a cursor that is negative",
        r#"{"type":"attach","chat_id":"c1","after":{"epoch":"e","seq":-1}}"#,
        "invalid_field",
    ),
    ("a cursor without epoch", r#"{"type":"attach","chat_id":"c1","after":{"seq":1}}"#, "invalid_field"),
    ("no content", r#"{"type":"message","chat_id":"c1"}"#, "missing_field"),
    ("content that is an object", r#"{"type":"message","chat_id":"c1","content":{}}"#, "invalid_field"),
    (
        "a turn with a blank",
        r#"{"type":"message","chat_id":"c1","content":"x","turn_id":"a b"}"#,
        "invalid_field",
    ),
    (
        "a request of no chat",
        r#"{"type":"respond","chat_id":"c1","request_id":"r","decision":"allow"}"#,
        "unknown_chat",
    ),
    ("no decision", r#"{"type":"respond","chat_id":"c1","request_id":"r"}"#, "missing_field"),
    (
        "an unknown decision",
        r#"{"type":"respond","chat_id":"c1","request_id":"r","decision":"maybe"}"#,
        "invalid_field",
    ),
    ("history that is nowhere", r#"{"type":"history","chat_id":"nowhere"}"#, "unknown_chat"),
    ("half a surrogate", r#"{"type":"ping","nonce":"\ud800"}"#, "malformed"),
    ("a NUL in a text", "{\"type\":\"ping\",\"nonce\":\"\0\"}", "malformed"),
];

async fn soft_error(raw: &mut Raw, name: &str, expected: &str) {
    let error = raw.event().await;
    assert_eq!(error["event"], "error", "{name}: {error}");
    assert_eq!(error["code"], expected, "{name}: {error}");
    assert_eq!(error["retryable"], false, "{name}");
    let detail = error["detail"].as_str().unwrap_or_default();
    assert!((5..200).contains(&detail.len()), "{name}: {detail:?}");
    assert_eq!(error.get("close"), None, "{name}");
    raw.works().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_and_the_next_frame_works() {
    let server = Server::new().await;
    let mut raw = Raw::open(server.address).await;
    for (name, text, expected) in SOFT {
        raw.text(text).await;
        soft_error(&mut raw, name, expected).await;
        raw.send(BINARY, text.as_bytes()).await;
        soft_error(&mut raw, name, expected).await;
    }
}

#[tokio::test]
async fn deep_nesting_is_refused_however_deep() {
    let server = Server::new().await;
    let mut raw = Raw::open(server.address).await;
    for depth in [33, 1000, 400_000] {
        let deep = format!(r#"{{"type":"ping","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        raw.text(&deep).await;
        soft_error(&mut raw, "deep", "too_large").await;
        raw.text(&"[".repeat(depth)).await;
        let error: Value = raw.event().await;
        assert_eq!(error["event"], "error", "{error}");
        raw.works().await;
    }
}

#[tokio::test]
async fn text_over_its_limit_is_refused_softly() {
    let server = Server::new().await;
    let mut raw = Raw::open(server.address).await;
    let content = "x".repeat(256 * 1024 + 1);
    raw.text(&format!(r#"{{"type":"message","chat_id":"c1","content":"{content}"}}"#)).await;
    soft_error(&mut raw, "long text", "too_large").await;
}

#[tokio::test]
async fn binary_frames_that_are_not_text_are_refused_softly() {
    let server = Server::new().await;
    let mut raw = Raw::open(server.address).await;
    for bytes in [&b"\xff"[..], b"{\"type\":\"ping\",\"nonce\":\"\xc3\"}", b"\xed\xa0\x80", b"\xc0\xaf"] {
        raw.send(BINARY, bytes).await;
        soft_error(&mut raw, "not UTF-8", "malformed").await;
    }
}

#[tokio::test]
async fn text_frames_that_are_not_text_are_closed() {
    let server = Server::new().await;
    for bytes in [&b"\xff"[..], b"{\"type\":\"ping\",\"nonce\":\"\xc3\"}", b"\xed\xa0\x80"] {
        let mut raw = Raw::open(server.address).await;
        raw.text(r#"{"type":"ping"}"#).await;
        assert_eq!(raw.event().await["event"], "pong");
        raw.send(TEXT, bytes).await;
        assert_eq!(raw.closed().await.0, 1007);
    }
}

#[tokio::test]
async fn a_character_may_be_split_over_fragments() {
    let server = Server::new().await;
    let mut raw = Raw::open(server.address).await;
    let text = r#"{"type":"ping","nonce":"é"}"#.as_bytes();
    let cut = text.iter().position(|byte| *byte == 0xc3).unwrap() + 1;
    raw.send(0x01, &text[..cut]).await;
    raw.send(0x80, &text[cut..]).await;
    assert_eq!(raw.event().await["nonce"], "é");
}

#[tokio::test]
async fn frames_over_the_limit_are_closed() {
    let server = Server::new().await;
    // The length in the frame's header is enough for the refusal.
    let mut raw = Raw::open(server.address).await;
    raw.write(&[header(TEXT, 40 << 20), vec![0; 4]].concat()).await;
    assert_eq!(raw.closed().await.0, 1009);
    // The whole frame, which the server does not read: the close frame reaches a client that is still writing.
    let raw = Raw::open(server.address).await;
    let (mut reader, mut writer) = raw.io.into_split();
    let writing = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        // The server may close the connection at any byte.
        let _ = writer.write_all(&frame(TEXT, &vec![b'x'; 40 << 20])).await;
    });
    let mut received = Vec::new();
    use tokio::io::AsyncReadExt as _;
    // The connection may be reset after the close frame.
    let _ = reader.read_to_end(&mut received).await;
    assert_eq!(received[..1], [0x88], "{received:?}");
    assert_eq!(received[2..4], 1009_u16.to_be_bytes());
    writing.await.unwrap();
    // The limit holds for all fragments of a message together.
    let mut raw = Raw::open(server.address).await;
    raw.send(0x01, &vec![b'x'; 600 << 10]).await;
    raw.send(0x80, &vec![b'x'; 600 << 10]).await;
    assert_eq!(raw.closed().await.0, 1009);
    // The longest frame that is allowed.
    let mut raw = Raw::open(server.address).await;
    let ping = r#"{"type":"ping"}"#;
    raw.text(&format!("{ping}{}", " ".repeat((1 << 20) - ping.len()))).await;
    assert_eq!(raw.event().await["event"], "pong");
}

#[tokio::test]
async fn frames_against_the_standard_are_closed() {
    let server = Server::new().await;
    for (name, bytes) in [
        ("not masked", vec![0x81, 2, b'{', b'}']),
        ("a reserved bit", frame(0xa1, b"{}")),
        ("a reserved opcode", frame(0x83, b"{}")),
        ("a continuation of nothing", frame(0x80, b"{}")),
        ("a second beginning", [frame(0x01, b"{"), frame(0x81, b"}")].concat()),
        ("a ping in pieces", frame(0x09, b"")),
        ("a long ping", frame(0x89, &[0; 126])),
    ] {
        let mut raw = Raw::open(server.address).await;
        raw.write(&bytes).await;
        assert_eq!(raw.closed().await.0, 1002, "{name}");
    }
    server.gateway.until(|counts| counts.connections == 0).await.unwrap();
}
