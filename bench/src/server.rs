//! The measured processes. They run on one core, and the load runs on the other.

use std::{
    env, fs, io,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use clap::ValueEnum as _;
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_setaffinity},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{
    cpu::CpuTime,
    peer::Kind,
    wire::{Addresses, Wire},
};

/// The core of the measured process.
pub(crate) const SERVER_CORE: usize = 0;
/// The core of the load and the agents.
pub(crate) const LOAD_CORE: usize = 1;
/// A process has this long to announce its address, or to end after a signal. Far longer than any bar, so that a row
/// shows a gateway that starts slowly.
const START: Duration = Duration::from_secs(60);

/// Limits that have to be raised for the bench, as lines of the gateway's configuration file.
const LIMITS: &str = "frames_per_second = 10000\nframes_burst = 10000\nqueued_turns = 64\n";
/// The number of agents that a gateway may run, where a row does not choose another.
const AGENTS: usize = 256;
/// A gateway has this long to end its agents. Longer than its `shutdown_ms`, so that a row shows a gateway that does
/// not keep it.
const SHUTDOWN: Duration = Duration::from_secs(120);

/// Which journal the gateway uses, and where its agents run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The journal is in memory, and agents are children of the gateway.
    Nothing,
    /// The journal is on disk, and agents run below hosts: the gateway's default.
    Everything,
}

impl Durability {
    /// The text that marks this setting in the name of a row.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Everything => ", journal and hosts on",
        }
    }
}

/// A measured process; killed when this handle is dropped.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) at: Addresses,
    child: Child,
    /// Whether hosts run on the core of their agents instead of the gateway's.
    hosts_apart: bool,
    /// The server's temporary directory, removed on drop.
    _directory: Option<TempDir>,
}

impl Server {
    /// Starts a release build of the gateway on a new directory. `merge`: deltas are joined.
    pub(crate) async fn gateway(merge: bool, durability: Durability) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut server = Self::gateway_on(directory.path(), merge, durability).await?;
        server._directory = Some(directory);
        Ok(server)
    }

    /// Starts a release build of the gateway on an existing directory, which is not removed afterwards.
    pub(crate) async fn gateway_on(
        directory: &Path,
        merge: bool,
        durability: Durability,
    ) -> io::Result<Self> {
        let command = on_core(SERVER_CORE, &gateway_binary()?);
        let merge_bytes = if merge { 16 * 1024 } else { 0 };
        let limits = format!("agents = {AGENTS}\nmerge_bytes = {merge_bytes}\n");
        let data = data_of(directory);
        Self::launch(directory, &data, command, &agent_command()?, &limits, durability).await
    }

    /// Starts a gateway with a prepared data directory, which is not removed afterwards.
    pub(crate) async fn gateway_with_data(data: &Path) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let command = on_core(SERVER_CORE, &gateway_binary()?);
        let durability = Durability::Everything;
        let mut server =
            Self::launch(directory.path(), data, command, &agent_command()?, "", durability).await?;
        server._directory = Some(directory);
        Ok(server)
    }

    /// Starts a gateway that may run `agents` agents on a new directory. The gateway, its hosts and its agents share
    /// all cores.
    pub(crate) async fn on_all_cores(agents: usize, durability: Durability) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(gateway_binary()?);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let agent = format!("{} agent", env::current_exe()?.display());
        let limits = format!("agents = {agents}\n");
        let data = data_of(directory.path());
        let mut server = Self::launch(directory.path(), &data, command, &agent, &limits, durability).await?;
        server._directory = Some(directory);
        Ok(server)
    }

    async fn launch(
        directory: &Path,
        data: &Path,
        mut command: Command,
        agent: &str,
        limits: &str,
        durability: Durability,
    ) -> io::Result<Self> {
        let path = |name: &str| directory.join(name);
        fs::write(path("config.toml"), format!("[limits]\n{LIMITS}{limits}"))?;
        command.args(["serve", "--listen", "127.0.0.1:0", "--no-auth", "--dialect", "claude"]);
        command.arg("--agent-command").arg(agent);
        // Whether bubblewrap is installed must not matter.
        command.args(["--sandbox", "off"]);
        command.arg("--config").arg(path("config.toml"));
        let durability = match durability {
            Durability::Nothing => "none",
            Durability::Everything => "normal",
        };
        command.args(["--durability", durability]).arg("--data-dir").arg(data);
        command.arg("--workspace").arg(directory);
        command.arg("--unix").arg(path("socket"));
        command.arg("--port-file").arg(path("port"));
        command.env("RUST_LOG", "error").stdout(Stdio::null()).stderr(Stdio::inherit());
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        let _ = fs::remove_file(path("port"));
        let mut child = command.spawn()?;
        let began = Instant::now();
        let address = loop {
            if let Ok(text) = fs::read_to_string(path("port")) {
                let line = text.lines().next().unwrap_or_default();
                let address = line.trim_start_matches("http://").trim_end_matches('/');
                break address.parse().map_err(io::Error::other)?;
            }
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!("the gateway ended: {status}")));
            }
            if began.elapsed() > START {
                return Err(io::Error::other("the gateway does not start"));
            }
            sleep(Duration::from_millis(2)).await;
        };
        let at = Addresses { tcp: address, unix: path("socket") };
        Ok(Self { kind: Kind::Gateway(Wire::WebSocket), at, child, hosts_apart: false, _directory: None })
    }

    /// Makes peers connect to the gateway over this wire.
    pub(crate) fn over(mut self, wire: Wire) -> Self {
        self.kind = Kind::Gateway(wire);
        self
    }

    /// Makes the gateway's hosts run on the core of their agents.
    pub(crate) fn with_hosts_apart(mut self) -> Self {
        self.hosts_apart = true;
        self
    }

    /// Moves the running hosts to the core of their agents, if this was chosen.
    pub(crate) fn place_hosts(&self) -> io::Result<()> {
        let Some(gateway) = self.child.id().filter(|_| self.hosts_apart) else { return Ok(()) };
        let mut core = CpuSet::new();
        core.set(LOAD_CORE);
        // The kernel lists the children of a process per thread.
        for thread in fs::read_dir(format!("/proc/{gateway}/task"))? {
            let children = fs::read_to_string(thread?.path().join("children"))?;
            for pid in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
                sched_setaffinity(Some(pid), &core)?;
            }
        }
        Ok(())
    }

    /// Starts the `limit` reference.
    pub(crate) async fn limit(wire: Wire, chats: usize, sockets: usize) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = reference("limit")?;
        let wire_name = wire.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        command.args([
            "--wire",
            &wire_name,
            "--chats",
            &chats.to_string(),
            "--sockets",
            &sockets.to_string(),
        ]);
        let unix = directory.path().join("socket");
        command.arg("--unix").arg(&unix);
        let mut server = Self::announced(Kind::Limit(wire), command, unix).await?;
        server._directory = Some(directory);
        Ok(server)
    }

    /// Starts the `relay` reference.
    pub(crate) async fn relay() -> io::Result<Self> {
        Self::announced(Kind::Relay, reference("relay")?, PathBuf::new()).await
    }

    /// Starts the server of bare WebSocket handshakes.
    pub(crate) async fn handshakes() -> io::Result<Self> {
        let mut command = on_core(SERVER_CORE, &env::current_exe()?);
        command.arg("handshakes");
        Self::announced(Kind::Limit(Wire::WebSocket), command, PathBuf::new()).await
    }

    /// Starts websocketd with the same agents; `None` if it is not installed.
    pub(crate) async fn websocketd() -> io::Result<Option<Self>> {
        let paths = env::var_os("PATH").unwrap_or_default();
        let program =
            env::split_paths(&paths).map(|path| path.join("websocketd")).find(|path| path.is_file());
        let Some(program) = program else { return Ok(None) };
        // websocketd takes port 0 for its default. The port of a listener that was closed is free.
        let tcp = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = on_core(SERVER_CORE, &program);
        command.args(["--address=127.0.0.1", "--loglevel=error", &format!("--port={}", tcp.port())]);
        command.args(agent_command()?.split_whitespace()).stdout(Stdio::null());
        let child = command.spawn()?;
        let began = Instant::now();
        while let Err(error) = TcpStream::connect(tcp).await {
            if began.elapsed() > START {
                return Err(error);
            }
            sleep(Duration::from_millis(2)).await;
        }
        let at = Addresses { tcp, unix: PathBuf::new() };
        Ok(Some(Self { kind: Kind::Websocketd, at, child, hosts_apart: false, _directory: None }))
    }

    /// Starts a reference and reads its address from the first line of its output.
    async fn announced(kind: Kind, mut command: Command, unix: PathBuf) -> io::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no stdout"))?;
        let line = BufReader::new(stdout).lines().next_line().await?.unwrap_or_default();
        let at = Addresses { tcp: line.parse().map_err(io::Error::other)?, unix };
        Ok(Self { kind, at, child, hosts_apart: false, _directory: None })
    }

    /// The CPU time of the process and, if it is a gateway, of its hosts. The agents' is not included.
    pub(crate) fn cpu_time(&self) -> io::Result<CpuTime> {
        CpuTime::of(self.pid()?)
    }

    fn pid(&self) -> io::Result<u32> {
        self.child.id().ok_or_else(|| io::Error::other("the process has ended"))
    }

    /// Resident memory of the process, in bytes.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        let pid = self.pid()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("no VmRSS"))
    }

    /// Interrupts a gateway, which ends its agents, and waits for its exit. Returns how long that took, and whether the
    /// gateway ended all agents in order.
    pub(crate) async fn interrupt(mut self) -> io::Result<(Duration, bool)> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.ok_or_else(|| io::Error::other("the gateway has ended"))?;
        let began = Instant::now();
        kill_process(pid, Signal::INT)?;
        let status = timeout(SHUTDOWN, self.child.wait()).await.map_err(io::Error::other)??;
        Ok((began.elapsed(), status.success()))
    }

    /// Ends the process and waits for its exit.
    pub(crate) async fn stop(mut self) -> io::Result<()> {
        if let (Kind::Gateway(_), Some(pid)) = (self.kind, self.child.id()) {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                kill_process(pid, Signal::INT)?;
            }
            if timeout(START, self.child.wait()).await.is_ok() {
                return Ok(());
            }
        }
        self.child.kill().await
    }
}

/// The data directory of a gateway on this directory.
pub(crate) fn data_of(directory: &Path) -> PathBuf {
    directory.join("data")
}

pub(crate) fn on_core(core: usize, program: &PathBuf) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// The command that runs this program as a reference.
fn reference(role: &str) -> io::Result<Command> {
    let mut command = on_core(SERVER_CORE, &env::current_exe()?);
    command.arg(role).arg("--agent").arg(agent_command()?);
    Ok(command)
}

fn agent_command() -> io::Result<String> {
    Ok(format!("taskset -c {LOAD_CORE} {} agent", env::current_exe()?.display()))
}

/// The path of the gateway's binary, beside the binary of this program.
fn gateway_binary() -> io::Result<PathBuf> {
    let path = env::current_exe()?.with_file_name("switchboard");
    if path.exists() {
        return Ok(path);
    }
    Err(io::Error::other("there is no release build of the gateway; run `cargo xtask bench`"))
}
