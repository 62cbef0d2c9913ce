//! Finds or starts the host of an agent instance.

use switchboard_core::{
    agent::{AgentCommand, AgentExit},
    ids::TurnId,
};

use super::{
    HostAgent, HostedInstance,
    decoder::InstanceDecoder,
    instance::{chat_name, gone},
    link::{self, Link, NoLink},
    waiting,
};
use crate::{
    driver::{ControlSource, RecordSink, stderr_tail::LastWords},
    host::{place::HostDirectory, spool},
};

/// Most attempts to reach a host that an earlier gateway may have been starting.
const TRIES: usize = 5;

/// A host that answers, or the reason why none does.
pub(super) struct Found {
    pub(super) link: Result<Link, NoLink>,
    pub(super) decoder: InstanceDecoder,
    /// The prompt for which the host was started.
    pub(super) first: Option<AgentCommand>,
    /// The turn for which an instance of an earlier gateway is taken over.
    pub(super) resumed: Option<TurnId>,
}

/// Finds the host of an agent instance, or starts it.
///
/// # Errors
/// If there can be no host; the error is the reason for which the instance ends.
pub(super) async fn host<O: ControlSource, S: RecordSink>(
    agent: &HostAgent,
    place: &HostDirectory,
    life: &mut HostedInstance<O, S>,
) -> Result<Found, AgentExit> {
    let began = life.resume.as_ref().is_some_and(|resume| resume.position > 0 || agent.spools_lost);
    let mut tried = 0;
    let mut first = None;
    loop {
        // An earlier gateway may have been starting a host, which may not exist yet, or be about to listen. It has no
        // commands yet. If two hosts start, the one that gets the lock serves the instance.
        let unborn = !began && !spool::has_records(place.dir());
        let (decoder, resumed) = if unborn && !place.is_live() {
            (start(agent, place, life, &mut first).await?, None)
        } else {
            take_up(agent, place, life)?
        };
        let from = decoder.state().position + 1;
        let link = link::connect(place, from, agent.agent.config().limits.host.start).await;
        tried += 1;
        // A host whose gateway has gone before the host listened exits.
        if matches!(link, Err(NoLink::Dead)) && unborn && tried < TRIES && !spool::has_records(place.dir()) {
            continue;
        }
        return Ok(Found { link, decoder, first: first.map(|(prompt, _)| prompt), resumed });
    }
}

/// Waits for a prompt and starts a host, unless the host of an earlier gateway appears first.
async fn start<O: ControlSource, S: RecordSink>(
    agent: &HostAgent,
    place: &HostDirectory,
    life: &mut HostedInstance<O, S>,
    first: &mut Option<(AgentCommand, u64)>,
) -> Result<InstanceDecoder, AgentExit> {
    if first.is_none() {
        *first = waiting::first_prompt(&mut life.control, &life.records, &agent.agent.backoff).await;
    }
    let Some((_, position)) = *first else { return Err(AgentExit::Stopped) };
    if let Err(error) = link::start(agent, life.instance.0, chat_name(&life.chat), position + 1).await
        && !place.is_live()
    {
        let said = place.last_words();
        let agent = &agent.agent;
        tracing::warn!(agent = agent.config().name, %error, said, "an agent's host could not be started");
        let why = if error.kind() == std::io::ErrorKind::UnexpectedEof {
            "its host ended at once; the gateway's log says more".to_owned()
        } else {
            format!("its host cannot be started ({error}); look at the folder hosts of the data directory")
        };
        return Err(agent.start_failed(&why));
    }
    let mut decoder = decoder(agent, life);
    decoder.begin_after(position);
    Ok(decoder)
}

/// The decoder for an instance that has or had a host, restored from the log's checkpoint, and the turn to resume.
fn take_up<O, S>(
    agent: &HostAgent,
    place: &HostDirectory,
    life: &HostedInstance<O, S>,
) -> Result<(InstanceDecoder, Option<TurnId>), AgentExit> {
    let instance = life.instance.0;
    if !place.dir().exists() {
        // The log was restored without the directory of hosts, or that directory was removed.
        tracing::info!(instance, "nothing is left of the agent that this chat had");
        let detail =
            "The gateway was restarted before the answer was complete, and nothing is left of its agent.";
        return Err(gone("gateway_restarted", detail));
    }
    if place.card().is_some_and(|card| card.chat != chat_name(&life.chat)) {
        tracing::error!(instance, "the host of this life serves another chat; it is left alone");
        return Err(gone("agent_host_lost", "The agent's host is lost."));
    }
    let mut decoder = decoder(agent, life);
    let Some(resume) = &life.resume else { return Ok((decoder, None)) };
    if resume.checkpoint.as_ref().is_some_and(|checkpoint| !decoder.restore(checkpoint)) {
        tracing::warn!(instance, "a decoder's checkpoint cannot be read; all records are decoded");
    }
    decoder.hide_to(resume.position);
    decoder.want_only(resume.turn.clone());
    Ok((decoder, resume.turn.clone()))
}

fn decoder<O, S>(agent: &HostAgent, life: &HostedInstance<O, S>) -> InstanceDecoder {
    let config = agent.agent.config();
    InstanceDecoder::new(config.dialect, &config.workspace, life.instance.0, life.session.as_deref())
        .saying(LastWords::of(config))
}
