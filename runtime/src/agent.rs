//! The interface between the gateway and its agents: agents send numbered batches of records and receive commands
//! with ids.
//!
//! An agent written in Rust and a subprocess behind `switchboard-agent-bridge` implement the same trait, [`Agent`].

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use switchboard_core::{
    agent::{AgentCommand, AgentExit, AgentInstanceId, AgentRecords},
    ids::{ChatKey, TurnId},
    wire::AgentState,
};
use tokio::sync::{mpsc, watch};

/// Something that answers prompts. One value serves all chats; each call of [`Agent::run`] is one agent instance and
/// serves one chat.
#[async_trait]
pub trait Agent: Send + Sync + 'static {
    /// The agent's name in logs and start-up text.
    fn name(&self) -> &str;

    /// The state of this agent that the gateway reports to clients; `None`: no state is reported.
    fn describe(&self) -> Option<AgentState> {
        None
    }

    /// Runs one agent instance for one chat until it stops, and returns why it ended.
    ///
    /// Called when the chat first needs its agent, and again when the chat needs it after the last instance has
    /// ended. The first control message of a new instance is an [`AgentControl::Command`], unless a stop overtakes
    /// it. Answer an [`AgentCommand::Prompt`] with events of which the last is one
    /// [`AgentEvent::TurnEnded`](switchboard_core::agent::AgentEvent::TurnEnded). A panic in this method ends this
    /// instance and its turn, and nothing else.
    async fn run(&self, context: AgentContext) -> AgentExit;

    /// Deletes what the chat's instances have left that contains parts of the conversation. Called after the chat was
    /// deleted, when its agent has stopped or is about to. May be called twice for one chat.
    async fn forget_chat(&self, chat: &ChatKey) {
        let _ = chat;
    }

    /// Whether agent instances go on running when the gateway's process ends, so that [`run`](Self::run) can attach
    /// to one again with [`AgentContext::resume`]. If not, the instances of an earlier process have ended, and their
    /// open turns are interrupted.
    ///
    /// When another gateway gets a chat, the future of [`run`](Self::run) is dropped if the instance survives that, as if
    /// the process had ended. Otherwise the instance is killed, since nobody else can take it over.
    fn survives(&self) -> bool {
        false
    }
}

/// From where to continue an agent instance that has outlived its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The position of the newest record of this instance in the journal. Do not send events of records up to this
    /// position again.
    pub position: u64,
    /// The decoder's newest state in the journal, taken at or before `position`.
    pub checkpoint: Option<Bytes>,
    /// The turn that is running, or else the next turn. Output of the agent for any other turn belongs to a turn that
    /// the journal has lost: do not send it.
    pub turn: Option<TurnId>,
}

/// What one agent instance is given: its chat, its commands, and where to send its records.
#[derive(Debug)]
pub struct AgentContext {
    /// The chat that this instance serves.
    pub chat: ChatKey,
    /// The id of this instance, chosen by the gateway.
    pub instance: AgentInstanceId,
    /// The name that an earlier instance gave this conversation
    /// ([`AgentEvent::Session`](switchboard_core::agent::AgentEvent::Session)).
    pub session: Option<String>,
    /// Set if this instance was started by an earlier gateway. The gateway then sends the commands of the open turns
    /// again; ignore, by their ids, the commands that the instance has received before.
    pub resume: Option<Resume>,
    /// Where the agent receives commands and the request to stop.
    pub control: ControlReceiver,
    /// Where the agent sends its output.
    pub records: Records,
    /// The position of the newest [`AgentRecords::checkpoint`] of this instance that is in the journal; 0: none since
    /// this context was made. Records up to this position are never needed again.
    pub committed: watch::Receiver<u64>,
}

impl AgentContext {
    pub(crate) fn new(
        chat: ChatKey,
        instance: AgentInstanceId,
        session: Option<String>,
        resume: Option<Resume>,
        inbox: mpsc::Sender<FromAgent>,
        link: AgentChannels,
    ) -> Self {
        let AgentChannels { number, control, paused, committed } = link;
        let records = Records { chat: chat.clone(), instance, link: number, inbox, paused };
        Self { chat, instance, session, resume, control, records, committed }
    }
}

/// The agent's ends of the channels on which the engine controls it.
pub(crate) struct AgentChannels {
    /// The link's number, which its messages to the engine have.
    pub(crate) number: u64,
    pub(crate) control: ControlReceiver,
    pub(crate) paused: watch::Receiver<bool>,
    pub(crate) committed: watch::Receiver<u64>,
}

/// What an agent is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentControl {
    /// A prompt, a cancel or an answer.
    Command(AgentCommand),
    /// Stop cleanly: do not finish the turn, leave nothing behind, and return [`AgentExit::Stopped`].
    Stop,
    /// Stop at once, by force. May follow a `Stop` that takes too long. An instance that still runs
    /// [`Limits::cancel_grace_ms`](switchboard_core::Limits::cancel_grace_ms) after a `Kill` is aborted.
    Kill,
}

/// Whether the engine has asked an agent to stop. Sent on a channel of its own, so that a full command queue cannot
/// delay it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Termination {
    #[default]
    None,
    Stop,
    Kill,
}

/// The receiving end of one agent's control messages. Commands arrive in the order in which they were sent; a stop or
/// a kill overtakes them. The queue of commands is bounded; an agent that does not take its commands is killed.
#[derive(Debug)]
pub struct ControlReceiver {
    commands: mpsc::Receiver<AgentCommand>,
    termination: watch::Receiver<Termination>,
    received: Termination,
    /// The id of the newest command that the agent took.
    last_taken: Arc<AtomicU64>,
}

impl ControlReceiver {
    pub(crate) fn new(
        commands: mpsc::Receiver<AgentCommand>,
        termination: watch::Receiver<Termination>,
        last_taken: Arc<AtomicU64>,
    ) -> Self {
        Self { commands, termination, received: Termination::None, last_taken }
    }

    /// Waits for the next control message. After [`AgentControl::Stop`] only [`AgentControl::Kill`] follows, once.
    /// When the gateway has gone, every call returns [`AgentControl::Stop`].
    ///
    /// Cancel safe: no message is lost when the future is dropped.
    pub async fn next(&mut self) -> AgentControl {
        let received = self.received;
        let termination = tokio::select! {
            biased;
            termination = self.termination.wait_for(|termination| *termination > received) => termination.map_or(Termination::Stop, |termination| *termination),
            Some(command) = self.commands.recv(), if received == Termination::None => {
                self.last_taken.fetch_max(command.id().0, Ordering::Release);
                return AgentControl::Command(command);
            }
        };
        self.received = termination;
        if termination == Termination::Kill { AgentControl::Kill } else { AgentControl::Stop }
    }
}

/// The gateway has gone, and nothing receives this agent's records any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayGone;

/// Where an agent sends its records.
#[derive(Debug, Clone)]
pub struct Records {
    chat: ChatKey,
    instance: AgentInstanceId,
    link: u64,
    inbox: mpsc::Sender<FromAgent>,
    paused: watch::Receiver<bool>,
}

impl Records {
    /// Whether the gateway has paused this agent at the moment.
    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Sends records to the gateway. Waits while the gateway has paused this agent; do not read more of the agent's
    /// output meanwhile, so that the backpressure reaches the agent.
    ///
    /// # Errors
    /// [`GatewayGone`] if the gateway has ended; the records are lost.
    pub async fn send(&self, records: AgentRecords) -> Result<(), GatewayGone> {
        let mut paused = self.paused.clone();
        paused.wait_for(|paused| !paused).await.map_err(|_| GatewayGone)?;
        let (chat, instance, link) = (self.chat.clone(), self.instance, self.link);
        let records = FromAgent::Records { chat, instance, link, records };
        self.inbox.send(records).await.map_err(|_| GatewayGone)
    }
}

/// What agents send to the engine. `Exited` comes after all records of the same instance. `link` is the number of the
/// instance's link.
#[derive(Debug)]
pub(crate) enum FromAgent {
    Records { chat: ChatKey, instance: AgentInstanceId, link: u64, records: AgentRecords },
    Exited { chat: ChatKey, instance: AgentInstanceId, link: u64, exit: AgentExit },
}

#[cfg(test)]
mod tests {
    use switchboard_core::agent::CommandId;

    use super::*;

    #[tokio::test]
    async fn a_full_command_queue_does_not_delay_a_stop() {
        let (commands, commands_end) = mpsc::channel(1);
        let (termination, termination_end) = watch::channel(Termination::None);
        let mut control = ControlReceiver::new(commands_end, termination_end, Arc::default());
        let cancel = || AgentCommand::Cancel { id: CommandId(1), turn_id: TurnId::parse("t").unwrap() };
        commands.try_send(cancel()).unwrap();
        assert_eq!(control.next().await, AgentControl::Command(cancel()));
        commands.try_send(cancel()).unwrap();
        assert!(commands.try_send(cancel()).is_err(), "it is full");
        termination.send_replace(Termination::Stop);
        assert_eq!(control.next().await, AgentControl::Stop);
        termination.send_replace(Termination::Kill);
        assert_eq!(control.next().await, AgentControl::Kill, "and no command after a stop");
        drop((commands, termination));
        assert_eq!(control.next().await, AgentControl::Stop, "the gateway has gone");
    }
}
