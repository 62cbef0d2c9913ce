//! The decisions of access control, check by check.

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const HOST: &str = "127.0.0.1:8765";

struct Fixture {
    access_control: AccessControl,
    _dir: tempfile::TempDir,
}

fn access_control(auth: bool) -> Fixture {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(TOKEN.as_bytes()).unwrap();
    let allowed = Authority::parse("app.example.com").unwrap();
    let names = Names::new(&[HOST.parse().unwrap()], &[allowed], &[]);
    let authenticator =
        auth.then(|| Arc::new(Authenticator::new(Tokens::new(&path), Throttle::new(1000), 2)));
    Fixture { access_control: AccessControl::new(names, authenticator), _dir: dir }
}

/// The code of the refusal, or how the request was admitted.
fn decide(access_control: &Fixture, access: Access, target: &str, headers: &[(&str, &str)]) -> &'static str {
    decide_about(PeerAddress::From("127.0.0.1".parse().unwrap()), access_control, access, target, headers)
}

fn decide_about(
    peer: PeerAddress,
    access_control: &Fixture,
    access: Access,
    target: &str,
    headers: &[(&str, &str)],
) -> &'static str {
    let mut request = Request::builder().uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    match access_control.access_control.admit(&request.body(()).unwrap(), access, peer) {
        Ok(None) => "page",
        Ok(Some(Admission::Verified(_))) => "verified",
        Ok(Some(Admission::FirstFrame(_))) => "first_frame",
        Err(refusal) => refusal.code(),
    }
}

const HOSTILE_HOSTS: [&str; 24] = [
    "attacker.example",
    "attacker.example:8765",
    "0.0.0.0:8765",
    "0:8765",
    "127.1:8765",
    "127.0.0.1",
    "127.0.0.1:80",
    "127.0.0.1:8766",
    "127.0.0.1:08765",
    "127.0.0.1:8765:8765",
    "127.0.0.1.:8765",
    "127.evil.example:8765",
    "2130706433:8765",
    "0x7f.0.0.1:8765",
    "0177.0.0.1:8765",
    "[::ffff:127.0.0.1]:8765",
    "[::1%lo]:8765",
    "localhost.:8765",
    "localhost.evil.example:8765",
    "localhost@evil.example:8765",
    "user:pass@127.0.0.1:8765",
    "app.example.com.evil.example",
    "xapp.example.com",
    "app.example.com:8443",
];

const HOSTILE_ORIGINS: [&str; 24] = [
    "null",
    "",
    "*",
    "https://attacker.example",
    "https://app.example.com.evil.example",
    "https://evilapp.example.com",
    "https://app.example.com:8443",
    "https://app.example.com@evil.example",
    "https://app.example.com/",
    "https://app.example.com ",
    "http://app.example.com",
    "ftp://app.example.com",
    "app.example.com",
    "//app.example.com",
    "https://127.0.0.1:8765",
    "http://127.0.0.1",
    "http://127.0.0.1:8766",
    "http://127.evil.example:8765",
    "http://0.0.0.0:8765",
    "http://localhost:8765.evil.example",
    "http://localhost:8765/path",
    "http://[::ffff:7f00:1]:8765",
    "file://",
    "chrome-extension://abcdefghijklmnop",
];

#[test]
fn hostile_hosts_are_refused_with_and_without_a_token() {
    let bearer = format!("Bearer {TOKEN}");
    for auth in [true, false] {
        let access_control = access_control(auth);
        for host in HOSTILE_HOSTS {
            let origin = format!("http://{host}");
            for access in [Access::Open, Access::Credentials] {
                assert_eq!(decide(&access_control, access, "/", &[("host", host)]), "host_foreign", "{host}");
                let headers = [("host", host), ("origin", &*origin), ("authorization", &*bearer)];
                assert_eq!(decide(&access_control, access, "/", &headers), "host_foreign", "{host}");
            }
        }
    }
}

#[test]
fn hostile_origins_are_refused_with_and_without_a_token() {
    let bearer = format!("Bearer {TOKEN}");
    for auth in [true, false] {
        let access_control = access_control(auth);
        for origin in HOSTILE_ORIGINS {
            for access in [Access::Open, Access::Credentials] {
                let headers = [("host", HOST), ("origin", origin), ("authorization", &*bearer)];
                assert_eq!(decide(&access_control, access, "/", &headers), "origin_foreign", "{origin}");
                assert_eq!(decide(&access_control, access, "/", &headers[..2]), "origin_foreign", "{origin}");
                let target = format!("/?token={TOKEN}");
                assert_eq!(
                    decide(&access_control, access, &target, &headers[..2]),
                    "origin_foreign",
                    "{origin}"
                );
            }
        }
    }
}

#[test]
fn host_is_there_once() {
    let access_control = access_control(true);
    assert_eq!(decide(&access_control, Access::Open, "/", &[]), "host_missing");
    assert_eq!(
        decide(&access_control, Access::Open, "/", &[("host", HOST), ("host", HOST)]),
        "host_repeated"
    );
    assert_eq!(decide(&access_control, Access::Open, "/", &[("host", "")]), "host_foreign");
    assert_eq!(
        decide(&access_control, Access::Open, "http://127.0.0.1:8765/", &[("host", HOST)]),
        "request_form"
    );
    let repeated = [("host", HOST), ("origin", "http://127.0.0.1:8765"), ("origin", "http://127.0.0.1:8765")];
    assert_eq!(decide(&access_control, Access::Open, "/", &repeated), "origin_foreign");
}

#[test]
fn credentials_are_needed_for_all_but_the_page() {
    let access_control = access_control(true);
    assert_eq!(decide(&access_control, Access::Open, "/", &[("host", HOST)]), "page");
    let cases = [
        ("", "unauthorized"),
        ("Bearer", "unauthorized"),
        ("Bearer wrong", "unauthorized"),
        (TOKEN, "unauthorized"),
        ("Basic dXNlcjpwYXNz", "unauthorized"),
        ("Bearer 0123456789abcdef0123456789abcdef", "verified"),
        ("bearer  0123456789abcdef0123456789abcdef ", "verified"),
    ];
    for (authorization, expected) in cases {
        let headers = [("host", HOST), ("authorization", authorization)];
        assert_eq!(
            decide(&access_control, Access::Credentials, "/ws", &headers),
            expected,
            "{authorization}"
        );
    }
    let query = |query: &str, headers: &[(&str, &str)]| {
        let headers: Vec<_> = [("host", HOST)].iter().chain(headers).copied().collect();
        decide(&access_control, Access::Credentials, &format!("/ws?{query}"), &headers)
    };
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(query(&format!("client_id=a&token={TOKEN}"), &[]), "verified");
    assert_eq!(query("token=", &[]), "unauthorized");
    assert_eq!(query(&format!("token={TOKEN}&token={TOKEN}"), &[("authorization", &bearer)]), "verified");
    assert_eq!(query(&format!("token={TOKEN}&token=other"), &[]), "unauthorized");
    assert_eq!(query("token=other", &[("authorization", &bearer)]), "unauthorized");
    assert_eq!(query(&format!("token={TOKEN}"), &[("authorization", "Bearer other")]), "unauthorized");
}

#[test]
fn only_an_upgrade_that_offers_the_subprotocol_may_authenticate_later() {
    let access_control = access_control(true);
    let upgrade = [("host", HOST), ("upgrade", "websocket"), ("connection", "Upgrade")];
    let with = |headers: &[(&str, &str)]| {
        let headers: Vec<_> = upgrade.iter().chain(headers).copied().collect();
        decide(&access_control, Access::Credentials, "/ws", &headers)
    };
    assert_eq!(with(&[]), "unauthorized");
    assert_eq!(with(&[("sec-websocket-protocol", "other, switchboard.v1")]), "first_frame");
    let wrong = [("sec-websocket-protocol", "switchboard.v1"), ("authorization", "Bearer wrong")];
    assert_eq!(with(&wrong), "unauthorized");
    let plain = [("host", HOST), ("sec-websocket-protocol", "switchboard.v1")];
    assert_eq!(decide(&access_control, Access::Credentials, "/healthz", &plain), "unauthorized");
}

#[test]
fn only_so_many_connections_may_owe_their_first_frame() {
    let access_control = access_control(true);
    let request = || {
        let request = Request::builder().uri("/ws").header("host", HOST).header("upgrade", "websocket");
        request.header("sec-websocket-protocol", "switchboard.v1").body(()).unwrap()
    };
    let admit = || {
        access_control.access_control.admit(
            &request(),
            Access::Credentials,
            PeerAddress::From("127.0.0.1".parse().unwrap()),
        )
    };
    let (first, _second) = (admit().unwrap(), admit().unwrap());
    assert_eq!(admit().unwrap_err().code(), "unavailable");
    drop(first);
    assert!(admit().is_ok());
}

#[test]
fn without_authentication_only_this_site_and_no_site_pass() {
    let access_control = access_control(false);
    let cases = [
        (None, None, "verified"),
        (None, Some("none"), "verified"),
        (None, Some("same-origin"), "verified"),
        (None, Some("same-site"), "site_foreign"),
        (None, Some("cross-site"), "site_foreign"),
        (None, Some("None"), "site_foreign"),
        (Some("http://localhost:8765"), Some("same-origin"), "verified"),
        (Some("null"), Some("none"), "origin_foreign"),
        (Some("https://attacker.example"), None, "origin_foreign"),
    ];
    for (origin, site, expected) in cases {
        let mut headers = vec![("host", HOST)];
        headers.extend(origin.map(|origin| ("origin", origin)));
        headers.extend(site.map(|site| ("sec-fetch-site", site)));
        assert_eq!(decide(&access_control, Access::Credentials, "/ws", &headers), expected, "{headers:?}");
    }
}

#[test]
fn over_a_socket_localhost_is_a_name_and_nothing_else_is_different() {
    let access_control = access_control(true);
    let over_the_socket = |host: &str, headers: &[(&str, &str)]| {
        let headers: Vec<_> = [("host", host)].iter().chain(headers).copied().collect();
        decide_about(PeerAddress::Locally, &access_control, Access::Credentials, "/sse", &headers)
    };
    let bearer = format!("Bearer {TOKEN}");
    let good = ("authorization", &*bearer);
    assert_eq!(over_the_socket("localhost", &[good]), "verified");
    assert_eq!(over_the_socket("app.example.com", &[good]), "verified");
    assert_eq!(
        over_the_socket("localhost", &[]),
        "unauthorized",
        "who reaches the socket has shown no token"
    );
    assert_eq!(over_the_socket("attacker.example", &[good]), "host_foreign");
    assert_eq!(over_the_socket("localhost:1", &[good]), "host_foreign");
    assert_eq!(over_the_socket("localhost", &[good, ("origin", "http://localhost")]), "origin_foreign");
    let tcp = [("host", "localhost"), good];
    assert_eq!(decide(&access_control, Access::Credentials, "/sse", &tcp), "host_foreign");
}
