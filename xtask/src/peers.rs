//! Tests foreign clients with a running gateway: client libraries of npm and PyPI, curl and socat, whose scripts are in
//! `gateway/tests/peers`, and the clients in `docs/protocol.md`. HTTP clients are tested again through nginx.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::browser::{Gateway, build_gateway};
use crate::clients::{CLIENTS, Relay};
use crate::command::{Running, Task};
use crate::nginx;
use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Context as _, Failure, Result, empty_scratch, find_program, read, root, target};

/// Packages of npm. A change of their versions needs a look at their changes.
const NPM: [&str; 3] = ["ws@8.23.0", "reconnecting-websocket@4.4.0", "eventsource@4.1.1"];

/// Packages of PyPI.
const PYPI: [&str; 3] = ["websockets==17.4", "httpx==0.28.1", "httpx-sse==0.4.3"];

/// A foreign client: its script and its needs.
struct Peer {
    script: &'static str,
    runs_on: RunsOn,
    /// Whether the client uses HTTP, and can thus connect through a proxy.
    http: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RunsOn {
    Node,
    /// Python with the packages of [`PYPI`].
    Python,
    /// Python without packages, and this tool.
    Tool(&'static str),
}

const PEERS: [Peer; 7] = [
    Peer { script: "ws.mjs", runs_on: RunsOn::Node, http: true },
    Peer { script: "reconnecting-websocket.mjs", runs_on: RunsOn::Node, http: true },
    Peer { script: "eventsource.mjs", runs_on: RunsOn::Node, http: true },
    Peer { script: "websockets_.py", runs_on: RunsOn::Python, http: true },
    Peer { script: "httpx_sse_.py", runs_on: RunsOn::Python, http: true },
    Peer { script: "curl.py", runs_on: RunsOn::Tool("curl"), http: true },
    Peer { script: "socat.py", runs_on: RunsOn::Tool("socat"), http: false },
];

/// What the clients say to the demo agent: the same as the scripts of the peers.
const PROMPT: &str = "long 8";

/// The host name and the path in the documented nginx configuration.
const PROXIED: (&str, &str) = ("chat.example.com", "/switchboard");

/// nginx has this long to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Runs all clients that can run here, and prints which cannot.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let program = build_gateway(session)?;
    let tools = Tools::install(session)?;
    let mut answers = Answers::default();

    // Each client creates a chat, and all clients are the same principal.
    let config = "[limits]\nnew_chats_per_minute = 1000\n";
    let mut direct = Gateway::start(&program, "peers", config, &[])?;
    for peer in &PEERS {
        let task = tools.task(peer)?.map(|task| task.env("SWITCHBOARD_URL", &direct.base));
        answers.add(session, peer.script, task, &direct)?;
    }
    direct.require_alive()?;
    documented_clients(session, &program, &mut answers)?;

    match nginx::nginx(session) {
        Err(reason) => println!("not tested: anything behind nginx: {reason}"),
        Ok(nginx) => {
            let (host, path) = PROXIED;
            let port = free_port()?;
            let shown = format!("{host}:{port}");
            let args = ["--allow-host", &*shown, "--base-path", path];
            let mut hidden = Gateway::start(&program, "peers-nginx", config, &args)?;
            let mut proxy = Proxy::start(&nginx, port, &hidden.address)?;
            let url = format!("http://{shown}{path}");
            for peer in PEERS.iter().filter(|peer| peer.http) {
                let task = tools.task(peer)?;
                let task = task
                    .map(|task| task.env("SWITCHBOARD_URL", &url).env("SWITCHBOARD_RESOLVE", "127.0.0.1"));
                answers.add(session, &format!("{} through nginx", peer.script), task, &hidden)?;
            }
            hidden.require_alive()?;
            proxy.require_alive()?;
        }
    }
    answers.verdict()
}

/// Runs the clients in `docs/protocol.md`: first each with two cuts of its connections, then each when the messages of
/// this minute are used up, so that the client's message is refused until it is sent again.
fn documented_clients(session: &Session, program: &Path, answers: &mut Answers) -> Result {
    let relay = Relay::bind()?;
    let config = format!("[limits]\nmessages_per_minute = {}\n", CLIENTS.len());
    let mut gateway = Gateway::start(program, "clients", &config, &["--allow-host", &relay.address])?;
    relay.forward_to(&gateway.address)?;
    let token = std::fs::read_to_string(&gateway.token_file).context("reading the gateway's token")?;
    for client in CLIENTS {
        let task = client.task(&relay.address, token.trim(), PROMPT);
        relay.cut(if task.is_ok() { 2 } else { 0 });
        answers.add(session, client.script, task, &gateway)?;
        if relay.cuts_left() > 0 {
            answers.failed.push(format!("{}: its connections were not cut", client.script));
        }
    }
    for client in CLIENTS {
        let task = client.task(&relay.address, token.trim(), PROMPT);
        answers.add(session, &format!("{}, refused at first", client.script), task, &gateway)?;
    }
    gateway.require_alive()
}

/// The output of the clients: each prints the answer of the demo agent, which must always be the same.
#[derive(Default)]
struct Answers {
    first: Option<String>,
    failed: Vec<String>,
}

impl Answers {
    fn add(
        &mut self,
        session: &Session,
        name: &str,
        task: std::result::Result<Task, String>,
        gateway: &Gateway,
    ) -> Result {
        let task = match task {
            Ok(task) => task,
            Err(reason) => {
                println!("not tested: {name}: {reason}");
                return Ok(());
            }
        };
        let token = std::fs::read_to_string(&gateway.token_file).context("reading the gateway's token")?;
        let task = task.env("SWITCHBOARD_TOKEN", token.trim()).env("SWITCHBOARD_SOCKET", &gateway.socket);
        let begun = Instant::now();
        match task.output(session.deadline()) {
            Err(failure) => self.failed.push(format!("{name}: {failure}")),
            Ok(answer) if !answer.starts_with("**1.** ") => {
                self.failed.push(format!("{name}: the answer is not the agent's: {answer:.100}"));
            }
            Ok(answer) => {
                println!("{name}: {} bytes in {:.1} s", answer.len(), begun.elapsed().as_secs_f64());
                let answer = answer.trim_end();
                if self.first.get_or_insert_with(|| answer.to_owned()) != answer {
                    self.failed.push(format!("{name}: the answer is another one than the first peer's"));
                }
            }
        }
        Ok(())
    }

    fn verdict(self) -> Result<Verdict> {
        if !self.failed.is_empty() {
            return Err(Failure::new(self.failed.join("\n")));
        }
        match self.first {
            Some(_) => Ok(Verdict::Passed),
            None => Ok(Verdict::Skipped("there is neither Node nor Python, curl and socat".into())),
        }
    }
}

/// The installed libraries, or the reasons why they could not be installed.
struct Tools {
    dir: PathBuf,
    node: std::result::Result<(), String>,
    python: std::result::Result<PathBuf, String>,
}

impl Tools {
    /// Installs missing libraries below the target directory.
    fn install(session: &Session) -> Result<Self> {
        let dir = target().join("peers");
        std::fs::create_dir_all(&dir).context("making a directory for the peers' libraries")?;
        let node = install_npm(session, &dir).map_err(|failure| failure.to_string());
        let python = install_pypi(session, &dir).map_err(|failure| failure.to_string());
        Ok(Self { dir, node, python })
    }

    /// The command that runs this client, or the reason why it cannot run.
    fn task(&self, peer: &Peer) -> Result<std::result::Result<Task, String>> {
        let program = match peer.runs_on {
            RunsOn::Node => self.node.clone().map(|()| PathBuf::from("node")),
            RunsOn::Python => self.python.clone(),
            RunsOn::Tool(tool) if find_program(tool).is_none() => Err(format!("{tool} is not on PATH")),
            RunsOn::Tool(_) => find_program("python3").ok_or_else(|| "python3 is not on PATH".to_owned()),
        };
        let script = root().join("gateway/tests/peers").join(peer.script);
        Ok(program.map(|program| {
            Task::new(program)
                .arg(script)
                .env("SWITCHBOARD_PEERS", &self.dir)
                .env("PYTHONDONTWRITEBYTECODE", "1")
        }))
    }
}

/// Runs `install`, unless the file `noted` says that exactly `what` is installed already; then writes the file.
fn once(noted: &Path, what: &str, install: impl FnOnce() -> Result) -> Result {
    if std::fs::read_to_string(noted).is_ok_and(|text| text == what) {
        return Ok(());
    }
    install()?;
    std::fs::write(noted, what).context("noting what is installed")
}

fn install_npm(session: &Session, dir: &Path) -> Result {
    if find_program("npm").is_none() {
        return Err(Failure::new("npm is not on PATH; install Node 20 or later"));
    }
    once(&dir.join("npm-installed"), &NPM.join(" "), || {
        let install = ["install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--prefix"];
        Task::new("npm").args(install).arg(dir).args(NPM).output(session.deadline()).map(drop)
    })
}

fn install_pypi(session: &Session, dir: &Path) -> Result<PathBuf> {
    let venv = dir.join("python");
    let python = venv.join("bin/python");
    once(&dir.join("pypi-installed"), &PYPI.join(" "), || {
        Task::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).output(session.deadline())?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        Task::new(&python).args(install).args(PYPI).output(session.deadline()).map(drop)
    })?;
    Ok(python)
}

/// nginx with the documented configuration. Dropping it ends nginx.
struct Proxy {
    running: Running,
}

impl Proxy {
    fn start(program: &Path, port: u16, gateway: &str) -> Result<Self> {
        let dir = empty_scratch("nginx")?;
        let config = dir.join("nginx.conf");
        let text = nginx_config(&read("docs/operations.md")?, &dir, port, gateway)?;
        std::fs::write(&config, text).context("writing the configuration of nginx")?;
        let log = dir.join("log");
        let nginx = Task::new(program).log_to(&log)?.arg("-p").arg(&dir).arg("-c").arg(&config);
        let mut running = nginx.spawn()?;
        let deadline = Instant::now() + START_LIMIT;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if running.poll()?.is_some() || Instant::now() > deadline {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(Failure::new(format!("nginx does not listen; it said:\n{said}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Self { running })
    }

    fn require_alive(&mut self) -> Result {
        match self.running.poll()? {
            None => Ok(()),
            Some(status) => Err(Failure::new(format!("nginx ended during the tests with {status}"))),
        }
    }
}

/// A port that is free at the moment, since nginx cannot choose one itself.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr().context("looking for a free port")?.port())
}

/// A complete nginx configuration from the documented lines, for this port and gateway.
fn nginx_config(documentation: &str, dir: &Path, port: u16, gateway: &str) -> Result<String> {
    let block = documentation.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.ok_or_else(|| Failure::new("docs/operations.md has no lines for nginx"))?;
    let listen = "# listen, ssl_certificate, ...";
    for needed in [listen, "http://127.0.0.1:8765", PROXIED.0, PROXIED.1] {
        if !block.contains(needed) {
            return Err(Failure::new(format!("the lines for nginx in docs/operations.md lack `{needed}`")));
        }
    }
    let block = block.replace(listen, &format!("listen 127.0.0.1:{port};"));
    let block = block.replace("http://127.0.0.1:8765", &format!("http://{gateway}"));
    let dir = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path \"{dir}/{kind}\";\n"))
        .concat();
    Ok(format!(
        "daemon off;\nmaster_process off;\npid \"{dir}/pid\";\nerror_log stderr warn;\nevents {{}}\n\
         http {{\n    access_log off;\n{temporary}{block}}}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_lines_become_a_configuration() {
        let documentation = "text\n```nginx\nserver {\n    # listen, ssl_certificate, ...\n    server_name chat.example.com;\n\
            location /switchboard/ { proxy_pass http://127.0.0.1:8765; } }\n```\n";
        let config = nginx_config(documentation, Path::new("/d"), 81, "127.0.0.1:82").unwrap();
        assert!(
            config.contains("listen 127.0.0.1:81;") && config.contains("http://127.0.0.1:82"),
            "{config}"
        );
        assert!(nginx_config("nothing", Path::new("/d"), 81, "").is_err());
    }
}
