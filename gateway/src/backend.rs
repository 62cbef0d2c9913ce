//! The backend of the gateway: the journal, the agents, and the loop that drives the hub.

use std::{collections::BTreeSet, env, io, path::PathBuf, sync::Arc};

use switchboard_agent_bridge::{
    BridgeLimits, HostAgent, HostConfig, ProcessAgent, ProcessConfig, Sandbox, end_orphans, kill_all_hosts,
    sweep_leftovers,
};
use switchboard_core::agent::AgentInstanceId;
use switchboard_runtime::{
    Gateway, Memory, OpenError, OpenErrorReason, Running, Salvaged, Sqlite, SqliteOptions, entropy,
};

use crate::{
    agents::Chosen,
    config::{Config, Durability},
    data_dir::{DataDir, HOSTS, JOURNAL},
    failure::{Failure, Result},
};

/// A running gateway and its agents.
pub(crate) struct Backend {
    pub(crate) gateway: Gateway,
    /// The agents in hosts, which outlive this process. `None` without a journal on disk: the next gateway then knows
    /// no turn that it could resume.
    hosts: Option<Arc<HostAgent>>,
    leftovers: Leftovers,
}

/// How to find processes that agents left behind.
struct Leftovers {
    mark: String,
    hosts: PathBuf,
}

impl Backend {
    /// Opens the journal, ends leftover processes of an earlier gateway that belong to no resumable turn, and starts
    /// the gateway's loop.
    ///
    /// # Errors
    ///
    /// The journal cannot be opened, the system gives no random bytes, or the path of this program is unknown.
    pub(crate) fn start(
        config: &Config,
        data_dir: &DataDir,
        agent: &Chosen,
        sandbox: Option<Sandbox>,
    ) -> Result<(Self, Running)> {
        let leftovers = Leftovers { mark: data_dir.mark(), hosts: data_dir.path().join(HOSTS) };
        let seed = entropy().map_err(Failure::system)?;
        let limits = config.limits.clone();
        let Some(journal) = journal(config, data_dir)? else {
            leftovers.end(&BTreeSet::new());
            let agent = ProcessAgent::new(process(config, agent, sandbox, leftovers.mark.clone())?);
            let (gateway, running) = Gateway::start(limits, seed, Memory::new(), Arc::new(agent));
            return Ok((Self { gateway, hosts: None, leftovers }, running));
        };
        leftovers.end(&journal.report().agents);
        let spools_lost = journal.report().rebooted || journal.report().lost_commits;
        // Agents below hosts get another mark, so that the sweep for leftovers does not end them.
        let process = process(config, agent, sandbox, format!("{}h", leftovers.mark))?;
        let program = env::current_exe().ok().and_then(|path| path.into_os_string().into_string().ok());
        let program = program.ok_or_else(|| {
            Failure::new(
                "Agents cannot be started: this program does not know where it lies.",
                "Start it by its path, or keep nothing with --durability none.",
            )
        })?;
        let host = vec![program, "agent-host".into()];
        let hosts = leftovers.hosts.clone();
        let agent = Arc::new(HostAgent::new(HostConfig { process, hosts, host, spools_lost }));
        let hosts = Some(Arc::clone(&agent));
        let (gateway, running) = Gateway::start(limits, seed, journal, agent);
        Ok((Self { gateway, hosts, leftovers }, running))
    }

    /// Whether running turns can go on after this process has ended.
    pub(crate) fn can_leave(&self) -> bool {
        self.hosts.is_some()
    }

    /// Whether running turns go on after `signal`, for the next gateway to resume. A restart or an upgrade should not
    /// interrupt turns, while a person who presses Ctrl-C wants everything to end.
    pub(crate) fn leaves_at(&self, signal: &str) -> bool {
        self.can_leave() && signal != "SIGINT"
    }

    /// Stops the gateway, and leaves running turns and agents to the next gateway.
    pub(crate) fn leave(&self) {
        if let Some(hosts) = &self.hosts {
            hosts.leave();
        }
        self.gateway.leave();
    }

    /// Kills all remaining agents at once. Returns the number of killed processes.
    pub(crate) fn kill_leftovers(&self) -> usize {
        self.leftovers.killed(kill_all_hosts(&self.leftovers.hosts))
    }
}

impl Leftovers {
    fn end(&self, keep: &BTreeSet<AgentInstanceId>) -> usize {
        self.killed(end_orphans(&self.hosts, keep))
    }

    /// Kills agents without a host. Returns their number and that of the hosts that were ended.
    fn killed(&self, hosts: io::Result<usize>) -> usize {
        let hosts = hosts.unwrap_or_else(|error| {
            tracing::warn!(%error, "the directories of the agents' hosts cannot be read");
            0
        });
        let ended = hosts + sweep_leftovers(&self.mark);
        if ended > 0 {
            tracing::warn!(ended, "what agents left behind was ended");
        }
        ended
    }
}

fn process(
    config: &Config,
    agent: &Chosen,
    sandbox: Option<Sandbox>,
    mark_prefix: String,
) -> Result<ProcessConfig> {
    let mut seed = [0; 16];
    getrandom::fill(&mut seed).map_err(|error| Failure::system(error.into()))?;
    Ok(ProcessConfig {
        name: agent.name.clone(),
        command: agent.command.clone(),
        dialect: agent.dialect,
        workspace: config.workspace.clone(),
        env: Vec::new(),
        sandbox,
        mark_prefix,
        seed,
        limits: BridgeLimits::default(),
    })
}

/// Opens the journal on disk; `None` with `--durability none`.
fn journal(config: &Config, data_dir: &DataDir) -> Result<Option<Sqlite>> {
    let mut options = SqliteOptions::default();
    match config.durability {
        Durability::None => return Ok(None),
        Durability::Normal => {}
        Durability::Strict => options.strict = true,
    }
    options.accept_loss = config.accept_loss;
    let journal = Sqlite::open(data_dir.path().join(JOURNAL), options).map_err(|error| unusable(&error))?;
    let report = journal.report();
    if let Some(Salvaged { chats, events, unread, .. }) = report.salvaged {
        tracing::warn!(chats, events, unread, "the journal was damaged: what could be read of it is served");
        if chats == 0 || events == 0 {
            tracing::error!(
                "nothing leads to what the journal has of most chats any more: the copy still has it, and `sqlite3 COPY .recover` may give some of it"
            );
        }
    }
    if let Some(aside) = &report.set_aside {
        tracing::warn!(aside = %aside.display(), "chats or parts of them are lost, which was accepted: the files were copied aside, and every chat begins a new epoch");
    }
    if report.removed {
        tracing::warn!(
            "journal.db is missing, though a gateway was started here before: a new journal without chats was made"
        );
    }
    if report.restored {
        tracing::info!("the journal is a backup that was restored: every chat begins a new epoch");
    } else if report.uncounted {
        tracing::warn!(
            "journal.db.commits is missing or unreadable, so it is not known whether the journal is whole; it may be a backup that was put in its place: every chat begins a new epoch"
        );
    } else if report.unclean || report.rebooted || report.lost_commits {
        let (rebooted, lost_commits) = (report.rebooted, report.lost_commits);
        tracing::warn!(rebooted, lost_commits, "the journal was not closed in good order");
    }
    tracing::info!(created = report.created, unfinished = report.unfinished.len(), "the journal is open");
    Ok(Some(journal))
}

/// The failure to show when the journal cannot be opened.
pub(crate) fn unusable(error: &OpenError) -> Failure {
    let failure = Failure::new(
        format!("The journal cannot be opened: {error}."),
        "Do what it says, choose another --data-dir, or keep nothing with --durability none.",
    );
    let lost = matches!(
        error.reason,
        OpenErrorReason::Lost { .. } | OpenErrorReason::Damaged { .. } | OpenErrorReason::Unreadable { .. }
    );
    if lost { failure.for_a_person() } else { failure }
}
