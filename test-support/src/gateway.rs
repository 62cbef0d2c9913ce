//! The gateway as a process, in a directory of its own.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tungstenite::{
    client::IntoClientRequest as _, handshake::client::Response as UpgradeResponse, http::Request,
};

use crate::{
    client::{SseClient, UnixClient, WebSocketClient},
    http::{Response, UPGRADE_HEADERS, connect, send_lines},
    process,
    wait::{becomes_true, eventually, wait_for_exit},
};

/// The options for an agent that answers with the text of its prompt.
pub const ECHO_AGENT: [&str; 4] = ["--agent-command", "cat", "--dialect", "text"];

/// The command of the `switchboard` program, with the environment of a clean machine. The program is the one that
/// cargo has built for the running test, or that `SWITCHBOARD_BINARY` names.
pub fn switchboard() -> Command {
    // Tests are `target/PROFILE/deps/NAME`.
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let built = || profile.join("switchboard").into();
    let mut command = Command::new(std::env::var_os("SWITCHBOARD_BINARY").unwrap_or_else(built));
    command.env_remove("RUST_LOG").env_remove("SWITCHBOARD_TOKEN").stdin(Stdio::null());
    // A gateway creates missing shell start files to protect them: not in the home of the person who runs the tests.
    let home = profile.with_file_name("tmp").join("home");
    fs::create_dir_all(&home).unwrap();
    command.env("HOME", home).env_remove("XDG_CONFIG_HOME");
    command
}

/// Writes a configuration file, and returns its path.
pub fn config_file(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("config.toml");
    fs::write(&path, text).unwrap();
    path
}

/// A gateway that is ready to serve, in a directory of its own: `data`, `work`, `log` and `port`. The gateway and
/// all its agents are ended when this is dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    // The gateway would fail to write to a closed pipe.
    _stdout: BufReader<ChildStdout>,
    dir: tempfile::TempDir,
    /// What the gateway printed on its standard output until it was ready.
    pub announced: String,
    /// The first TCP address at which it listens.
    pub address: SocketAddr,
}

impl Gateway {
    /// Starts `switchboard serve` on a free port with an agent that echoes and these arguments.
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(|command| {
            command.args(ECHO_AGENT).args(args);
        })
    }

    /// Like [`Gateway::start`], listening for HTTP also on the Unix socket `http/socket` in its directory.
    pub fn start_with_socket(args: &[&str]) -> Self {
        Self::start_with(|command| {
            command.args(ECHO_AGENT).args(args);
            let data = command.get_args().skip_while(|arg| *arg != "--data-dir").nth(1).unwrap();
            let socket = Path::new(data).with_file_name("http").join("socket");
            command.arg("--listen").arg(format!("unix:{}", socket.display()));
        })
    }

    /// Starts `switchboard serve` on a free port with a changed command, which has to name an agent.
    pub fn start_with(change: impl FnOnce(&mut Command)) -> Self {
        Self::start_logging_to(|log| File::create(log).unwrap().into(), change)
    }

    /// Like [`Gateway::start_with`], with a standard error that `stderr` makes of the path of the log file.
    ///
    /// # Panics
    ///
    /// The gateway exits before it is ready.
    pub fn start_logging_to(stderr: impl FnOnce(&Path) -> Stdio, change: impl FnOnce(&mut Command)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = switchboard();
        command.env(process::MARK, dir.path()).args(["serve", "--listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(dir.path().join("data"));
        command.arg("--port-file").arg(dir.path().join("port"));
        command.arg("--unix").arg(dir.path().join("data/socket"));
        fs::create_dir_all(dir.path().join("work")).unwrap();
        command.arg("--workspace").arg(dir.path().join("work"));
        change(&mut command);
        let stderr = stderr(&dir.path().join("log"));
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut announced = String::new();
        while !announced.contains("Ctrl-C") {
            if stdout.read_line(&mut announced).unwrap() == 0 {
                let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
                panic!("the gateway did not start: {log}");
            }
        }
        let ports = fs::read_to_string(dir.path().join("port")).unwrap();
        let address = ports.lines().next().unwrap().parse().unwrap();
        Self { child, _stdout: stdout, dir, announced, address }
    }

    /// A path in the gateway's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The token that the gateway generated.
    pub fn token(&self) -> String {
        fs::read_to_string(self.path("data/token")).unwrap().trim().to_owned()
    }

    /// The header line that carries the token.
    pub fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", self.token())
    }

    /// What the gateway has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Waits until the log contains this text: a thread of its own writes the log.
    pub fn wait_for_log(&self, text: &str) {
        assert!(becomes_true(|| self.log().contains(text)), "not logged: {text:?}: {}", self.log());
    }

    /// Connects over TCP.
    pub fn tcp(&self) -> TcpStream {
        connect(self.address)
    }

    /// Sends these lines and an empty line, and reads until the gateway closes the connection.
    pub fn raw(&self, lines: &[&str]) -> Response {
        Response::read(send_lines(self.address, lines))
    }

    /// Sends a request with the right `Host` over a connection of its own.
    pub fn request(&self, method: &str, target: &str, headers: &[&str]) -> Response {
        let (start, host) = (format!("{method} {target} HTTP/1.1"), format!("Host: {}", self.address));
        self.raw(&[&[&*start, &*host, "Connection: close"], headers].concat())
    }

    /// Like [`Gateway::request`], but reads only the head of the response, whose body may have no end.
    pub fn request_head(&self, method: &str, target: &str, headers: &[&str]) -> Response {
        let (start, host) = (format!("{method} {target} HTTP/1.1"), format!("Host: {}", self.address));
        let stream = send_lines(self.address, &[&[&*start, &*host], headers].concat());
        Response::read_head(&mut BufReader::new(stream))
    }

    /// Sends a `GET` request over a connection of its own.
    pub fn get(&self, target: &str, headers: &[&str]) -> Response {
        self.request("GET", target, headers)
    }

    /// Requests a WebSocket upgrade with these further header lines, and reads the head of the response.
    pub fn upgrade(&self, target: &str, headers: &[&str]) -> Response {
        self.request_head("GET", target, &[&UPGRADE_HEADERS, headers].concat())
    }

    /// A client over SSE, with this query.
    pub fn sse(&self, query: &str) -> SseClient {
        SseClient::open(self.address, self.bearer(), query)
    }

    /// A client over WebSocket with the token in the query, as in the older vocabulary.
    pub fn websocket(&self) -> WebSocketClient {
        let url = format!("ws://{}/?client_id=test&token={}", self.address, self.token());
        self.websocket_with(url.into_client_request().unwrap()).unwrap_or_else(|error| panic!("{error}")).0
    }

    /// A client over WebSocket with this upgrade request.
    ///
    /// # Errors
    ///
    /// The gateway refuses the upgrade.
    pub fn websocket_with(
        &self,
        request: Request<()>,
    ) -> Result<(WebSocketClient, UpgradeResponse), Box<tungstenite::Error>> {
        WebSocketClient::upgrade(request, self.tcp())
    }

    /// A client over the Unix socket.
    pub fn unix(&self) -> UnixClient {
        UnixClient::connect(&self.path("data/socket"))
    }

    /// The process id of the gateway.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the gateway.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops the gateway's threads until it is sent `CONT`. When this returns, none of them runs.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let stopped = waitpid(Some(Pid::from_child(&self.child)), WaitOptions::UNTRACED).unwrap();
        assert!(stopped.unwrap().1.stopped());
    }

    /// Waits for the exit of the gateway.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for_exit(&mut self.child)
    }

    /// The running hosts, agents, and processes that these have started.
    pub fn processes(&self) -> HashSet<Pid> {
        let mut pids: HashSet<Pid> =
            process::with_mark(self.dir.path().to_str().unwrap()).into_iter().collect();
        pids.extend(process::hosts(&self.path("data")));
        pids.remove(&Pid::from_child(&self.child));
        pids
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::INT);
            let _ = self.wait_for_exit();
        }
        // A gateway that was killed leaves its hosts and agents behind.
        eventually("all agents have ended", || {
            let left = self.processes();
            left.iter().for_each(|pid| process::signal(*pid, Signal::KILL));
            left.is_empty()
        });
    }
}
