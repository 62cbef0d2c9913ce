//! Access control, with raw requests.

use serde_json::json;
use switchboard_gateway::http::routes;
use tokio_tungstenite::tungstenite::{client::IntoClientRequest, http::header};

use switchboard_test_support::{Client, Gateway, Response, UPGRADE_HEADERS};

const HOSTILE_HOSTS: [&str; 20] = [
    "attacker.example",
    "attacker.example:PORT",
    "0.0.0.0:PORT",
    "0:PORT",
    "127.1:PORT",
    "127.0.0.1",
    "127.0.0.1:1",
    "127.0.0.1:0PORT",
    "127.0.0.1.:PORT",
    "127.evil.example:PORT",
    "2130706433:PORT",
    "0x7f000001:PORT",
    "[::ffff:127.0.0.1]:PORT",
    "localhost.:PORT",
    "localhost.evil.example:PORT",
    "evil.localhost:PORT",
    "user@127.0.0.1:PORT",
    "127.0.0.1:PORT@evil.example",
    "app.example.com.evil.example",
    "evil-app.example.com",
];

const HOSTILE_ORIGINS: [&str; 20] = [
    "null",
    "https://attacker.example",
    "http://attacker.example:PORT",
    "https://app.example.com.evil.example",
    "https://evil-app.example.com",
    "https://app.example.com:444",
    "https://app.example.com@evil.example",
    "https://app.example.com/",
    "http://app.example.com",
    "app.example.com",
    "https://127.0.0.1:PORT",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://127.evil.example:PORT",
    "http://0.0.0.0:PORT",
    "http://localhost:PORT.evil.example",
    "http://localhost:PORT/x",
    "http://[::ffff:127.0.0.1]:PORT",
    "file://",
    "*",
];

fn gateway() -> Gateway {
    Gateway::start(&["--allow-host", "app.example.com"])
}

/// Each kind of request: for the page, for a route with a token, and an upgrade with a token.
fn ask_all(gateway: &Gateway, host: Option<&str>, further: &[&str]) -> Vec<Response> {
    let bearer = gateway.bearer();
    let own = format!("Host: {}", gateway.address);
    let host = host.unwrap_or(&own);
    let mut answers = Vec::new();
    for (target, credentials, upgrade) in [
        ("/", false, false),
        ("/", true, true),
        ("/ws", true, true),
        ("/healthz", true, false),
        ("/sse", true, false),
    ] {
        let start = format!("GET {target} HTTP/1.1");
        let mut lines = vec![start.as_str(), host];
        lines.extend(further);
        if upgrade {
            lines.extend(UPGRADE_HEADERS);
        } else {
            lines.push("Connection: close");
        }
        if credentials {
            lines.push(&bearer);
        }
        answers.push(gateway.raw(&lines));
    }
    answers
}

#[test]
fn hostile_hosts_are_refused_on_every_route() {
    let gateway = gateway();
    let port = gateway.address.port().to_string();
    for host in HOSTILE_HOSTS {
        let host = host.replace("PORT", &port);
        let origin = format!("Origin: http://{host}");
        for answer in ask_all(&gateway, Some(&format!("Host: {host}")), &[&origin]) {
            // A value that is no host may be refused by the HTTP parser.
            assert!([400, 403].contains(&answer.status()), "{host}: {}", answer.head);
        }
    }
}

#[test]
fn hostile_origins_are_refused_on_every_route_with_a_good_token() {
    let gateway = gateway();
    let port = gateway.address.port().to_string();
    for origin in HOSTILE_ORIGINS {
        let origin = format!("Origin: {}", origin.replace("PORT", &port));
        for answer in ask_all(&gateway, None, &[&origin]) {
            assert_eq!(answer.status(), 403, "{origin}: {}", answer.head);
            assert_eq!(answer.header("connection"), Some("close"), "{origin}");
        }
    }
}

#[test]
fn a_missing_or_repeated_host_is_refused() {
    let gateway = gateway();
    let host = format!("Host: {}", gateway.address);
    let bearer = gateway.bearer();
    assert_eq!(gateway.raw(&["GET / HTTP/1.1"]).status(), 400);
    assert_eq!(gateway.raw(&["GET /healthz HTTP/1.1", &bearer]).status(), 400);
    assert_eq!(gateway.raw(&["GET / HTTP/1.1", &host, &host]).status(), 400);
    assert_eq!(gateway.raw(&["GET / HTTP/1.1", &host, "Host: attacker.example"]).status(), 400);
    let absolute = format!("GET http://{}/healthz HTTP/1.1", gateway.address);
    assert_eq!(gateway.raw(&[&absolute, &host, &bearer]).status(), 400);
    assert_eq!(gateway.raw(&["GET http://attacker.example/ HTTP/1.1", &host]).status(), 400);
    assert_eq!(gateway.raw(&["GET / HTTP/1.0", &host]).status(), 505);
}

#[test]
fn every_route_but_the_page_needs_credentials() {
    let gateway = gateway();
    let bearer = gateway.bearer();
    let routes = routes();
    assert!(routes.iter().filter(|route| !route.is_page).count() >= 3);
    for route in &routes {
        let answer = gateway.get(&route.path, &[]);
        assert_eq!(answer.status(), if route.is_page { 200 } else { 401 }, "{route:?}");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = gateway.request(method, &route.path, &["Content-Length: 0"]);
            assert_eq!(answer.status(), 401, "{method} {route:?}");
        }
        for wrong in ["Authorization: Bearer wrong", "Authorization: Basic b3duZXI6eA==", "Cookie: token=x"] {
            let answer = gateway.get(&route.path, &[wrong]);
            let expected: &[u16] = if route.is_page { &[200] } else { &[401, 429] };
            assert!(expected.contains(&answer.status()), "{wrong} {route:?}: {}", answer.head);
        }
        assert_ne!(gateway.request_head("GET", &route.path, &[&bearer]).status(), 401, "{route:?}");
        assert_eq!(gateway.upgrade(&route.path, &[]).status(), 401, "{route:?}");
    }
    for path in ["/nothing", "/metrics", "/ws/", "//", "/index.html/..", "/.%2e/", "/assets/", "/%00"] {
        assert_eq!(gateway.get(path, &[]).status(), 401, "{path}");
    }
    assert_eq!(gateway.get("/nothing", &[&bearer]).status(), 404);
    assert_eq!(gateway.get("/healthz", &[&bearer]).body, b"ok\n");
    assert_eq!(gateway.get("/readyz", &[&bearer]).body, b"ready\n");
}

#[test]
fn upgrades_need_credentials_now_or_in_the_first_frame() {
    let gateway = gateway();
    let token = gateway.token();
    let bearer = gateway.bearer();
    let protocol = "Sec-WebSocket-Protocol: switchboard.v1";
    for path in ["/", "/ws"] {
        let check = |query: &str, headers: &[&str], status: u16| {
            let answer = gateway.upgrade(&format!("{path}{query}"), headers);
            assert_eq!(answer.status(), status, "{path}{query} {headers:?}: {}", answer.head);
            if status != 101 {
                assert_eq!(answer.header("connection"), Some("close"), "{headers:?}");
            }
        };
        check("", &[], 401);
        check("", &[protocol], 101);
        check("", &["Sec-WebSocket-Protocol: other"], 401);
        check("", &["Sec-WebSocket-Protocol: other", &bearer], 400);
        check("", &[&bearer], 101);
        check("", &[&bearer, "Origin: https://app.example.com"], 101);
        check("", &[&bearer, &format!("Origin: http://{}", gateway.address)], 101);
        check(&format!("?token={token}"), &[], 101);
        check(&format!("?token={token}&client_id=x"), &[&bearer], 101);
        check("?token=other", &[&bearer], 401);
        check(&format!("?token={token}"), &["Authorization: Bearer other"], 401);
        check("?token=other", &[protocol], 401);
        check("", &[&bearer, "Sec-WebSocket-Extensions: permessage-deflate"], 101);
    }
    let deflate = gateway.upgrade("/", &[&bearer, "Sec-WebSocket-Extensions: permessage-deflate"]);
    assert_eq!(deflate.header("sec-websocket-extensions"), None, "compression is not negotiated");
}

#[test]
fn a_first_frame_authenticates_or_ends_the_connection() {
    let gateway = gateway();
    let open = || {
        let mut request = format!("ws://{}/ws", gateway.address).into_client_request().unwrap();
        let protocol = header::HeaderValue::from_static("switchboard.v1");
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        gateway.websocket_with(request).unwrap().0
    };
    let mut good = open();
    good.send(&json!({"type": "authenticate", "token": gateway.token()}));
    assert_eq!(good.next().unwrap()["event"], "ready");
    let mut wrong = open();
    wrong.send(&json!({"type": "authenticate", "token": "wrong"}));
    while let Some(event) = wrong.next() {
        assert_ne!(event["event"], "ready");
    }
    let log = gateway.log();
    assert!(log.contains("authenticated") && log.contains("first_frame"), "{log}");
}

#[test]
fn without_authentication_only_own_pages_and_programs_pass() {
    let gateway = Gateway::start(&["--no-auth"]);
    assert!(gateway.announced.contains("--no-auth"), "{}", gateway.announced);
    assert!(!gateway.announced.contains("#token"), "{}", gateway.announced);
    let own = format!("Origin: http://{}", gateway.address);
    for (headers, status) in [
        (&[][..], 101),
        (&["Sec-Fetch-Site: none"], 101),
        (&["Sec-Fetch-Site: same-origin"], 101),
        (&["Sec-Fetch-Site: cross-site"], 403),
        (&["Sec-Fetch-Site: same-site"], 403),
        (&[&*own, "Sec-Fetch-Site: same-origin"], 101),
        (&["Origin: null"], 403),
        (&["Origin: https://attacker.example"], 403),
    ] {
        assert_eq!(gateway.upgrade("/ws", headers).status(), status, "{headers:?}");
    }
    assert_eq!(gateway.get("/healthz", &[]).status(), 200);
    assert_eq!(gateway.get("/healthz", &["Sec-Fetch-Site: cross-site"]).status(), 403);
    assert_eq!(gateway.raw(&["GET /healthz HTTP/1.1", "Host: attacker.example"]).status(), 403);
}
