//! Twenty clients that send, watch, cancel, answer, lose their connections and come back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use switchboard_test_support::{Rng, eventually};

use crate::{
    client::{Connection, Over, Received, message, take, whole_log},
    installation::Installation,
    recorder::{Agents, Recorder, View},
};

pub(crate) const CLIENTS: usize = 20;
const CHATS: usize = 7;
/// A connection that brings no answer for this long is closed.
const SILENCE: Duration = Duration::from_secs(45);

/// The options of the clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behavior {
    /// Whether they cancel now and then.
    pub(crate) cancel: bool,
    /// The longest answer that they ask for.
    pub(crate) words: u64,
    /// The longest time between two words, in microseconds.
    pub(crate) pace: u64,
}

pub(crate) struct Crowd {
    installation: Arc<Installation>,
    pub(crate) recorder: Arc<Recorder>,
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<View>>>,
}

#[derive(Default)]
struct Shared {
    /// No further messages are sent.
    finish: AtomicBool,
    /// The clients stop waiting.
    give_up: AtomicBool,
    /// Messages that are not acknowledged.
    unacknowledged: AtomicU64,
    /// The ends of the chats' logs. A client that has received all of them is done.
    heads: Mutex<Option<BTreeMap<String, u64>>>,
}

impl Crowd {
    pub(crate) fn start(installation: &Arc<Installation>, rng: &mut Rng, behavior: Behavior) -> Self {
        let (recorder, shared) = (Arc::new(Recorder::default()), Arc::new(Shared::default()));
        let member = |n| {
            let own = n % CHATS;
            let chats: BTreeSet<usize> = [own, (n + 1) % CHATS, (n * 3 + 2) % CHATS].into();
            let over = if n % 3 == 0 { Over::Unix } else { Over::WebSocket };
            let member = Member {
                name: format!("client {n}"),
                over,
                behavior,
                own: chat(own),
                views: chats.into_iter().map(|n| (chat(n), View::default())).collect(),
                installation: Arc::clone(installation),
                recorder: Arc::clone(&recorder),
                shared: Arc::clone(&shared),
                rng: Rng(rng.next()),
                messages: 0,
                pending: None,
                asked: BTreeSet::new(),
                last_received: Instant::now(),
            };
            std::thread::spawn(move || member.run())
        };
        let clients = (0..CLIENTS).map(member).collect();
        Self { installation: Arc::clone(installation), recorder, shared, clients }
    }

    /// Lets the clients finish while a gateway runs, and checks everything that was recorded. Returns the number of
    /// acknowledged messages.
    pub(crate) fn finish(mut self, agents: Agents, about: &str) -> usize {
        self.shared.finish.store(true, Ordering::Relaxed);
        eventually_unless(&self.recorder, "every message is acknowledged", || {
            self.shared.unacknowledged.load(Ordering::Relaxed) == 0
        });
        let mut logs: Vec<(View, View)> = Vec::new();
        eventually_unless(&self.recorder, "every turn has ended", || {
            logs = (0..CHATS)
                .map(|n| whole_log(&self.installation, &chat(n)).expect("the log can be read"))
                .collect();
            logs.iter().all(|(log, _)| log.open_turns().is_empty())
        });
        let heads = logs.iter().map(|(log, _)| (log.chat.clone(), log.cursor)).collect();
        *self.shared.heads.lock().unwrap() = Some(heads);
        let views: Vec<View> =
            std::mem::take(&mut self.clients).into_iter().flat_map(|client| client.join().unwrap()).collect();
        for (log, replayed) in &logs {
            let mut of_chat: Vec<&View> = views.iter().filter(|view| view.chat == log.chat).collect();
            of_chat.push(replayed);
            self.recorder.check(log, &of_chat, &self.installation.truth(), agents);
        }
        if self.installation.truth().join("strays").exists() {
            let strays = std::fs::read_to_string(self.installation.truth().join("strays")).unwrap();
            self.recorder.wrong(format!("agents were told what they did not ask for: {strays}"));
        }
        let log = self.installation.log();
        if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
            self.recorder.wrong(format!("a panic: {line}"));
        }
        self.recorder.report_failures(about);
        self.recorder.acknowledgements()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.give_up.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

/// Waits for the condition, but not after a client has failed.
fn eventually_unless(recorder: &Recorder, what: &str, mut is_true: impl FnMut() -> bool) {
    eventually(what, || recorder.has_failed() || is_true());
}

fn chat(n: usize) -> String {
    format!("chat-{n}")
}

/// A message that is not acknowledged.
struct Pending {
    turn: String,
    content: String,
    /// It was sent over this connection.
    sent: bool,
    /// It was refused and is sent again then.
    again: Instant,
}

struct Member {
    name: String,
    over: Over,
    behavior: Behavior,
    /// The chat that it writes to.
    own: String,
    /// The chats that it watches.
    views: BTreeMap<String, View>,
    installation: Arc<Installation>,
    recorder: Arc<Recorder>,
    shared: Arc<Shared>,
    rng: Rng,
    messages: u64,
    pending: Option<Pending>,
    /// Requests that were answered over this connection, each with its chat.
    asked: BTreeSet<(String, String)>,
    last_received: Instant,
}

impl Member {
    fn run(mut self) -> Vec<View> {
        for (chat, view) in &mut self.views {
            *view = View::new(&self.name, chat);
        }
        while !self.is_done() {
            let Some(connection) = Connection::open(&self.installation, self.over) else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            self.stay(connection);
        }
        self.views.into_values().collect()
    }

    fn is_done(&self) -> bool {
        if self.shared.give_up.load(Ordering::Relaxed) || self.recorder.has_failed() {
            return true;
        }
        let heads = self.shared.heads.lock().unwrap();
        heads.as_ref().is_some_and(|heads| {
            let has_all =
                |(chat, view): (&String, &View)| heads[chat] == 0 || view.begun && view.cursor >= heads[chat];
            self.views.iter().all(has_all)
        })
    }

    /// Stays until the connection ends, and sometimes disconnects by itself.
    fn stay(&mut self, mut connection: Connection) {
        self.asked.clear();
        self.last_received = Instant::now();
        if let Some(pending) = &mut self.pending {
            pending.sent = false;
        }
        let mut unattached: Vec<(String, Instant)> =
            self.views.keys().map(|chat| (chat.clone(), Instant::now())).collect();
        let mut attached_once = false;
        while !self.is_done() {
            let (due, later) = unattached.into_iter().partition(|(_, due)| *due <= Instant::now());
            unattached = later;
            let due: Vec<(String, Instant)> = due;
            for (chat, _) in due {
                // Its own message attaches it; another `attach` would restart the subscription.
                let by_message =
                    self.pending.as_ref().is_some_and(|pending| pending.sent) && chat == self.own;
                if attached_once && (by_message || self.views[&chat].begun) {
                    continue;
                }
                let mut frame = json!({"type": "attach", "chat_id": chat});
                let view = &self.views[&chat];
                if view.begun {
                    frame["after"] = json!({"epoch": view.epoch, "seq": view.cursor});
                }
                if !connection.send(&frame) {
                    return;
                }
            }
            attached_once = true;
            if !self.speak(&mut connection) {
                return;
            }
            match connection.read() {
                Received::Closed => return,
                Received::Nothing => {
                    let waits = self.pending.is_some() || !unattached.is_empty();
                    if waits && self.last_received.elapsed() > SILENCE {
                        return;
                    }
                    // Some clients disconnect without a fault.
                    if self.rng.below(200) == 0 && !self.shared.finish.load(Ordering::Relaxed) {
                        return;
                    }
                }
                Received::Event(event) => {
                    self.last_received = Instant::now();
                    if !self.hear(&event, &mut connection, &mut unattached) {
                        return;
                    }
                }
            }
        }
    }

    /// Sends what is to be sent.
    fn speak(&mut self, connection: &mut Connection) -> bool {
        let idle = self.pending.is_none() && !self.shared.finish.load(Ordering::Relaxed);
        // Each client has only a few open turns.
        let mine = format!("{}-", self.name.replace(' ', ""));
        let ended = self.views[&self.own].ended.iter().filter(|turn| turn.starts_with(&mine)).count() as u64;
        if idle && self.messages < ended + 2 && self.rng.below(4) == 0 {
            let turn = format!("{mine}{}", self.messages);
            self.messages += 1;
            let (words, pace) = (1 + self.rng.below(self.behavior.words), self.rng.below(self.behavior.pace));
            let think = if self.rng.below(4) == 0 { 10 } else { 0 };
            let ask = u64::from(self.rng.below(6) == 0);
            let content = format!("turn={turn} words={words} pace={pace} think={think} ask={ask}");
            self.recorder.sent(&self.own, &turn, &content);
            self.shared.unacknowledged.fetch_add(1, Ordering::Relaxed);
            self.pending = Some(Pending { turn, content, sent: false, again: Instant::now() });
        }
        match &mut self.pending {
            Some(pending) if !pending.sent && pending.again <= Instant::now() => {
                pending.sent = true;
                let frame = message(&self.own, &pending.turn, &pending.content);
                // Sometimes sends the message twice, as a client does that does not know whether it arrived.
                let again = self.rng.below(10) == 0;
                connection.send(&frame) && (!again || connection.send(&frame))
            }
            _ => true,
        }
    }

    /// Applies an event. `false`: the connection has to be closed.
    fn hear(
        &mut self,
        event: &Value,
        connection: &mut Connection,
        unattached: &mut Vec<(String, Instant)>,
    ) -> bool {
        let Some(chat) = event["chat_id"].as_str().filter(|_| event["event"] != "ready") else { return true };
        let kind = event["event"].as_str().unwrap_or_default();
        if kind == "error" {
            return self.refused(event, chat, unattached);
        }
        let Some(view) = self.views.get_mut(chat) else {
            self.recorder.wrong(format!("{}: of a chat that it does not watch: {event}", self.name));
            return false;
        };
        if let Err(what) = take(view, event) {
            self.recorder.wrong(format!("{chat}: {what}"));
            return false;
        }
        if kind == "message_accepted" {
            self.recorder.acknowledged(chat, event);
            if self.pending.as_ref().is_some_and(|pending| event["turn_id"] == *pending.turn) {
                self.pending = None;
                self.shared.unacknowledged.fetch_sub(1, Ordering::Relaxed);
            }
        }
        if kind == "turn_started" && self.behavior.cancel && self.rng.below(25) == 0 {
            let frame = json!({"type": "cancel", "chat_id": chat, "turn_id": event["turn_id"]});
            if !connection.send(&frame) {
                return false;
            }
        }
        let open: Vec<String> = self.views[chat].requests.iter().cloned().collect();
        for request in open {
            if self.asked.insert((chat.to_owned(), request.clone()))
                && !connection.send(
                    &json!({"type": "respond", "chat_id": chat, "request_id": request, "decision": "allow"}),
                )
            {
                return false;
            }
        }
        true
    }

    fn refused(&mut self, event: &Value, chat: &str, unattached: &mut Vec<(String, Instant)>) -> bool {
        let soon = Instant::now() + Duration::from_millis(30);
        match event["code"].as_str().unwrap_or_default() {
            // Another client has answered, or the turn has ended.
            "already_resolved" | "unknown_request" | "unknown_turn" => true,
            "unknown_chat" if !self.views[chat].begun => {
                unattached.push((chat.to_owned(), soon));
                true
            }
            // A cancel in a chat that is being recovered, or a message that has to be sent again.
            _ if event["retryable"] == true => {
                if let Some(pending) =
                    self.pending.as_mut().filter(|pending| event["turn_id"] == *pending.turn)
                {
                    (pending.sent, pending.again) = (false, soon);
                    return true;
                }
                // The client reconnects and resumes, which repairs any state.
                false
            }
            _ => {
                self.recorder.wrong(format!("{}: {event}", self.name));
                false
            }
        }
    }
}
