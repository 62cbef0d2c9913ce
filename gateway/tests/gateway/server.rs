//! Abuse of HTTP: its limits, and the headers of the page.

use std::{
    io::{Read, Write},
    time::Instant,
};

use serde_json::json;
use switchboard_gateway::http::routes;
use tokio_tungstenite::tungstenite::{
    client::IntoClientRequest as _,
    http::{HeaderValue, header},
};

use switchboard_test_support::{
    Client, ECHO_AGENT, Gateway, TIMEOUT, UPGRADE_HEADERS, config_file, connect, eventually,
};

/// The number of responses in these bytes.
fn responses(bytes: &[u8]) -> usize {
    bytes.windows(9).filter(|nine| *nine == b"HTTP/1.1 ").count()
}

#[test]
fn nothing_is_smuggled_behind_a_refused_upgrade() {
    let gateway = Gateway::start(&[]);
    let bearer = gateway.bearer();
    let host = format!("Host: {}", gateway.address);
    let inner = format!("GET /healthz HTTP/1.1\r\n{host}\r\n{bearer}\r\n\r\n");
    let length = format!("Content-Length: {}", inner.len());
    let cases: [(&str, &[&str]); 6] = [
        ("POST /ws HTTP/1.1", &[]),
        ("GET /ws HTTP/1.1", &[&length]),
        ("GET /ws HTTP/1.1", &["Transfer-Encoding: chunked"]),
        ("GET /ws HTTP/1.1", &[&length, "Transfer-Encoding: chunked"]),
        ("GET /ws HTTP/1.1", &["Sec-WebSocket-Version: 12"]),
        ("GET /nothing HTTP/1.1", &[]),
    ];
    for (start, further) in cases {
        let mut lines = vec![start, &host, &bearer];
        lines.extend(UPGRADE_HEADERS);
        lines.extend(further);
        let mut stream = gateway.tcp();
        stream.write_all(format!("{}\r\n\r\n{inner}", lines.join("\r\n")).as_bytes()).unwrap();
        let mut bytes = Vec::new();
        // Closed or reset.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(responses(&bytes), 1, "{start} {further:?}: {text}");
        assert!(!text.starts_with("HTTP/1.1 101"), "{start} {further:?}: {text}");
        assert!(!text.contains("ok\n"), "{start} {further:?}: {text}");
    }
    // The same without credentials.
    let mut stream = gateway.tcp();
    stream
        .write_all(
            format!("GET /ws HTTP/1.1\r\n{host}\r\n{}\r\n\r\n{inner}", UPGRADE_HEADERS.join("\r\n"))
                .as_bytes(),
        )
        .unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    assert_eq!(responses(&bytes), 1, "{}", String::from_utf8_lossy(&bytes));
}

#[test]
fn a_slow_head_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_file(dir.path(), "[limits]\nheader_timeout_ms = \"300 ms\"\n");
    let gateway = Gateway::start(&["--config", config.to_str().unwrap()]);
    let mut silent = gateway.tcp();
    let mut half = gateway.tcp();
    half.write_all(b"GET / HTTP/1.1\r\nHost: x").unwrap();
    for stream in [&mut silent, &mut half] {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        assert!(!bytes.starts_with(b"HTTP/1.1 200"));
    }
    // A byte now and then does not extend the time.
    let mut dripping = gateway.tcp();
    let mut bytes = b"GET / HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
    eventually("the connection is closed", || dripping.write_all(&[*bytes.next().unwrap()]).is_err());
}

#[test]
fn a_large_head_is_refused() {
    let gateway = Gateway::start(&[]);
    let host = format!("Host: {}\r\n", gateway.address);
    let many: String = (0..65).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = format!("X: {}\r\n", "x".repeat(1024 * 1024));
    for head in [many, long] {
        let mut stream = gateway.tcp();
        // The gateway may refuse the request before all of it is written.
        let _ = stream.write_all(format!("GET / HTTP/1.1\r\n{host}{head}\r\n").as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 431"), "{text}");
    }
    assert_eq!(gateway.get("/", &[]).status(), 200, "others are served");
}

#[test]
fn ten_thousand_wrong_tokens_do_not_keep_a_good_client_out() {
    let gateway = Gateway::start(&[]);
    let address = gateway.address;
    let guessers: Vec<_> = (0..8)
        .map(|guesser| {
            std::thread::spawn(move || {
                let mut limited = 0;
                for guess in 0..1250 {
                    let mut stream = connect(address);
                    let request = format!(
                        "GET /healthz HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {guesser}-{guess}\r\n\r\n"
                    );
                    stream.write_all(request.as_bytes()).unwrap();
                    let mut bytes = Vec::new();
                    stream.read_to_end(&mut bytes).unwrap();
                    let limit = bytes.starts_with(b"HTTP/1.1 429 ");
                    assert!(limit || bytes.starts_with(b"HTTP/1.1 401 "));
                    limited += usize::from(limit);
                }
                limited
            })
        })
        .collect();
    let limited: usize = guessers.into_iter().map(|guesser| guesser.join().unwrap()).sum();
    assert!(limited >= 9900, "{limited}");
    assert_eq!(gateway.get("/healthz", &[&gateway.bearer()]).status(), 200);
    let lines = gateway.log().matches("authentication failed").count();
    assert!(lines < 100, "the log is not flooded: {lines} lines");
}

#[test]
fn the_page_is_served_with_its_headers() {
    let gateway = Gateway::start(&[]);
    for route in routes().iter().filter(|route| route.is_page) {
        let answer = gateway.get(&route.path, &[]);
        assert_eq!(answer.status(), 200, "{}", route.path);
        let header = |name: &str| answer.header(name).unwrap_or_else(|| panic!("{name} of {}", route.path));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin");
        let policy = header("content-security-policy");
        for part in ["default-src 'none'", "connect-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"]
        {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("cache-control").contains("immutable"), route.path.starts_with("/assets/"));
        let known = gateway.get(&route.path, &[&format!("If-None-Match: {}", header("etag"))]);
        assert_eq!((known.status(), known.body.len()), (304, 0), "{}", route.path);
        let head = gateway.request("HEAD", &route.path, &[]);
        assert_eq!((head.status(), head.body.len()), (200, 0), "{}", route.path);
    }
}

#[test]
fn a_subpath_works_whether_the_proxy_strips_it_or_not() {
    let gateway = Gateway::start(&["--base-path", "/chat/"]);
    assert!(gateway.announced.contains("/chat/#token="), "{}", gateway.announced);
    let bearer = gateway.bearer();
    for path in ["/chat/", "/"] {
        assert_eq!(gateway.get(path, &[]).status(), 200, "{path}");
    }
    let redirect = gateway.get("/chat", &[]);
    assert_eq!((redirect.status(), redirect.header("location")), (308, Some("/chat/")));
    for path in ["/chat/ws", "/ws", "/chat", "/chat/"] {
        assert_eq!(gateway.upgrade(path, &[&bearer]).status(), 101, "{path}");
    }
    assert_eq!(gateway.get("/chat/healthz", &[&bearer]).status(), 200);
    assert_eq!(gateway.get("/chat/healthz", &[]).status(), 401);
    assert_eq!(gateway.get("/chatter/healthz", &[&bearer]).status(), 404);
}

#[test]
fn connections_beyond_the_cap_wait_for_room() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_file(dir.path(), "[limits]\nhttp_connections = 2\n");
    let gateway = Gateway::start(&["--config", config.to_str().unwrap()]);
    let idle = [gateway.tcp(), gateway.tcp()];
    let mut third = gateway.tcp();
    write!(third, "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", gateway.address).unwrap();
    third.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let mut first_byte = [0];
    assert!(third.read(&mut first_byte).is_err(), "it is not served yet");
    drop(idle);
    third.set_read_timeout(Some(TIMEOUT)).unwrap();
    third.read_exact(&mut first_byte).unwrap();
    assert_eq!(&first_byte, b"H");
}

#[test]
fn idle_connections_leave_descriptors_for_agents() {
    let gateway = Gateway::start_with(|command| {
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]);
        limited.arg(command.get_program()).args(command.get_args()).args(ECHO_AGENT);
        *command = limited;
    });
    let mut client = gateway.unix();
    let _idle: Vec<_> = (0..60).map(|_| gateway.tcp()).collect();
    // When this request is answered, the gateway has accepted the connections that it accepts.
    let chat = client.new_chat();
    client.message(&chat, "turn-1", "hello");
    let end = client.wait_for("turn_end");
    assert_eq!(end["outcome"], "completed", "{}", gateway.log());
}

#[test]
fn connections_without_credentials_are_bounded_and_keep_nobody_out_who_has_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let limits = "[limits]\nunauthenticated_per_address = 3\nheader_timeout_ms = \"5 min\"\n";
    let config = config_file(dir.path(), limits);
    let gateway = Gateway::start(&["--config", config.to_str().unwrap()]);
    let protocol = "Sec-WebSocket-Protocol: switchboard.v1";
    let (held, mut half) = ([gateway.tcp(), gateway.tcp()], gateway.tcp());
    half.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut silent = gateway.tcp();
    let mut told = String::new();
    silent.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{told}");
    assert!(told.contains("Retry-After: ") && told.contains("have shown no credentials"), "{told}");
    let refused = gateway.get("/", &[]);
    assert_eq!((refused.status(), refused.header("connection")), (503, Some("close")));
    assert!(String::from_utf8_lossy(&refused.body).contains("\"unavailable\""));
    assert_eq!(gateway.upgrade("/ws", &[protocol]).status(), 503);
    // A client with the token is served, and its connection does not count.
    let bearer = gateway.bearer();
    let _open: Vec<_> = (0..5).map(|_| gateway.websocket()).collect();
    assert_eq!(gateway.get("/healthz", &[&bearer]).status(), 200);
    assert_eq!(gateway.get("/healthz", &["Authorization: Bearer wrong"]).status(), 401);
    drop(held);
    let until = |what: &str, is: &mut dyn FnMut() -> bool| {
        let began = Instant::now();
        while !is() {
            assert!(began.elapsed() < TIMEOUT, "{what}");
        }
    };
    until("what is closed leaves room", &mut || gateway.get("/", &[]).status() == 200);
    // A connection that has yet to send its first frame counts until it has sent it.
    let mut owing = Vec::new();
    until("two may owe their first frames", &mut || {
        let mut request = format!("ws://{}/ws", gateway.address).into_client_request().unwrap();
        let protocol = HeaderValue::from_static("switchboard.v1");
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        owing.extend(gateway.websocket_with(request).map(|(client, _)| client));
        owing.len() == 2
    });
    assert_eq!(gateway.get("/", &[]).status(), 503);
    for client in &mut owing {
        client.send(&json!({ "type": "authenticate", "token": gateway.token() }));
        assert_eq!(client.next().unwrap()["event"], "ready");
    }
    until("those who have shown the token count no more", &mut || gateway.get("/", &[]).status() == 200);
    let log = gateway.log();
    assert!(log.contains("too_many_connections_without_credentials"), "{log}");
}

/// The resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_large_frames_took_of_memory_is_given_back() {
    const CONNECTIONS: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let config = config_file(dir.path(), "[limits]\nconnections_per_principal = \"off\"\n");
    let gateway = Gateway::start_with(|command| {
        command.args(ECHO_AGENT).arg("--config").arg(&config);
    });
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| gateway.websocket()).collect();
    for client in &mut clients {
        client.send(&json!({"type": "ping", "nonce": "small"}));
        client.wait_for("pong");
    }
    let before = resident(gateway.pid());
    let padding = "p".repeat(1024 * 1024 - 100);
    for client in &mut clients {
        client.send(&json!({"type": "ping", "nonce": "large", "padding": padding}));
        client.wait_for("pong");
    }
    let after = resident(gateway.pid());
    assert!(after < before + 32 * 1024, "{before} KiB before, {after} after {CONNECTIONS} frames of 1 MiB");
    // These connections still work, with whole requests and with pieces of requests.
    for client in &mut clients {
        client.send(&json!({"type": "ping", "nonce": "again"}));
        assert_eq!(client.wait_for("pong")["nonce"], "again");
    }
}
