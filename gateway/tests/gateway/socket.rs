//! HTTP over a Unix socket, as from a reverse proxy on the same machine.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest};

use switchboard_test_support::{ECHO_AGENT, Gateway, TIMEOUT, run, switchboard};

fn dial(gateway: &Gateway) -> UnixStream {
    let stream = UnixStream::connect(gateway.path("http/socket")).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Sends a request over the socket, and returns all bytes until the gateway closes the connection.
fn ask(gateway: &Gateway, start: &str, headers: &[&str]) -> String {
    let mut stream = dial(gateway);
    let lines = [&[start, "Host: localhost", "Connection: close"], headers].concat();
    stream.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_page_and_every_route_are_there_and_need_the_same() {
    let gateway = Gateway::start_with_socket(&[]);
    let bearer = gateway.bearer();
    assert!(ask(&gateway, "GET / HTTP/1.1", &[]).starts_with("HTTP/1.1 200 "));
    assert!(ask(&gateway, "GET /healthz HTTP/1.1", &[]).starts_with("HTTP/1.1 401 "));
    assert!(ask(&gateway, "GET /healthz HTTP/1.1", &[&bearer]).starts_with("HTTP/1.1 200 "));
    let page = "Origin: http://localhost";
    assert!(ask(&gateway, "GET /healthz HTTP/1.1", &[&bearer, page]).starts_with("HTTP/1.1 403 "));
    let ports = std::fs::read_to_string(gateway.path("port")).unwrap();
    let socket = gateway.path("http/socket");
    assert_eq!(ports, format!("{}\nunix:{}\n", gateway.address, socket.display()));
    assert!(gateway.announced.contains(&format!("unix:{}", socket.display())), "{}", gateway.announced);
}

#[test]
fn websocket_and_streams_work_over_it() {
    let gateway = Gateway::start_with_socket(&[]);
    let request = format!("ws://localhost/ws?token={}", gateway.token()).into_client_request().unwrap();
    let (mut socket, _) = tungstenite::client(request, dial(&gateway)).unwrap();
    let message = json!({"type": "message", "chat_id": "c-1", "content": "hello", "turn_id": "t-1"});
    socket.send(Message::text(message.to_string())).unwrap();
    let mut text = String::new();
    loop {
        let Message::Text(event) = socket.read().unwrap() else { continue };
        let event: Value = serde_json::from_str(&event).unwrap();
        text.push_str(event["text"].as_str().filter(|_| event["event"] == "delta").unwrap_or_default());
        if event["event"] == "turn_end" {
            break;
        }
    }
    assert_eq!(text, "hello");
    let mut stream = dial(&gateway);
    let head = format!("GET /sse?chat=c-1 HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n", gateway.bearer());
    stream.write_all(head.as_bytes()).unwrap();
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.take_while(|line| !line.contains("replay_end")).any(|line| line.contains("hello")));
}

#[test]
fn the_socket_is_private_and_goes_with_its_gateway() {
    let mut gateway = Gateway::start_with_socket(&[]);
    let mode = |name: &str| gateway.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("http"), mode("http/socket")), (0o700, 0o600));
    // A second gateway cannot listen on the same path.
    let mut second = switchboard();
    second.args(["serve", "--data-dir"]).arg(gateway.path("other")).args(ECHO_AGENT);
    second.arg("--listen").arg(format!("unix:{}", gateway.path("http/socket").display()));
    let refused = run(second, "");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("served by another process"), "{said}");
    assert!(said.contains("--listen"), "{said}");
    gateway.signal(Signal::KILL);
    gateway.wait_for_exit();
    assert!(gateway.path("http/socket").exists(), "nobody was there to remove it");
    let next = Gateway::start_with(|command| {
        command
            .args(ECHO_AGENT)
            .arg("--listen")
            .arg(format!("unix:{}", gateway.path("http/socket").display()));
    });
    drop(next);
    assert!(!gateway.path("http/socket").exists(), "taken over, and removed in good order");
}
