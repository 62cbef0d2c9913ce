//! An agent in this process that says what the test tells it to, and reports what it is told.

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

use crate::lab::WAIT;

/// What an agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceivedCommand {
    /// Its life begins, with the session of an earlier one.
    Start(Option<String>),
    /// A prompt, a cancel, an answer.
    Command(AgentCommand),
    /// It is to stop in good order.
    Stop,
    /// It is to stop at once.
    Kill,
    /// It is held back, or no longer.
    Held(bool),
    /// Its chat was deleted: nothing is to be left of it.
    Forget,
}

/// The agents of one gateway, seen from the test. Chats are named by their id on the wire.
#[derive(Debug, Clone, Default)]
pub struct Script(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// What the gateway says of it.
    described: Option<AgentState>,
    chats: Mutex<BTreeMap<String, Chat>>,
    /// Something was heard.
    heard: Notify,
}

#[derive(Debug, Default)]
struct Chat {
    heard: VecDeque<ReceivedCommand>,
    /// One for each principal that has a chat of this id, first come first.
    lives: VecDeque<RunningAgent>,
}

/// The living agent of a chat.
#[derive(Debug)]
struct RunningAgent {
    does: mpsc::UnboundedSender<Do>,
    records: Records,
    paused: bool,
}

#[derive(Debug)]
enum Do {
    Say(Vec<AgentEvent>, oneshot::Sender<()>),
    Exit(AgentExit),
}

impl Script {
    /// Agents of which the gateway says this.
    pub(crate) fn described(described: Option<AgentState>) -> Self {
        Self(Arc::new(Shared { described, ..Shared::default() }))
    }

    /// The same agents for another gateway: nobody has heard anything.
    pub(crate) fn anew(&self) -> Self {
        Self::described(self.0.described.clone())
    }

    fn chats(&self) -> MutexGuard<'_, BTreeMap<String, Chat>> {
        self.0.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a chat's agent say this, all of it at once. The receiver hears when the gateway has taken it.
    pub fn say(&self, chat: &str, events: Vec<AgentEvent>) -> Result<oneshot::Receiver<()>, String> {
        let (taken, receiver) = oneshot::channel();
        self.order(chat, Do::Say(events, taken))?;
        Ok(receiver)
    }

    /// Ends the life of a chat's agent.
    pub fn exit(&self, chat: &str, exit: AgentExit) -> Result<(), String> {
        self.order(chat, Do::Exit(exit))?;
        if let Some(chat) = self.chats().get_mut(chat) {
            chat.lives.pop_front();
        }
        Ok(())
    }

    fn order(&self, chat: &str, what: Do) -> Result<(), String> {
        let chats = self.chats();
        let life = chats.get(chat).and_then(|chat| chat.lives.front()).ok_or("no agent lives there")?;
        life.does.send(what).map_err(|_| "no agent lives there any more".to_owned())
    }

    /// What the chat's agent was told next, waiting for it.
    pub async fn received(&self, chat: &str) -> Option<ReceivedCommand> {
        let waiting = async {
            loop {
                let notified = self.0.heard.notified();
                if let Some(heard) = self.already_heard(chat) {
                    return heard;
                }
                // Being held is a state, not a message: nobody reports it.
                let _ = timeout(std::time::Duration::from_millis(5), notified).await;
            }
        };
        timeout(WAIT, waiting).await.ok()
    }

    /// The same without waiting.
    pub fn already_heard(&self, chat: &str) -> Option<ReceivedCommand> {
        let mut chats = self.chats();
        let chat = chats.get_mut(chat)?;
        chat.look_whether_held();
        chat.heard.pop_front()
    }

    /// What was heard and not asked for, by chat.
    pub fn left(&self) -> Vec<(String, ReceivedCommand)> {
        let mut chats = self.chats();
        chats
            .iter_mut()
            .flat_map(|(id, chat)| {
                chat.look_whether_held();
                chat.heard.drain(..).map(|heard| (id.clone(), heard)).collect::<Vec<_>>()
            })
            .collect()
    }

    fn record(&self, chat: &str, heard: ReceivedCommand) {
        self.chats().entry(chat.to_owned()).or_default().heard.push_back(heard);
        self.0.heard.notify_waiters();
    }
}

impl Chat {
    fn look_whether_held(&mut self) {
        for life in &mut self.lives {
            if life.records.is_paused() != life.paused {
                life.paused = !life.paused;
                self.heard.push_back(ReceivedCommand::Held(life.paused));
            }
        }
    }
}

#[async_trait]
impl Agent for Script {
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
        let (does, mut control) = mpsc::unbounded_channel();
        let life = RunningAgent { does, records: context.records.clone(), paused: false };
        self.chats().entry(chat.clone()).or_default().lives.push_back(life);
        self.record(&chat, ReceivedCommand::Start(context.session.take()));
        let (mut position, mut stopping) = (0, false);
        loop {
            tokio::select! {
                biased;
                order = context.control.next() => match order {
                    AgentControl::Command(command) => self.record(&chat, ReceivedCommand::Command(command)),
                    // Told twice: there is no gateway any more.
                    AgentControl::Stop if stopping => return AgentExit::Stopped,
                    AgentControl::Stop => {
                        stopping = true;
                        self.record(&chat, ReceivedCommand::Stop);
                    }
                    AgentControl::Kill => self.record(&chat, ReceivedCommand::Kill),
                },
                what = control.recv() => match what {
                    Some(Do::Say(events, taken)) => {
                        position += 1;
                        let records = AgentRecords { position, events, checkpoint: None };
                        if let Err(GatewayGone) = context.records.send(records).await {
                            return AgentExit::Stopped;
                        }
                        // Not every test waits for it.
                        let _ = taken.send(());
                    }
                    Some(Do::Exit(exit)) => return exit,
                    None => return AgentExit::Stopped,
                },
            }
        }
    }
}
