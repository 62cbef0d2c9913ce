//! An agent in this process: it sends the events that the test gives it, and reports the commands that it receives.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit, AgentRecords},
    ids::ChatKey,
    wire::AgentState,
};
use switchboard_runtime::{Agent, AgentContext, AgentControl, GatewayGone, Records};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use crate::transport::WAIT;

/// A command or a change that an agent receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceivedCommand {
    /// The agent instance starts. The value is the session of an earlier instance, to resume.
    Start(Option<String>),
    /// A prompt, a cancellation or an answer to a request.
    Command(AgentCommand),
    /// The agent has to stop gracefully.
    Stop,
    /// The agent has to stop at once.
    Kill,
    /// The gateway has paused (`true`) or resumed (`false`) reading from the agent.
    Paused(bool),
    /// The chat was deleted: the agent has to remove all data of the chat.
    Forget,
}

/// The agents of one gateway, as the test controls them. Chats are identified by their id on the wire.
#[derive(Debug, Clone, Default)]
pub struct TestAgents(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The description of the agents that the gateway sends to clients.
    described: Option<AgentState>,
    chats: Mutex<BTreeMap<String, Chat>>,
    /// Notified when an agent has received something.
    received: Notify,
}

#[derive(Debug, Default)]
struct Chat {
    received: VecDeque<ReceivedCommand>,
    /// The running instances, one per principal that has a chat with this id, in the order of their start.
    instances: VecDeque<RunningAgent>,
}

/// The running agent instance of a chat.
#[derive(Debug)]
struct RunningAgent {
    actions: mpsc::UnboundedSender<Action>,
    records: Records,
    paused: bool,
}

#[derive(Debug)]
enum Action {
    Send(Vec<AgentEvent>, oneshot::Sender<()>),
    Exit(AgentExit),
}

impl TestAgents {
    /// Agents with this description.
    pub(crate) fn described(described: Option<AgentState>) -> Self {
        Self(Arc::new(Shared { described, ..Shared::default() }))
    }

    /// Agents with the same description for another gateway, without any received commands.
    pub(crate) fn for_next_gateway(&self) -> Self {
        Self::described(self.0.described.clone())
    }

    fn chats(&self) -> MutexGuard<'_, BTreeMap<String, Chat>> {
        self.0.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a chat's agent send these events in one batch. The returned receiver resolves when the gateway has
    /// received the batch.
    ///
    /// # Errors
    ///
    /// The chat has no running agent.
    pub fn send(&self, chat: &str, events: Vec<AgentEvent>) -> Result<oneshot::Receiver<()>, String> {
        let (taken, receiver) = oneshot::channel();
        self.act(chat, Action::Send(events, taken))?;
        Ok(receiver)
    }

    /// Ends a chat's agent with this exit.
    ///
    /// # Errors
    ///
    /// The chat has no running agent.
    pub fn exit(&self, chat: &str, exit: AgentExit) -> Result<(), String> {
        self.act(chat, Action::Exit(exit))?;
        if let Some(chat) = self.chats().get_mut(chat) {
            chat.instances.pop_front();
        }
        Ok(())
    }

    fn act(&self, chat: &str, action: Action) -> Result<(), String> {
        let chats = self.chats();
        let instance =
            chats.get(chat).and_then(|chat| chat.instances.front()).ok_or("no agent instances there")?;
        instance.actions.send(action).map_err(|_| "no agent instances there any more".to_owned())
    }

    /// Waits for the next command that the chat's agent receives; `None` if none comes within `WAIT`.
    pub async fn received(&self, chat: &str) -> Option<ReceivedCommand> {
        let waiting = async {
            loop {
                let notified = self.0.received.notified();
                if let Some(received) = self.try_received(chat) {
                    return received;
                }
                // A pause is a state and not a message, so it has to be polled.
                let _ = timeout(std::time::Duration::from_millis(5), notified).await;
            }
        };
        timeout(WAIT, waiting).await.ok()
    }

    /// The next command that the chat's agent has received; `None` if there is none yet.
    pub fn try_received(&self, chat: &str) -> Option<ReceivedCommand> {
        let mut chats = self.chats();
        let chat = chats.get_mut(chat)?;
        chat.check_paused();
        chat.received.pop_front()
    }

    /// Removes and returns all received commands that the test has not asked for, with their chats.
    pub fn take_unread(&self) -> Vec<(String, ReceivedCommand)> {
        let mut chats = self.chats();
        chats
            .iter_mut()
            .flat_map(|(id, chat)| {
                chat.check_paused();
                chat.received.drain(..).map(|received| (id.clone(), received)).collect::<Vec<_>>()
            })
            .collect()
    }

    fn record(&self, chat: &str, received: ReceivedCommand) {
        self.chats().entry(chat.to_owned()).or_default().received.push_back(received);
        self.0.received.notify_waiters();
    }
}

impl Chat {
    fn check_paused(&mut self) {
        for instance in &mut self.instances {
            if instance.records.is_paused() != instance.paused {
                instance.paused = !instance.paused;
                self.received.push_back(ReceivedCommand::Paused(instance.paused));
            }
        }
    }
}

#[async_trait]
impl Agent for TestAgents {
    fn name(&self) -> &str {
        "script"
    }

    fn describe(&self) -> Option<AgentState> {
        self.0.described.clone()
    }

    async fn forget_chat(&self, chat: &ChatKey) {
        self.record(chat.chat.as_str(), ReceivedCommand::Forget);
    }

    async fn run(&self, mut context: AgentContext) -> AgentExit {
        let chat = context.chat.chat.as_str().to_owned();
        let (actions, mut requested) = mpsc::unbounded_channel();
        let instance = RunningAgent { actions, records: context.records.clone(), paused: false };
        self.chats().entry(chat.clone()).or_default().instances.push_back(instance);
        self.record(&chat, ReceivedCommand::Start(context.session.take()));
        let (mut position, mut stopping) = (0, false);
        loop {
            tokio::select! {
                biased;
                message = context.control.next() => match message {
                    AgentControl::Command(command) => self.record(&chat, ReceivedCommand::Command(command)),
                    // A second `Stop` means that the gateway no longer exists.
                    AgentControl::Stop if stopping => return AgentExit::Stopped,
                    AgentControl::Stop => {
                        stopping = true;
                        self.record(&chat, ReceivedCommand::Stop);
                    }
                    AgentControl::Kill => self.record(&chat, ReceivedCommand::Kill),
                },
                action = requested.recv() => match action {
                    Some(Action::Send(events, taken)) => {
                        position += 1;
                        let records = AgentRecords { position, events, checkpoint: None };
                        if let Err(GatewayGone) = context.records.send(records).await {
                            return AgentExit::Stopped;
                        }
                        // The test may not wait for the receipt.
                        let _ = taken.send(());
                    }
                    Some(Action::Exit(exit)) => return exit,
                    None => return AgentExit::Stopped,
                },
            }
        }
    }
}
