//! Through a real nginx, with the few lines that the documentation gives. `SWITCHBOARD_NGINX` names it.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]
#![allow(clippy::print_stdout, reason = "what is not tested is said")]

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};

use switchboard_test_support::{Client, Gateway, TIMEOUT, WebSocketClient, connect, delta_text};

/// The documented lines for nginx, within the configuration that a test needs.
struct Nginx {
    child: Child,
    address: SocketAddr,
    /// The host and port that clients use.
    host: &'static str,
    _dir: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("SWITCHBOARD_NGINX").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    named.or_else(|| dirs.map(|dir| dir.join("nginx")).find(|program| program.is_file()))
}

impl Nginx {
    /// Starts nginx in front of this upstream. `None`: nginx is not installed.
    fn start(upstream: &str, host: &'static str) -> Option<Self> {
        let Some(program) = program() else {
            println!("not tested: there is no nginx");
            return None;
        };
        let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
        let text = std::fs::read_to_string(documents).unwrap();
        let block = text.split("```nginx\n").nth(1).unwrap().split("```").next().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = "# listen, ssl_certificate, ...";
        assert!(block.contains(server) && block.contains("http://127.0.0.1:8765;"), "{block}");
        let block = block
            .replace(server, &format!("listen {address};"))
            .replace("http://127.0.0.1:8765;", &format!("{upstream};"));
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {};\n", at(name)))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {};\nerror_log {};\nevents {{}}\nhttp {{\naccess_log off;\n\
             {temporary}{block}}}\n",
            at("pid"),
            at("error")
        );
        std::fs::write(dir.path().join("conf"), config).unwrap();
        let mut command = Command::new(program);
        command.args(["-p", &at(""), "-e", &at("error"), "-c", &at("conf")]);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(address).is_err() {
            let error = std::fs::read_to_string(at("error")).unwrap_or_default();
            assert!(Instant::now() < deadline, "nginx does not start: {error}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self { child, address, host, _dir: dir })
    }

    fn send(&self, start: &str, headers: &[&str], body: &str) -> BufReader<TcpStream> {
        let mut stream = connect(self.address);
        let length = format!("Content-Length: {}", body.len());
        let host = format!("Host: {}", self.host);
        let lines = [&[start, &*host, &*length], headers].concat();
        stream.write_all(format!("{}\r\n\r\n{body}", lines.join("\r\n")).as_bytes()).unwrap();
        BufReader::new(stream)
    }

    fn status(&self, start: &str, headers: &[&str], body: &str) -> u16 {
        let mut line = String::new();
        self.send(start, headers, body).read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn everything_works_through_nginx_as_documented() {
    let gateway =
        Gateway::start_with_socket(&["--allow-host", "chat.example.com", "--base-path", "/switchboard"]);
    let socket = format!("http://unix:{}", gateway.path("http/socket").display());
    for upstream in [format!("http://{}", gateway.address), socket] {
        let Some(nginx) = Nginx::start(&upstream, "chat.example.com") else { return };
        through(&gateway, &nginx, "https://chat.example.com");
    }
}

#[test]
fn a_page_at_another_port_works_through_nginx_as_documented() {
    let gateway = Gateway::start(&["--allow-host", "chat.example.com:8443", "--base-path", "/switchboard"]);
    let upstream = format!("http://{}", gateway.address);
    let Some(nginx) = Nginx::start(&upstream, "chat.example.com:8443") else { return };
    for page in ["https://chat.example.com:8443", "http://chat.example.com:8443"] {
        through(&gateway, &nginx, page);
    }
    let other = [&*gateway.bearer(), "Origin: https://chat.example.com"];
    assert_eq!(nginx.status("GET /switchboard/healthz HTTP/1.1", &other, ""), 403);
}

fn through(gateway: &Gateway, nginx: &Nginx, origin: &str) {
    let bearer = gateway.bearer();
    assert_eq!(nginx.status("GET /switchboard/ HTTP/1.1", &[], ""), 200);
    assert_eq!(nginx.status("GET /switchboard/healthz HTTP/1.1", &[], ""), 401);
    let elsewhere = [&*bearer, "Origin: https://attacker.example"];
    assert_eq!(nginx.status("GET /switchboard/healthz HTTP/1.1", &elsewhere, ""), 403);

    // nginx does not buffer the stream: its first events arrive while it is open.
    let page = format!("Origin: {origin}");
    let stream = nginx.send("GET /switchboard/sse HTTP/1.1", &[&bearer, &page], "");
    let mut events = stream.lines().filter_map(|line| {
        line.unwrap().strip_prefix("data: ").map(|data| serde_json::from_str::<Value>(data).unwrap())
    });
    let name = events.next().unwrap()["stream"].as_str().unwrap().to_owned();
    let stream = format!("Switchboard-Stream: {name}");
    let headers = [&*bearer, &*page, &*stream, "Content-Type: application/json"];
    let frame = json!({"type": "new_chat"}).to_string();
    assert_eq!(nginx.status("POST /switchboard/messages HTTP/1.1", &headers, &frame), 202);
    let attached = events.find(|event| event["event"] == "attached").unwrap();
    let chat = attached["chat_id"].as_str().unwrap();

    // A WebSocket on the same chat: both clients receive the events.
    let url = format!("ws://{}/switchboard/ws?token={}", nginx.host, gateway.token());
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("origin", origin.parse().unwrap());
    let (socket, _) = tungstenite::client(request, connect(nginx.address)).unwrap();
    let mut socket = WebSocketClient(socket);
    socket.message(chat, "t-1", "both hear this");
    assert_eq!(delta_text(&socket.until("turn_end")), "both hear this");
    let mut text = String::new();
    for event in events {
        text.push_str(event["text"].as_str().filter(|_| event["event"] == "delta").unwrap_or_default());
        if event["event"] == "turn_end" {
            break;
        }
    }
    assert_eq!(text, "both hear this");
}
