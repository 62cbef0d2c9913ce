//! A data directory, the gateways that run on it one after the other, and every process that comes of them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use crate::agent::AS_AGENT;

/// Anything that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// In the environment of every process of a site: hosts and agents inherit variables that begin like this. It is
/// not the product's own mark, by which it cleans up.
const MARK: &str = "CLAUDE_TEST_SITE";

/// A place for gateways.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    data: PathBuf,
    /// Further arguments of every gateway.
    pub(crate) flags: Vec<String>,
    /// Further variables in the gateways' environment.
    pub(crate) environment: Vec<(String, String)>,
    mark: String,
}

/// What a process of a site is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Gateway,
    Host,
    Agent,
    /// Whatever an agent has started.
    Helper,
}

/// A gateway that was started.
pub(crate) struct Gateway {
    child: Child,
}

impl Site {
    /// With these lines below `[limits]`.
    pub(crate) fn new(limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::at(folder, data, limits)
    }

    /// With the data directory somewhere else.
    pub(crate) fn at(folder: tempfile::TempDir, data: PathBuf, limits: &str) -> Self {
        let config = format!(
            "listen = \"127.0.0.1:0\"\n[limits]\nconnections_per_principal = \"off\"\nmessages_per_minute = \"off\"\n\
             new_chats_per_minute = \"off\"\nframes_per_second = 1000000\nframes_burst = 1000000\n{limits}\n"
        );
        fs::write(folder.path().join("config.toml"), config).unwrap();
        for name in ["work", "truth", "home"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mark = folder.path().to_str().unwrap().to_owned();
        Self { folder, data, flags: Vec::new(), environment: Vec::new(), mark }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// Where agents write down what they were told and what they said.
    pub(crate) fn truth(&self) -> PathBuf {
        self.path("truth")
    }

    /// Starts a gateway and does not wait for it.
    pub(crate) fn spawn(&self) -> Gateway {
        let _ = fs::remove_file(self.path("port"));
        Gateway { child: self.command().spawn().unwrap() }
    }

    pub(crate) fn command(&self) -> Command {
        let log = OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let exe = std::env::current_exe().unwrap();
        let agent = format!("{} {AS_AGENT} {}", exe.display(), self.truth().display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
        command.env_remove("RUST_LOG").env_remove("SWITCHBOARD_TOKEN").env(MARK, &self.mark);
        command.env("HOME", self.path("home")).env_remove("XDG_CONFIG_HOME");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("serve").arg("--config").arg(self.path("config.toml"));
        command.arg("--data-dir").arg(&self.data).arg("--workspace").arg(self.path("work"));
        command.arg("--port-file").arg(self.path("port")).arg("--unix").arg(self.data("socket"));
        command.args(["--agent-command", &agent, "--dialect", "claude"]).args(&self.flags);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    /// Starts a gateway and waits until it is ready.
    pub(crate) fn start(&self) -> Gateway {
        let mut gateway = self.spawn();
        self.ready(&mut gateway);
        gateway
    }

    pub(crate) fn ready(&self, gateway: &mut Gateway) {
        eventually("the gateway is ready", || {
            if let Some(status) = gateway.child.try_wait().unwrap() {
                panic!("the gateway did not start ({status}): {}", self.log_end());
            }
            self.address().is_some()
        });
    }

    /// Where the newest gateway listens, once it does.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        fs::read_to_string(self.path("port")).ok()?.lines().next()?.parse().ok()
    }

    pub(crate) fn token(&self) -> Option<String> {
        let token = fs::read_to_string(self.data("token")).ok()?;
        Some(token.trim().to_owned()).filter(|token| !token.is_empty())
    }

    /// What `/readyz` answers, head and all.
    pub(crate) fn readyz(&self) -> String {
        let (address, token) = (self.address().unwrap(), self.token().unwrap());
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!(
            "GET /readyz HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub(crate) fn log(&self) -> String {
        let mut log = Vec::new();
        File::open(self.path("log")).and_then(|mut file| file.read_to_end(&mut log)).unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }

    pub(crate) fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Every process that bears the mark and is no zombie.
    pub(crate) fn processes(&self) -> Vec<(i32, Role)> {
        let wanted = format!("{MARK}={}", self.mark);
        // The environment of gateways and hosts is theirs alone: these are known by what else they are known by.
        let hosts: Vec<i32> = self.hosts().iter().filter_map(|host| host_of(host)).collect();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let marked = pids.filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
                || hosts.contains(pid) && role(*pid) == Some(Role::Host)
                || role(*pid) == Some(Role::Gateway) && command_line(*pid).contains(&self.mark)
        });
        marked.filter_map(|pid| Some((pid, role(pid)?))).collect()
    }

    pub(crate) fn of_role(&self, role: Role) -> Vec<i32> {
        self.processes().into_iter().filter(|(_, is)| *is == role).map(|(pid, _)| pid).collect()
    }

    /// The directories of agents' hosts.
    pub(crate) fn hosts(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.data("hosts")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }
}

/// The process that a host's directory names.
fn host_of(dir: &Path) -> Option<i32> {
    let card: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("host.json")).ok()?).ok()?;
    i32::try_from(card["pid"].as_i64()?).ok()
}

fn command_line(pid: i32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

fn role(pid: i32) -> Option<Role> {
    // A zombie has no command line.
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty())?;
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    Some(match words.get(1) {
        Some(word) if *word == AS_AGENT.as_bytes() => Role::Agent,
        Some(&b"agent-host") => Role::Host,
        Some(&b"serve") => Role::Gateway,
        _ => Role::Helper,
    })
}

impl Drop for Site {
    fn drop(&mut self) {
        // A test that failed leaves nothing to anybody.
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for (pid, _) in left {
                signal(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if std::thread::panicking() {
            let kept = std::env::temp_dir().join(format!("faults-{}", std::process::id()));
            let _ = fs::remove_dir_all(&kept);
            let copied = Command::new("cp").arg("-r").arg(self.folder.path()).arg(&kept).status();
            if copied.is_ok_and(|status| status.success()) {
                report(&format!("what was there is in {}", kept.display()));
            }
        }
    }
}

/// Says something to whoever runs the tests.
#[allow(clippy::print_stderr, reason = "of use only where it can be read")]
pub(crate) fn report(text: &str) {
    eprintln!("{text}");
}

impl Gateway {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub(crate) fn signal(&self, what: Signal) {
        signal(self.pid(), what);
    }

    /// `kill -9`, and away it is.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        let status = self.child.wait().unwrap();
        assert!(status.code().is_none(), "it ended by itself before it was killed: {status}");
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the gateway ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What its descriptors lead to.
    pub(crate) fn descriptors(&self) -> Vec<String> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid())).into_iter().flatten().flatten();
        let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.map(|target| target.to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Signals a process, if it is there.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Waits until something is true, and fails if it does not become so in time.
#[track_caller]
pub(crate) fn eventually(what: &str, is_true: impl FnMut() -> bool) {
    within(PATIENCE, what, is_true);
}

/// Waits until something is true. Gives whether it became so in time.
pub(crate) fn becomes_true(mut is_true: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Waits until something is true, this long at most. Gives how long it took.
#[track_caller]
pub(crate) fn within(limit: Duration, what: &str, mut is_true: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < limit, "it did not come true within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    began.elapsed()
}

/// A file that is there whole.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
}
