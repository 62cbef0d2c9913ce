//! Finds or starts the host of an agent instance.

use std::collections::VecDeque;

use async_trait::async_trait;
use switchboard_core::{
    agent::{AgentCommand, AgentExit},
    ids::TurnId,
};
use switchboard_runtime::AgentControl;

use super::{
    ending,
    link::{self, Link, NoLink},
    starter::{HostStarter, HostedInstance, chat_name},
    waiting,
};
use crate::{
    exec::ports::{ControlSource, RecordSink},
    host::{directory::HostDirectory, earlier, notes},
    session::{RecordDecoder, Session, gone},
};

/// Most hosts that are started for an instance if they exit at once.
const STARTS: usize = 5;

/// A host that answers, or the reason why none does.
pub(super) struct Found {
    pub(super) link: Result<Link, NoLink>,
    pub(super) decoder: RecordDecoder,
    /// Commands that came before the host was found and that the session has not, in order.
    pub(super) commands: VecDeque<AgentCommand>,
    /// Whether the instance was stopped meanwhile.
    pub(super) stopped: bool,
    /// The turn for which an instance of an earlier gateway is taken over.
    pub(super) adopted_turn: Option<TurnId>,
}

/// Finds the host of an agent instance, or starts it. Hosts that earlier gateways were starting may appear and exit
/// meanwhile, any number of them.
///
/// # Errors
/// If there can be no host, or the instance was killed; the error is the reason for which the instance ends.
pub(super) async fn host<O: ControlSource, S: RecordSink>(
    agent: &HostStarter,
    directory: &HostDirectory,
    hosted: &mut HostedInstance<O, S>,
    session: &mut Session,
) -> Result<Found, AgentExit> {
    let began = hosted.resume.as_ref().is_some_and(|resume| resume.position > 0 || agent.spools_lost);
    let mut started = 0;
    let mut position = 0;
    let mut early = Early::default();
    loop {
        // An earlier gateway may have been starting a host, which may not exist yet, or be about to listen. It has no
        // commands yet. If two hosts start, the one that gets the lock serves the instance.
        let unborn = !began && !has_records(directory);
        let (decoder, adopted_turn) = if unborn && !directory.is_live() {
            if early.stopped {
                return Err(AgentExit::Stopped);
            }
            (start(agent, directory, hosted, session, &mut position, &mut early, &mut started).await?, None)
        } else {
            take_up(agent, directory, hosted)?
        };
        let from = decoder.state().position + 1;
        let connecting = link::connect(directory, from, agent.agent.config().limits.host.start);
        let link = early.during(directory, &mut hosted.control, connecting).await?;
        // A host whose gateway has gone before the host listened exits.
        if matches!(link, Err(NoLink::Dead)) && unborn && started < STARTS && !has_records(directory) {
            continue;
        }
        let Early { commands, stopped } = early;
        return Ok(Found { link, decoder, commands, stopped, adopted_turn });
    }
}

/// Whether a host has written anything.
fn has_records(directory: &HostDirectory) -> bool {
    notes::exist(directory.dir()) || earlier::has_records(directory.dir())
}

/// Control messages that arrive while the host of an instance is found or started.
#[derive(Default)]
struct Early {
    commands: VecDeque<AgentCommand>,
    /// Whether the instance was stopped; then its host is stopped once it answers.
    stopped: bool,
}

impl Early {
    fn before<'a, O>(&'a mut self, control: &'a mut O) -> EarlyFirst<'a, O> {
        EarlyFirst { commands: &mut self.commands, control }
    }

    /// Runs `search`, and receives control messages meanwhile. If the instance is killed, its host is killed as well.
    ///
    /// # Errors
    /// If the instance was killed.
    async fn during<O: ControlSource, T>(
        &mut self,
        directory: &HostDirectory,
        control: &mut O,
        search: impl Future<Output = T>,
    ) -> Result<T, AgentExit> {
        let mut search = std::pin::pin!(search);
        loop {
            let mut message = tokio::select! {
                biased;
                found = &mut search => return Ok(found),
                message = control.next() => Some(message),
            };
            while let Some(received) = message.take() {
                match received {
                    AgentControl::Command(command) => self.commands.push_back(command),
                    AgentControl::Stop => {
                        message = after_stop(control).await;
                        if message == Some(AgentControl::Stop) {
                            // The gateway is shutting down; the next gateway takes the host over.
                            return std::future::pending().await;
                        }
                        self.stopped = true;
                    }
                    AgentControl::Kill => {
                        ending::by_force(directory).await;
                        return Err(AgentExit::Stopped);
                    }
                }
            }
        }
    }
}

/// A control source that first repeats the commands that came before.
struct EarlyFirst<'a, O> {
    commands: &'a mut VecDeque<AgentCommand>,
    control: &'a mut O,
}

#[async_trait]
impl<O: ControlSource> ControlSource for EarlyFirst<'_, O> {
    async fn next(&mut self) -> AgentControl {
        match self.commands.pop_front() {
            Some(command) => AgentControl::Command(command),
            None => self.control.next().await,
        }
    }
}

/// The control message behind a stop, if there is one already. Another stop means that the senders are gone: the source
/// then returns [`AgentControl::Stop`] every time, while a stop that somebody sent arrives only once.
pub(super) async fn after_stop<O: ControlSource>(control: &mut O) -> Option<AgentControl> {
    let next = tokio::task::coop::unconstrained(async {
        tokio::select! {
            biased;
            message = control.next() => Some(message),
            () = std::future::ready(()) => None,
        }
    });
    next.await
}

/// Waits for a prompt and starts a host, unless the host of an earlier gateway appears first. The host's records begin
/// after `position`, which is moved past the records from the time of waiting.
async fn start<O: ControlSource, S: RecordSink>(
    agent: &HostStarter,
    directory: &HostDirectory,
    hosted: &mut HostedInstance<O, S>,
    session: &mut Session,
    position: &mut u64,
    early: &mut Early,
    started: &mut usize,
) -> Result<RecordDecoder, AgentExit> {
    let mut decoder = agent.agent.decoder(hosted.instance, hosted.session.as_deref());
    decoder.begin_after(*position);
    let mut control = early.before(&mut hosted.control);
    if !waiting::for_prompt(session, &mut decoder, &mut control, &hosted.records).await {
        return Err(AgentExit::Stopped);
    }
    *position = decoder.state().position;
    let starting = link::start(agent, hosted.instance.0, &hosted.chat, *position + 1);
    let begun = early.during(directory, &mut hosted.control, starting).await?;
    *started += usize::from(begun.is_ok());
    if let Err(error) = begun
        && !directory.is_live()
    {
        let said = directory.last_words();
        let agent = &agent.agent;
        tracing::warn!(agent = agent.config().name, %error, said, "an agent's host could not be started");
        let why = if error.kind() == std::io::ErrorKind::UnexpectedEof {
            "its host ended at once; the gateway's log says more".to_owned()
        } else {
            format!("its host cannot be started ({error}); look at the folder hosts of the data directory")
        };
        return Err(agent.start_failed(&why));
    }
    Ok(decoder)
}

/// The decoder for an instance that has or had a host, restored from the log's checkpoint, and the turn to resume.
fn take_up<O, S>(
    agent: &HostStarter,
    directory: &HostDirectory,
    hosted: &HostedInstance<O, S>,
) -> Result<(RecordDecoder, Option<TurnId>), AgentExit> {
    let instance = hosted.instance.0;
    if !directory.dir().exists() {
        // The log was restored without the directory of hosts, or that directory was removed.
        tracing::info!(instance, "nothing is left of the agent that this chat had");
        let detail =
            "The gateway was restarted before the answer was complete, and nothing is left of its agent.";
        return Err(gone("gateway_restarted", detail));
    }
    if directory.card().is_some_and(|card| card.chat != chat_name(&hosted.chat)) {
        tracing::error!(instance, "the host of this agent instance serves another chat; it is left alone");
        return Err(gone("agent_host_lost", "The agent's host is lost."));
    }
    let mut decoder = agent.agent.decoder(hosted.instance, hosted.session.as_deref());
    let Some(resume) = &hosted.resume else { return Ok((decoder, None)) };
    if resume.checkpoint.as_ref().is_some_and(|checkpoint| !decoder.restore(checkpoint)) {
        tracing::warn!(instance, "a decoder's checkpoint cannot be read; all records are decoded");
    }
    decoder.set_published(resume.position);
    decoder.pass_only(resume.turn.clone());
    Ok((decoder, resume.turn.clone()))
}
