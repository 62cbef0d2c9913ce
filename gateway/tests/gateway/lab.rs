//! Starts gateways and talks to them. Nothing here waits for time to pass: it waits for something to happen,
//! and fails if it does not in time.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket, client::IntoClientRequest, handshake::client::Response, http::Request,
};

/// Anything that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An agent that answers with what it is told.
pub(crate) const ECHO: [&str; 4] = ["--agent-command", "cat", "--dialect", "text"];

/// The binary, as a clean machine would start it.
pub(crate) fn switchboard() -> Command {
    let built = || env!("CARGO_BIN_EXE_switchboard").into();
    let mut command = Command::new(std::env::var_os("SWITCHBOARD_BINARY").unwrap_or_else(built));
    command.env_remove("RUST_LOG").env_remove("SWITCHBOARD_TOKEN").stdin(Stdio::null());
    // A gateway protects start files, and makes those that are missing: not in the home of whoever runs the tests.
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("home");
    std::fs::create_dir_all(&home).unwrap();
    command.env("HOME", home).env_remove("XDG_CONFIG_HOME");
    command
}

/// A gateway that is ready, in a directory of its own.
pub(crate) struct Gateway {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    dir: tempfile::TempDir,
    /// What it said when it was ready.
    pub(crate) announced: String,
    /// Where it listens first.
    pub(crate) address: SocketAddr,
}

impl Gateway {
    /// Starts `serve` on a free port with these arguments and an agent that echoes.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with(|command| {
            command.args(ECHO).args(args);
        })
    }

    /// The same, on a Unix socket as well: `http/socket` in its directory.
    pub(crate) fn start_with_socket(args: &[&str]) -> Self {
        Self::start_with(|command| {
            command.args(ECHO).args(args);
            let data = command.get_args().skip_while(|arg| *arg != "--data-dir").nth(1).unwrap();
            let socket = Path::new(data).with_file_name("http").join("socket");
            command.arg("--listen").arg(format!("unix:{}", socket.display()));
        })
    }

    /// Starts `serve` on a free port. Fails if it is not ready in time.
    pub(crate) fn start_with(change: impl FnOnce(&mut Command)) -> Self {
        Self::start_logging_to(|log| File::create(log).unwrap().into(), change)
    }

    /// The same, with a standard error that is made of the path where [`Self::log`] looks for it.
    pub(crate) fn start_logging_to(
        stderr: impl FnOnce(&Path) -> Stdio,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = switchboard();
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(dir.path().join("data"));
        command.arg("--port-file").arg(dir.path().join("port"));
        command.arg("--unix").arg(dir.path().join("data/socket"));
        std::fs::create_dir_all(dir.path().join("work")).unwrap();
        command.arg("--workspace").arg(dir.path().join("work"));
        change(&mut command);
        let stderr = stderr(&dir.path().join("log"));
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut announced = String::new();
        while !announced.contains("Ctrl-C") {
            if stdout.read_line(&mut announced).unwrap() == 0 {
                let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
                panic!("the gateway did not start: {log}");
            }
        }
        let ports = std::fs::read_to_string(dir.path().join("port")).unwrap();
        let address = ports.lines().next().unwrap().parse().unwrap();
        Self { child, _stdout: stdout, dir, announced, address }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.path("data/token")).unwrap().trim().to_owned()
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", self.token())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// Waits until the log, which has a thread of its own, says this.
    pub(crate) fn until_logged(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "not {text:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A mark that every process has which its agents started.
    pub(crate) fn mark_after_exit(&self) -> String {
        switchboard_gateway::data_dir::DataDir::open(&self.path("data")).unwrap().mark()
    }

    pub(crate) fn tcp(&self) -> TcpStream {
        connect(self.address)
    }

    /// Sends these lines and an empty one, and reads until the gateway closes.
    pub(crate) fn raw(&self, lines: &[&str]) -> Answer {
        let mut stream = self.tcp();
        stream.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).unwrap();
        Answer::read(stream)
    }

    /// A request of its own, with the right `Host`.
    pub(crate) fn request(&self, method: &str, target: &str, headers: &[&str]) -> Answer {
        let start = format!("{method} {target} HTTP/1.1");
        let host = format!("Host: {}", self.address);
        let mut lines = vec![start.as_str(), host.as_str(), "Connection: close"];
        lines.extend(headers);
        self.raw(&lines)
    }

    pub(crate) fn get(&self, target: &str, headers: &[&str]) -> Answer {
        self.request("GET", target, headers)
    }

    /// The same, but reads the head of the answer only: it may have no end.
    pub(crate) fn head_of(&self, method: &str, target: &str, headers: &[&str]) -> Answer {
        let (start, host) = (format!("{method} {target} HTTP/1.1"), format!("Host: {}", self.address));
        let lines = [&[&*start, &*host], headers].concat();
        let mut stream = self.tcp();
        stream.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).unwrap();
        Answer::read_head(&mut BufReader::new(stream))
    }

    /// A client over SSE: a stream, and a connection for each frame.
    pub(crate) fn sse(&self, query: &str) -> SseClient {
        let mut stream = BufReader::new(self.tcp());
        let (host, bearer) = (format!("Host: {}", self.address), self.bearer());
        let lines = [&*format!("GET /sse{query} HTTP/1.1"), &*host, &*bearer].join("\r\n");
        stream.get_mut().write_all(format!("{lines}\r\n\r\n").as_bytes()).unwrap();
        let head = Answer::read_head(&mut stream);
        assert_eq!(head.status(), 200, "{}", head.head);
        let stream = BufReader::new(Chunks { io: stream, left: 0 });
        let mut client =
            SseClient { stream, address: self.address, bearer, name: String::new(), last_id: None };
        client.name = client.wait_for("ready")["stream"].as_str().unwrap().to_owned();
        client
    }

    /// An upgrade as a browser sends it, apart from `headers`. Gives what was answered before the first frame.
    pub(crate) fn upgrade(&self, target: &str, headers: &[&str]) -> Answer {
        let start = format!("GET {target} HTTP/1.1");
        let host = format!("Host: {}", self.address);
        let mut lines = vec![start.as_str(), host.as_str()];
        lines.extend(UPGRADE);
        lines.extend(headers);
        let mut stream = self.tcp();
        stream.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).unwrap();
        Answer::read_head(&mut BufReader::new(stream))
    }

    /// A client over WebSocket that is authenticated by the query, as old ones are.
    pub(crate) fn websocket(&self) -> WebClient {
        let url = format!("ws://{}/?client_id=lab&token={}", self.address, self.token());
        self.websocket_at(url.into_client_request().unwrap()).unwrap_or_else(|error| panic!("{error}")).0
    }

    pub(crate) fn websocket_at(
        &self,
        request: Request<()>,
    ) -> Result<(WebClient, Response), Box<tungstenite::Error>> {
        match tungstenite::client(request, self.tcp()) {
            Ok((socket, response)) => Ok((WebClient(socket), response)),
            Err(tungstenite::HandshakeError::Failure(error)) => Err(Box::new(error)),
            Err(tungstenite::HandshakeError::Interrupted(_)) => panic!("no answer in time"),
        }
    }

    /// A client over the Unix socket.
    pub(crate) fn unix(&self) -> UnixClient {
        let stream = UnixStream::connect(self.path("data/socket")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        UnixClient(BufReader::new(stream))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Stops it where it is, until it is sent `CONT`. When this returns, nothing in it runs.
    pub(crate) fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed());
        let stopped = rustix::process::waitpid(pid, rustix::process::WaitOptions::UNTRACED).unwrap();
        assert!(stopped.unwrap().1.stopped());
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let running = self.child.try_wait().is_ok_and(|status| status.is_none());
        if running {
            self.signal(rustix::process::Signal::INT);
            let _ = self.wait();
        }
        // A test that killed or left its gateway leaves no agent to anybody.
        let hosts = self.path("data/hosts");
        let _ = switchboard_agent_bridge::end_orphans(&hosts, &std::collections::BTreeSet::new());
    }
}

/// What makes a request an upgrade.
pub(crate) const UPGRADE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits for a process, and kills it if it does not end.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("a process did not end in time");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command that ends by itself, with this on its standard input.
pub(crate) fn run(mut command: Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that refuses to start reads nothing.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut out = Vec::new();
        stdout.read_to_end(&mut out).map(|_| out)
    });
    let mut stderr = Vec::new();
    let status = {
        child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        wait(&mut child)
    };
    Output { status, stdout: reader.join().unwrap().unwrap(), stderr }
}

/// An HTTP response, and whatever came after its head.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes) {
            Ok(_) => {}
            // A peer that is refused in mid-sentence may find the connection reset.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the gateway did not close: {error}"),
        }
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
        let body = bytes.split_off(end);
        Self { head: String::from_utf8_lossy(&bytes).into_owned(), body }
    }

    fn read_head(stream: &mut impl BufRead) -> Self {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
        Self { head, body: Vec::new() }
    }

    /// The status, or 0 if there was no response.
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A client: sends frames, receives events.
pub(crate) trait Client {
    /// Sends text, whatever it is.
    fn send_text(&mut self, text: &str);
    /// The next event; `None` if the connection is closed.
    fn next(&mut self) -> Option<Value>;

    fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string());
    }

    /// Reads until there is an event of this kind, and gives all that came, that one last.
    fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.next().unwrap_or_else(|| panic!("closed before {kind}; came: {events:?}"));
            let found = event["event"] == kind;
            events.push(event);
            if found {
                return events;
            }
        }
    }

    /// Waits for an event of this kind.
    fn wait_for(&mut self, kind: &str) -> Value {
        self.until(kind).pop().unwrap()
    }

    /// Begins a chat and gives its id.
    fn new_chat(&mut self) -> String {
        self.send(&json!({"type": "new_chat"}));
        self.wait_for("attached")["chat_id"].as_str().unwrap().to_owned()
    }

    fn message(&mut self, chat: &str, turn: &str, content: &str) {
        self.send(&json!({"type": "message", "chat_id": chat, "turn_id": turn, "content": content}));
    }
}

pub(crate) struct WebClient(pub(crate) WebSocket<TcpStream>);

impl Client for WebClient {
    fn send_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    fn next(&mut self) -> Option<Value> {
        // Pings alone would be read for ever.
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.0.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(text.as_str()).unwrap()),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(_) | Err(_) => return None,
            }
        }
        None
    }
}

/// What is in the chunks of a response (RFC 9112, section 7.1).
struct Chunks {
    io: BufReader<TcpStream>,
    left: usize,
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let mut line = String::new();
            if self.io.read_line(&mut line)? == 0 {
                return Ok(0);
            }
            // A line of its own ends each chunk.
            if !line.trim().is_empty() {
                self.left = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                if self.left == 0 {
                    return Ok(0);
                }
            }
        }
        let most = out.len().min(self.left);
        let read = self.io.read(&mut out[..most])?;
        self.left -= read;
        Ok(read)
    }
}

pub(crate) struct SseClient {
    stream: BufReader<Chunks>,
    address: SocketAddr,
    bearer: String,
    name: String,
    pub(crate) last_id: Option<String>,
}

impl SseClient {
    /// Posts a frame, and gives the status.
    pub(crate) fn post(&self, frame: &Value) -> u16 {
        self.post_text(&frame.to_string())
    }

    fn post_text(&self, frame: &str) -> u16 {
        let head = format!(
            "POST /messages HTTP/1.1\r\nHost: {}\r\n{}\r\nSwitchboard-Stream: {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            self.bearer,
            self.name,
            frame.len()
        );
        let mut stream = connect(self.address);
        stream.write_all(format!("{head}{frame}").as_bytes()).unwrap();
        Answer::read(stream).status()
    }
}

impl Client for SseClient {
    fn send_text(&mut self, text: &str) {
        assert_eq!(self.post_text(text), 202);
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        // Comments alone would be read for ever.
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && matches!(self.stream.read_line(&mut line), Ok(1..)) {
            if let Some(id) = line.strip_prefix("id: ") {
                self.last_id = Some(id.trim().to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
            line.clear();
        }
        None
    }
}

pub(crate) struct UnixClient(BufReader<UnixStream>);

impl Client for UnixClient {
    fn send_text(&mut self, text: &str) {
        writeln!(self.0.get_mut(), "{text}").unwrap();
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).unwrap();
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }
}

/// The text of the deltas among events.
pub(crate) fn text_of(events: &[Value]) -> String {
    let deltas = events.iter().filter(|event| event["event"] == "delta");
    deltas.map(|event| event["text"].as_str().unwrap()).collect()
}

/// Writes a configuration file.
pub(crate) fn config_file(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("config.toml");
    std::fs::write(&path, text).unwrap();
    path
}
