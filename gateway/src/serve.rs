//! `switchboard serve`: starts all parts of the gateway, waits for a signal, and shuts them down.

use std::{net::SocketAddr, path::Path, process::ExitCode, sync::Arc, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use switchboard_runtime::Gateway;
use switchboard_transport_unix::{Listener, Options as UnixOptions};
use switchboard_transport_ws::Options;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    agents,
    auth::{AccessControl, Authenticator, Names, PreAuth, Throttle},
    backend::Backend,
    cli::ServeArgs,
    config::Config,
    data_dir::DataDir,
    failure::{Failure, Result},
    http::{self, Site},
    logs, sandbox, startup,
    token::{self, Tokens},
};

/// File descriptors for everything but connections and agents: listeners, files, and two more of each connection to the
/// Unix socket.
const FURTHER_FILES: usize = 4096;
/// File descriptors per agent: both ends of the connection to its host, its process, and those needed during its start.
const AGENT_FILES: usize = 8;
/// After a failed accept on the Unix socket, the next try comes after this delay.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Signals of a supervisor within this time count as one signal.
const REPEATED: Duration = Duration::from_secs(1);

/// After the hub has stopped, the last responses have this long to reach their clients.
const LAST_RESPONSES: Duration = Duration::from_secs(3);

/// Runs the gateway until a signal stops it.
///
/// # Errors
///
/// The configuration is not valid, or a part of the gateway cannot be started.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode> {
    let config = Config::read(args)?;
    let _log = logs::start(config.log.as_deref(), config.log_format)?;
    // Before any secret, such as the token, is in memory.
    if let Err(error) = switchboard_agent_bridge::keep_memory_private() {
        tracing::warn!(%error, "this process's memory may end up in a core dump, or be read by other programs of this user");
    }
    crate::executor::start()?.block_on(serve(config))
}

async fn serve(config: Config) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let data_dir = DataDir::open(&config.data_dir)?;
    let token = if config.auth { Some(token::read_or_make(&config.token_file)?) } else { None };
    let agent = agents::choose(&config.agent, &config.workspace)?;
    let bound = Bound::bind(&config)?;
    let addresses = bound.addresses.clone();
    let files = raise_file_limit(files_wanted(&config));
    adopt_orphans();

    let sandbox = sandbox::Found::probe(&config, data_dir.path())?;
    sandbox.log(&config);
    let sandbox_level = sandbox.describe();
    let (backend, running) = Backend::start(&config, &data_dir, &agent, sandbox.into_sandbox())?;
    let access_control = access_control(&config, &addresses);
    let tally = access_control.tally();
    let gateway = backend.gateway.clone();
    let site = Arc::new(Site::new(gateway, Options::default(), access_control, &config.base_path));
    let mut listeners = Listeners::default();
    listeners.tasks.spawn({
        let (tally, stopped) = (Arc::clone(&tally), listeners.stop.subscribe());
        async move { tally.watch(stopped).await }
    });
    listeners.start(&config, bound, &backend.gateway, &site, files);

    site.set_ready(true);
    if let Some(path) = &config.port_file {
        startup::write_port_file(path, &addresses, &config.listen_unix)?;
    }
    startup::announce(&config, &addresses, token.as_ref(), &agent, &sandbox_level);
    if let (true, Some(address)) = (config.open, addresses.first()) {
        let url = startup::page_url(*address, &config.base_path, token.as_ref());
        startup::open_page(data_dir.path(), &url, token.is_some());
    }
    drop(token);
    tracing::info!(addresses = ?addresses, sockets = ?config.listen_unix, agent = agent.name, auth = config.auth, "ready");

    let mut finished = std::pin::pin!(running.finished());
    let signal = wait_for_stop(&mut signals, &mut finished).await;
    site.set_ready(false);
    let is_orderly = shut_down(&config, &backend, listeners, &mut signals, signal, finished).await;
    tally.sum_up();
    Ok(if is_orderly { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sockets that are bound and not served yet.
struct Bound {
    listeners: Vec<TcpListener>,
    /// The addresses of `listeners`.
    addresses: Vec<SocketAddr>,
    sockets: Vec<Listener>,
    /// The socket with a line of JSON for each frame.
    lines: Option<Listener>,
}

impl Bound {
    fn bind(config: &Config) -> Result<Self> {
        let listeners =
            config.listen.iter().map(|address| http::bind(*address)).collect::<Result<Vec<_>>>()?;
        let addresses = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<Vec<_>, _>>()
            .map_err(Failure::system)?;
        let sockets =
            config.listen_unix.iter().map(|path| bind_unix(path, "--listen")).collect::<Result<Vec<_>>>()?;
        let lines = config.unix.as_deref().map(|path| bind_unix(path, "--unix")).transpose()?;
        Ok(Self { listeners, addresses, sockets, lines })
    }
}

/// The access control of a gateway that answers at `addresses`.
fn access_control(config: &Config, addresses: &[SocketAddr]) -> AccessControl {
    let authenticator = config.auth.then(|| {
        let throttle = Throttle::new(config.access_control.wrong_tokens_per_minute);
        Arc::new(Authenticator::new(
            Tokens::new(&config.token_file),
            throttle,
            config.access_control.first_frames,
        ))
    });
    AccessControl::new(Names::new(addresses, &config.allow_hosts, &config.allow_origins), authenticator)
}

/// The tasks that serve clients, and how to stop them.
struct Listeners {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Default for Listeners {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), stop: watch::Sender::new(false) }
    }
}

impl Listeners {
    /// Serves all sockets. `files` is the number of files that the process may open.
    fn start(&mut self, config: &Config, bound: Bound, gateway: &Gateway, site: &Arc<Site>, files: usize) {
        if let Some(listener) = bound.lines {
            let options = UnixOptions { connections: config.limits.connections, ..UnixOptions::default() };
            self.tasks.spawn(unix(listener, gateway.clone(), options, self.stop.subscribe()));
        }
        let shared = http::Shared {
            site: Arc::clone(site),
            limits: config.access_control.clone(),
            room: Arc::new(Semaphore::new(http_room(config, files))),
            preauth: PreAuth::new(
                config.access_control.unauthenticated_per_address,
                config.access_control.unauthenticated,
            ),
            stop: self.stop.subscribe(),
        };
        for listener in bound.listeners {
            self.tasks.spawn(http::serve(listener, shared.clone()));
        }
        for socket in bound.sockets {
            self.tasks.spawn(http::serve(socket, shared.clone()));
        }
    }
}

/// Stops everything. `signal` is the reason; `None`: a defect has ended the gateway's loop. Returns whether all parts
/// ended by themselves and in time.
async fn shut_down(
    config: &Config,
    backend: &Backend,
    mut listeners: Listeners,
    signals: &mut Signals,
    signal: Option<&'static str>,
    finished: impl Future<Output = ()>,
) -> bool {
    let leaves = signal.is_some_and(|signal| backend.leaves_at(signal));
    match signal {
        Some(signal) if leaves => {
            tracing::info!(signal, "stopping: running turns go on and are taken up by the next gateway");
        }
        Some(signal) => {
            tracing::info!(signal, "stopping: running turns are interrupted and agents ended");
        }
        None => {
            tracing::error!("a defect has ended the gateway's loop; stopping, so that it can be started anew")
        }
    }
    listeners.stop.send_replace(true);
    if leaves {
        backend.leave();
    } else {
        backend.gateway.shut_down();
    }
    let wind_down = async {
        if signal.is_some() {
            finished.await;
        }
        let responses = async { while listeners.tasks.join_next().await.is_some() {} };
        // A client that has not received its response by then does not read.
        let _ = timeout(LAST_RESPONSES, responses).await;
    };
    let in_time = tokio::select! {
        ended = timeout(config.access_control.shutdown, wind_down) => ended.is_ok(),
        signal = signals.next_after(signal) => {
            tracing::warn!(signal, "stopping at once");
            false
        }
    };
    let _ = config.port_file.as_deref().map(std::fs::remove_file);
    // Remaining agents are killed, unless the next gateway can resume their turns; it can do so after a defect, too.
    let killed = if leaves || signal.is_none() && backend.can_leave() { 0 } else { backend.kill_leftovers() };
    if signal.is_some() && in_time && killed == 0 {
        tracing::info!("stopped");
        return true;
    }
    tracing::warn!(killed, "stopped by force");
    false
}

pub(crate) fn bind_unix(path: &Path, flag: &str) -> Result<Listener> {
    Listener::bind(path).map_err(|error| {
        Failure::new(
            format!("The socket {} cannot be listened on: {error}.", path.display()),
            format!(
                "With {flag}, give a path of at most 107 bytes in a directory that only this user can enter."
            ),
        )
    })
}

/// Serves the JSON-lines socket until `stop` becomes true, then removes the socket.
async fn unix(listener: Listener, gateway: Gateway, options: UnixOptions, mut stop: watch::Receiver<bool>) {
    let serve = async {
        while let Err(error) =
            switchboard_transport_unix::serve(&listener, gateway.clone(), options.clone()).await
        {
            tracing::warn!(%error, "a connection to the socket could not be accepted");
            sleep(ACCEPT_RETRY).await;
        }
    };
    tokio::select! {
        () = serve => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    listener.remove();
}

/// Waits for a signal and returns its name. Returns `None` if the gateway's loop has ended, which only a defect causes:
/// the process then has to exit, since a supervisor cannot restart a process that stays and refuses every client.
async fn wait_for_stop(signals: &mut Signals, finished: impl Future<Output = ()>) -> Option<&'static str> {
    tokio::select! {
        signal = signals.next() => Some(signal),
        () = finished => None,
    }
}

/// The signals that stop the gateway.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(Failure::system);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// The next signal that does not merely repeat `first`, the signal that began the shutdown.
    async fn next_after(&mut self, first: Option<&str>) -> &'static str {
        let begun = Instant::now();
        loop {
            let signal = self.next().await;
            if !is_repeated(first, signal, begun.elapsed()) {
                return signal;
            }
            tracing::info!(signal, "the signal to stop came twice within a second, which counts once");
        }
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv() => "SIGHUP",
        }
    }
}

/// Whether `signal` repeats the first one. A supervisor may signal a process and its group, or send SIGHUP after
/// SIGTERM; a person who presses Ctrl-C again wants the process to stop at once.
fn is_repeated(first: Option<&str>, signal: &str, since: Duration) -> bool {
    let restarts = |signal| matches!(signal, "SIGTERM" | "SIGHUP");
    first.is_some_and(restarts) && restarts(signal) && since < REPEATED
}

/// The number of file descriptors that the configured limits may need.
fn files_wanted(config: &Config) -> usize {
    let agents = config.limits.agents.saturating_mul(AGENT_FILES);
    [config.limits.connections, config.access_control.first_frames, agents, FURTHER_FILES]
        .into_iter()
        .fold(config.access_control.connections, usize::saturating_add)
}

/// Raises the limit of open files to `wanted`, or as far as the system allows. Returns the limit then in force.
fn raise_file_limit(wanted: usize) -> usize {
    let of_system =
        |limit: Option<u64>| limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if of_system(current) >= wanted {
        return of_system(current);
    }
    let reachable = of_system(maximum).min(wanted);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: u64::try_from(reachable).ok(), maximum });
    let now = if raised.is_ok() { reachable } else { of_system(current) };
    if now < wanted {
        tracing::warn!(wanted, now, "the limit of open files is low; fewer connections will fit");
    }
    now
}

/// How many HTTP connections, without those upgraded to WebSocket, may be open. They need no credentials, so they get
/// at most half of scarce file descriptors; otherwise they could prevent agents from starting.
fn http_room(config: &Config, files: usize) -> usize {
    if files < files_wanted(config) {
        config.access_control.connections.min(files / 2)
    } else {
        config.access_control.connections
    }
}

/// Makes this process the parent of processes that agents orphan, so that the bridge can find and end them.
fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        tracing::warn!(%error, "processes that agents leave behind may be missed");
    }
}

#[cfg(test)]
mod tests {
    use switchboard_core::{Limits, Peer, agent::AgentExit, ids::Principal};
    use switchboard_runtime::{Agent, AgentContext, Answers, Journal, OpenJournal, Request};

    use super::*;

    /// The first request ends the loop.
    struct Defect;

    impl OpenJournal for Defect {
        type Journal = Self;

        fn open(self, _: Answers) -> Self {
            self
        }
    }

    impl Journal for Defect {
        fn submit(&mut self, batch: &mut Vec<Request>) {
            assert!(batch.is_empty(), "this is the defect");
        }
    }

    #[test]
    fn a_supervisor_that_signals_twice_signals_once() {
        let soon = REPEATED - Duration::from_millis(1);
        for (first, second, since, repeated) in [
            (Some("SIGTERM"), "SIGTERM", soon, true),
            (Some("SIGTERM"), "SIGHUP", soon, true),
            (Some("SIGTERM"), "SIGTERM", REPEATED, false),
            (Some("SIGTERM"), "SIGINT", soon, false),
            (Some("SIGINT"), "SIGINT", soon, false),
            (Some("SIGINT"), "SIGTERM", soon, false),
            (None, "SIGTERM", soon, false),
        ] {
            assert_eq!(is_repeated(first, second, since), repeated, "{first:?} {second} {since:?}");
        }
    }

    struct Nobody;

    #[async_trait::async_trait]
    impl Agent for Nobody {
        fn name(&self) -> &'static str {
            "nobody"
        }

        async fn run(&self, _: AgentContext) -> AgentExit {
            AgentExit::Stopped
        }
    }

    #[tokio::test]
    async fn a_gateway_whose_loop_has_failed_does_not_stay() {
        let mut signals = Signals::listen().unwrap();
        let (gateway, running) = Gateway::start(Limits::default(), [0; 32], Defect, Arc::new(Nobody));
        let peer = Peer { principal: Principal::owner(), client_id: None };
        let connection = gateway.connect(peer, false).unwrap();
        connection.inbox.text(r#"{"type":"new_chat"}"#).await.unwrap();
        let signal = timeout(Duration::from_secs(30), wait_for_stop(&mut signals, running.finished())).await;
        assert_eq!(signal, Ok(None));
    }
}
