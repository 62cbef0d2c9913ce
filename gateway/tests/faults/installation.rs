//! A data directory, the gateways that run on it one after the other, and all processes that they start.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use switchboard_test_support::{eventually, process, switchboard, wait_for_exit};

use crate::agent::AS_AGENT;

/// A data directory with its gateways.
pub(crate) struct Installation {
    folder: tempfile::TempDir,
    data: PathBuf,
    /// Further arguments of every gateway.
    pub(crate) flags: Vec<String>,
    /// Further variables in the gateways' environment.
    pub(crate) environment: Vec<(String, String)>,
    mark: String,
}

/// The role of a process of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Gateway,
    Host,
    Agent,
    /// A process that an agent has started.
    Helper,
}

/// A gateway that was started.
pub(crate) struct Gateway {
    child: Child,
}

impl Installation {
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

    /// The directory in which agents record their input and their output.
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
        let mut command = switchboard();
        command.env(process::MARK, &self.mark).env("HOME", self.path("home"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("serve").arg("--config").arg(self.path("config.toml"));
        command.arg("--data-dir").arg(&self.data).arg("--workspace").arg(self.path("work"));
        command.arg("--port-file").arg(self.path("port")).arg("--unix").arg(self.data("socket"));
        command.args(["--agent-command", &agent, "--dialect", "claude"]).args(&self.flags);
        command.stdout(Stdio::null()).stderr(log);
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

    /// The address of the newest gateway, once it listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        fs::read_to_string(self.path("port")).ok()?.lines().next()?.parse().ok()
    }

    pub(crate) fn token(&self) -> Option<String> {
        let token = fs::read_to_string(self.data("token")).ok()?;
        Some(token.trim().to_owned()).filter(|token| !token.is_empty())
    }

    /// The whole response of `/readyz`.
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

    /// All processes of the installation, without zombies.
    pub(crate) fn processes(&self) -> Vec<(i32, Role)> {
        let mut pids: HashSet<Pid> = process::with_mark(&self.mark).into_iter().collect();
        pids.extend(process::hosts(&self.data));
        pids.into_iter().filter_map(|pid| Some((pid.as_raw_nonzero().get(), role(pid)?))).collect()
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

fn role(pid: Pid) -> Option<Role> {
    let arguments = process::arguments(pid);
    arguments.first()?;
    Some(match arguments.get(1).map(String::as_str) {
        Some(AS_AGENT) => Role::Agent,
        Some("agent-host") => Role::Host,
        Some("serve") => Role::Gateway,
        _ => Role::Helper,
    })
}

impl Drop for Installation {
    fn drop(&mut self) {
        // After a failed test, no process remains.
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

/// Prints a line.
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

    /// Kills it with SIGKILL, and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        let status = self.child.wait().unwrap();
        assert!(status.code().is_none(), "it ended by itself before it was killed: {status}");
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for_exit(&mut self.child)
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The targets of its file descriptors.
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

/// Sends a signal to a process if it exists.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        process::signal(pid, signal);
    }
}
