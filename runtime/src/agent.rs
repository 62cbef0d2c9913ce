//! The port for agents: positioned records out, identified commands in.
//!
//! An agent written in Rust and a subprocess behind `switchboard-agent-bridge` implement the same trait.

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

/// Something that answers prompts. One value serves all chats; [`Agent::run`] is one life of it in one.
#[async_trait]
pub trait Agent: Send + Sync + 'static {
    /// A name for logs and start-up text.
    fn name(&self) -> &str;

    /// What clients are to know of it; `None`: nothing.
    fn describe(&self) -> Option<AgentState> {
        None
    }

    /// Serves one chat from start to stop, and returns how that life ended.
    ///
    /// Called when the chat first needs its agent, and again after it went away. Begins with a
    /// [`AgentControl::Command`]; an [`AgentCommand::Prompt`] is to be answered by events that end in one
    /// [`AgentEvent::TurnEnded`](switchboard_core::agent::AgentEvent::TurnEnded). A panic in here ends
    /// this life and its turn, and nothing else.
    async fn run(&self, context: AgentContext) -> AgentExit;

    /// The chat was deleted, and its agent is gone or about to be: remove what its lives have left that holds
    /// something of the conversation. May come twice.
    async fn forget_chat(&self, chat: &ChatKey) {
        let _ = chat;
    }

    /// Whether a life goes on without this process, so that [`run`](Self::run) can take it up again with
    /// [`AgentContext::resume`]. Where it does not, a life of an earlier process is over, and its open turn is
    /// interrupted.
    fn survives(&self) -> bool {
        false
    }
}

/// From where a life that outlived its gateway is taken up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// What the log has of this life: events of records up to this position are not to be sent again.
    pub position: u64,
    /// The newest state of the decoder that the log has, at or before that position.
    pub checkpoint: Option<Bytes>,
    /// The turn that runs, or comes next. What the agent says in any other is of a turn that the log has lost, and
    /// is not to be sent.
    pub turn: Option<TurnId>,
}

/// One life of an agent: whom it serves, what it hears, where it speaks.
#[derive(Debug)]
pub struct AgentContext {
    /// The chat.
    pub chat: ChatKey,
    /// Which life this is.
    pub instance: AgentInstanceId,
    /// What an earlier life called this conversation
    /// ([`AgentEvent::Session`](switchboard_core::agent::AgentEvent::Session)).
    pub session: Option<String>,
    /// Set when this life began under an earlier gateway. The commands of its open turns come again; those
    /// that it has heard already are to be ignored by their ids.
    pub resume: Option<Resume>,
    /// What the agent is told.
    pub control: ControlReceiver,
    /// Where the agent speaks.
    pub records: Records,
    /// The position of the newest [`AgentRecords::checkpoint`] of this life that the log has; 0: none since it was
    /// taken up. Records up to there are of no use to anybody any more.
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
        let AgentChannels { control, paused, committed } = link;
        let records = Records { chat: chat.clone(), instance, inbox, paused };
        Self { chat, instance, session, resume, control, records, committed }
    }
}

/// The agent's ends of what the loop tells it.
pub(crate) struct AgentChannels {
    pub(crate) control: ControlReceiver,
    pub(crate) paused: watch::Receiver<bool>,
    pub(crate) committed: watch::Receiver<u64>,
}

/// What an agent is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentControl {
    /// A prompt, a cancel or an answer.
    Command(AgentCommand),
    /// Stop in good order: finish nothing, leave nothing behind, return [`AgentExit::Stopped`].
    Stop,
    /// Stop now, by force. May follow a `Stop` that takes too long. A life that goes on for longer than
    /// [`Limits::cancel_grace_ms`](switchboard_core::Limits::cancel_grace_ms) after it is aborted.
    Kill,
}

/// How far the end of a life is ordered. It has a place of its own, so that no number of commands keeps it out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Termination {
    #[default]
    None,
    Stop,
    Kill,
}

/// The orders to one agent: commands first come first, overtaken by the order to stop or to be killed. The commands
/// that wait are bounded; an agent that takes none of them is ended.
#[derive(Debug)]
pub struct ControlReceiver {
    commands: mpsc::Receiver<AgentCommand>,
    termination: watch::Receiver<Termination>,
    received: Termination,
    /// The number of the last command that was taken.
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

    /// The next order. After [`AgentControl::Stop`] only [`AgentControl::Kill`] follows, once. After the gateway has gone it is
    /// [`AgentControl::Stop`], for ever.
    ///
    /// Cancel safe: no order is lost when the future is dropped.
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

/// The gateway has gone; nobody hears this agent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayGone;

/// Where an agent speaks.
#[derive(Debug, Clone)]
pub struct Records {
    chat: ChatKey,
    instance: AgentInstanceId,
    inbox: mpsc::Sender<FromAgent>,
    paused: watch::Receiver<bool>,
}

impl Records {
    /// Whether the gateway holds this agent back at the moment.
    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Hands records to the gateway. Waits while the gateway holds this agent back, so do not read more
    /// of the agent's output meanwhile: that is how backpressure reaches it.
    pub async fn send(&self, records: AgentRecords) -> Result<(), GatewayGone> {
        let mut paused = self.paused.clone();
        paused.wait_for(|paused| !paused).await.map_err(|_| GatewayGone)?;
        let chat = self.chat.clone();
        let records = FromAgent::Records { chat, instance: self.instance, records };
        self.inbox.send(records).await.map_err(|_| GatewayGone)
    }
}

/// What reaches the loop from agents. An exit comes after all that its life said.
#[derive(Debug)]
pub(crate) enum FromAgent {
    Records { chat: ChatKey, instance: AgentInstanceId, records: AgentRecords },
    Exited { chat: ChatKey, instance: AgentInstanceId, exit: AgentExit },
}

#[cfg(test)]
mod tests {
    use switchboard_core::agent::CommandId;

    use super::*;

    #[tokio::test]
    async fn no_number_of_commands_keeps_out_the_order_to_end() {
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
