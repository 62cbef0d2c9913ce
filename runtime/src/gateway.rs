//! The public handle to a running gateway.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustc_hash::FxHashMap;
use switchboard_core::{Counts, Hub, Limits, Peer, ids::ConnId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::{
    agent::Agent,
    clock::Clock,
    connection::{Connection, Inbox, Presence, Stopped},
    engine::{Engine, FromPeer, Inputs},
    journal::{Answers, OpenJournal},
    lifecycle::Lifecycle,
    outbox::{Outbox, OutboxReader},
};

/// How many frames of all connections together may wait for the engine.
const FRAMES: usize = 1024;
/// How many batches of records of all agents together may wait for the engine.
const RECORDS: usize = 64;

/// A handle to a running gateway; clones are handles to the same gateway. The documentation of the crate has a
/// complete example.
#[derive(Clone)]
pub struct Gateway {
    limits: Arc<Limits>,
    lifecycle: mpsc::UnboundedSender<Lifecycle>,
    peers: mpsc::UnboundedSender<FromPeer>,
    permits: Arc<Semaphore>,
    next_conn: Arc<AtomicU64>,
    health: watch::Receiver<Option<String>>,
}

/// The other end of [`Gateway::start`]: resolves when the gateway has ended its turns, its agents and its
/// connections.
#[derive(Debug)]
pub struct Running(oneshot::Receiver<()>);

impl Running {
    /// Waits until the gateway has ended. Also returns if the gateway's task panics.
    pub async fn finished(self) {
        // An error means that the task panicked: the gateway has ended then, too.
        let _ = self.0.await;
    }
}

impl Gateway {
    /// Starts the gateway's engine as a task of the current tokio runtime.
    ///
    /// `seed` must come from the system's entropy ([`entropy`]), because chat ids are made from it.
    ///
    /// # Panics
    /// If there is no current tokio runtime, or if `journal` panics when it is opened.
    pub fn start<J: OpenJournal>(
        limits: Limits,
        seed: [u8; 32],
        journal: J,
        agent: Arc<dyn Agent>,
    ) -> (Self, Running) {
        let (answers, journal_end) = mpsc::unbounded_channel();
        let (lifecycle, lifecycle_end) = mpsc::unbounded_channel();
        let (peers, peers_end) = mpsc::unbounded_channel();
        let (agents_inbox, agents_end) = mpsc::channel(RECORDS);
        let (finished, finished_end) = oneshot::channel();
        let mut clock = Clock::new();
        let answers = Answers::new(answers);
        let (journal_failed, health) = (answers.failed(), answers.health());
        let engine = Engine {
            hub: Hub::new(limits.clone(), seed, clock.now()).with_agent(agent.describe()),
            journal: journal.open(answers),
            agent,
            agents_inbox,
            clock,
            outboxes: FxHashMap::default(),
            agents: FxHashMap::default(),
            last_link: 0,
            requests: Vec::new(),
            checkpoints: FxHashMap::default(),
            refusals: Vec::new(),
            dead_instances: Vec::new(),
            granted: Vec::new(),
            drained: Vec::new(),
            stopping: false,
            finished: false,
        };
        let inputs = Inputs {
            journal: journal_end,
            journal_failed,
            health: health.clone(),
            lifecycle: lifecycle_end,
            peers: peers_end,
            agents: agents_end,
        };
        tokio::spawn(engine.run(inputs, finished));
        let gateway = Self {
            limits: Arc::new(limits),
            lifecycle,
            peers,
            permits: Arc::new(Semaphore::new(FRAMES)),
            next_conn: Arc::new(AtomicU64::new(1)),
            health,
        };
        (gateway, Running(finished_end))
    }

    /// Opens a connection for a peer whose credentials the caller has verified.
    ///
    /// `legacy`: whether the connection accepts frames of the older vocabulary (WebSocket only).
    ///
    /// # Errors
    /// [`Stopped`] if the gateway has stopped.
    pub fn connect(&self, peer: Peer, legacy: bool) -> Result<Connection, Stopped> {
        let conn = ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed));
        let outbox = Arc::new(Outbox::new(self.limits.outbox_bytes));
        let opened = FromPeer::Opened { conn, peer, outbox: Arc::clone(&outbox) };
        self.peers.send(opened).map_err(|_| Stopped)?;
        let presence = Presence { conn, peers: self.peers.clone() };
        let reader = OutboxReader::new(Arc::clone(&outbox), conn, self.lifecycle.clone());
        let (limits, permits) = (Arc::clone(&self.limits), Arc::clone(&self.permits));
        let inbox = Inbox::new(presence, legacy, limits, permits, outbox);
        Ok(Connection { inbox, outbox: reader })
    }

    /// The limits that this gateway was started with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Why the journal cannot write or read at the moment, and what to do about it, as a sentence that begins with a
    /// small letter; `None` if the journal works.
    pub fn degraded(&self) -> Option<String> {
        self.health.borrow().clone()
    }

    /// Counts open connections, chats in memory and agents. Events that reached the gateway before this call are
    /// counted.
    ///
    /// # Errors
    /// [`Stopped`] if the gateway has stopped.
    pub async fn counts(&self) -> Result<Counts, Stopped> {
        let (answer, counts) = oneshot::channel();
        self.peers.send(FromPeer::Count(answer)).map_err(|_| Stopped)?;
        counts.await.map_err(|_| Stopped)
    }

    /// Shuts the gateway down: refuses new messages, ends running turns and agents, and closes all connections.
    pub fn shut_down(&self) {
        // A gateway that has gone is shut down already.
        let _ = self.lifecycle.send(Lifecycle::Shutdown);
    }

    /// Shuts the gateway down like [`shut_down`](Self::shut_down), but leaves turns and agents running for the next
    /// gateway. For agents that outlive this process ([`Agent::survives`]); other agents are cut off in the middle of
    /// their turns.
    pub fn leave(&self) {
        // A gateway that has gone is shut down already.
        let _ = self.lifecycle.send(Lifecycle::Leave);
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

/// Reads 32 bytes of the system's entropy, for [`Gateway::start`].
///
/// # Errors
/// If the system provides no entropy.
pub fn entropy() -> std::io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(std::io::Error::from)?;
    Ok(seed)
}
