//! Single faults, each as a scene at whose end the promises are checked.

use std::{fs, process::Stdio, sync::Arc};

use libtest_mimic::Trial;
use rustix::process::Signal;
use serde_json::{Value, json};
use switchboard_test_support::eventually;

use crate::{
    client::{Client, Over, whole_log},
    installation::{Gateway, Installation, Role, signal},
    kills::nothing_is_left,
    recorder::{Agents, Recorder},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_gateway_that_is_killed_in_mid_answer_shows_all_of_it_once", gateway_in_mid_answer),
        trial("an_agent_that_is_killed_ends_its_turn", || one_dies(Role::Agent)),
        trial("a_host_that_is_killed_ends_its_turn", || one_dies(Role::Host)),
        trial("the_first_message_after_everything_was_killed_at_once_is_answered", || {
            everything_is_killed("")
        }),
        trial("a_message_after_everything_was_killed_in_a_turn_is_answered", || {
            everything_is_killed(" wait=1")
        }),
        trial("an_agent_that_dies_without_a_gateway_ends_its_turn_at_the_next_start", dies_without_gateway),
        trial("a_prompt_outlives_a_killed_gateway_and_is_answered_once", || prompt_outlives(Signal::KILL)),
        trial("a_prompt_outlives_a_restart_and_is_answered_once", || prompt_outlives(Signal::TERM)),
        trial("a_restart_in_the_middle_of_everything_goes_unnoticed", || everything_at_once(Signal::TERM)),
        trial("a_crash_in_the_middle_of_everything_goes_unnoticed", || everything_at_once(Signal::KILL)),
        trial("a_second_gateway_says_who_is_there_and_goes", second_gateway),
    ]
}

/// An installation, the client of a test, and what was recorded.
pub(crate) struct Scenario {
    pub(crate) installation: Arc<Installation>,
    pub(crate) recorder: Recorder,
    pub(crate) client: Client,
}

impl Scenario {
    pub(crate) fn begin(limits: &str) -> (Self, Gateway) {
        Self::on(Installation::new(limits))
    }

    pub(crate) fn on(installation: Installation) -> (Self, Gateway) {
        let installation = Arc::new(installation);
        let gateway = installation.start();
        let client = Client::connect(&installation, Over::WebSocket);
        (Self { installation, recorder: Recorder::default(), client }, gateway)
    }

    /// Sends a message and waits until it is acknowledged.
    pub(crate) fn say(&mut self, chat: &str, turn: &str, order: &str) -> Value {
        let content = format!("turn={turn} {order}");
        self.recorder.sent(chat, turn, &content);
        self.client.message(chat, turn, &content);
        let accepted = self.client.until("the acknowledgement", |event| is(event, "message_accepted", turn));
        self.recorder.acknowledged(chat, &accepted);
        accepted
    }

    pub(crate) fn until_end(&mut self, chat: &str, turn: &str) {
        if !self.client.view(chat).ended.contains(turn) {
            self.client.until(&format!("the end of {turn}"), |event| is(event, "turn_end", turn));
        }
    }

    /// Waits until this word was received.
    pub(crate) fn until_word(&mut self, word: &str) {
        self.client.until(&format!("the word {word:?}"), |event| {
            event["event"] == "delta" && event["text"].as_str().is_some_and(|text| text.ends_with(word))
        });
    }

    /// Ends the gateway by a signal, starts the next one, and reconnects the client over another transport.
    pub(crate) fn restart(&mut self, mut gateway: Gateway, by: Signal) -> Gateway {
        gateway.signal(by);
        let status = gateway.wait();
        assert_eq!(status.success(), by == Signal::TERM, "{status}: {}", self.installation.log_end());
        self.client.until_closed();
        let gateway = self.installation.start();
        self.client.reconnect(&self.installation, Over::Unix);
        gateway
    }

    /// The outcome of a turn, which must have ended once.
    pub(crate) fn end_of(&mut self, chat: &str, turn: &str) -> (String, Option<String>) {
        let mut ends = self.client.view(chat).ends(turn);
        assert_eq!(ends.len(), 1, "{turn} ends once: {ends:?}");
        ends.remove(0)
    }

    /// Makes the file for which a prompt with `wait` waits.
    pub(crate) fn let_go(&self, turn: &str) {
        fs::write(self.installation.truth().join(format!("{turn}.go")), "").unwrap();
    }

    /// What the agent noted about a turn.
    pub(crate) fn truth(&self, turn: &str) -> String {
        fs::read_to_string(self.installation.truth().join(turn)).unwrap_or_default()
    }

    /// Compares the client's view with the log and the agents' records, and checks that nothing remains.
    pub(crate) fn end(self, gateway: Gateway, agents: Agents) {
        for view in &self.client.views {
            let (log, replayed) = whole_log(&self.installation, &view.chat).expect("the log can be read");
            self.recorder.check(&log, &[view, &replayed], &self.installation.truth(), agents);
        }
        self.recorder.report_failures("the scene");
        drop(self.client);
        nothing_is_left(&self.installation, gateway);
    }
}

/// Whether an event is of this kind and turn.
pub(crate) fn is(event: &Value, kind: &str, turn: &str) -> bool {
    event["event"] == *kind && event["turn_id"] == *turn
}

pub(crate) fn words(turn: &str, count: usize) -> String {
    (0..count).map(|n| format!("{turn}:{n} ")).collect()
}

fn gateway_in_mid_answer() {
    let (mut scenario, gateway) = Scenario::begin("");
    scenario.say("c", "t1", "words=400 pace=3000");
    scenario.client.until("some words", |event| is(event, "delta", "t1"));
    let gateway = scenario.restart(gateway, Signal::KILL);
    scenario.until_end("c", "t1");
    assert_eq!(scenario.client.view("c").answer("t1"), words("t1", 400), "each word once");
    assert_eq!(scenario.end_of("c", "t1").0, "completed");
    assert_eq!(scenario.client.view("c").snapshots, 0, "its cursor was good");
    scenario.end(gateway, Agents::AllShown);
}

fn one_dies(victim: Role) {
    let (mut scenario, gateway) = Scenario::begin("");
    scenario.say("c", "t1", "words=5");
    scenario.until_end("c", "t1");
    scenario.say("c", "t2", "words=5 wait=1");
    scenario.until_word(":4 ");
    let pids = scenario.installation.of_role(victim);
    assert_eq!(pids.len(), 1, "one chat, one agent");
    signal(pids[0], Signal::KILL);
    scenario.until_end("c", "t2");
    assert_eq!(scenario.end_of("c", "t2"), ("interrupted".into(), Some("agent_exited".into())));
    assert_eq!(scenario.client.view("c").answer("t2"), words("t2", 5), "what it had said stands");
    let gone = || {
        scenario
            .installation
            .processes()
            .iter()
            .all(|(pid, role)| *role == Role::Gateway || pids.contains(pid))
    };
    eventually("no process of the agent's is left", gone);
    // The conversation goes on.
    scenario.say("c", "t3", "words=5");
    scenario.until_end("c", "t3");
    assert_eq!(scenario.end_of("c", "t3").0, "completed");
    let session = |turn: &str| {
        let truth = scenario.truth(turn);
        let prompt: Vec<String> = truth.lines().next().unwrap().split(' ').map(str::to_owned).collect();
        (prompt[3].clone(), prompt[4].clone())
    };
    assert_eq!(session("t1").1, "new");
    assert_eq!(session("t3"), (session("t1").0, "resumed".into()));
    scenario.end(gateway, Agents::AllShown);
}

/// As when memory has run out or a container is stopped. The next message comes before the gateway notices that the
/// agent has ended.
fn everything_is_killed(last: &str) {
    let (mut scenario, mut gateway) = Scenario::begin("");
    let first = format!("words=5{last}");
    scenario.say("c", "t1", &first);
    if last.is_empty() {
        scenario.until_end("c", "t1");
    } else {
        eventually("the agent waits", || scenario.truth("t1").contains("waits"));
        scenario.until_word(":4 ");
    }
    for _ in 0..3 {
        // The processes are stopped first, so that none of them notices the end of another.
        let others: Vec<i32> = scenario
            .installation
            .processes()
            .into_iter()
            .map(|(pid, _)| pid)
            .filter(|pid| *pid != gateway.pid())
            .collect();
        assert!(others.len() >= 2, "a host and its agent");
        others.iter().for_each(|pid| signal(*pid, Signal::STOP));
        gateway.kill();
        others.iter().for_each(|pid| signal(*pid, Signal::KILL));
        scenario.client.until_closed();
        gateway = scenario.installation.start();
        scenario.client.reconnect(&scenario.installation, Over::Unix);
        let turn = format!("after-{}", gateway.pid());
        scenario.say("c", &turn, "words=5");
        scenario.until_end("c", &turn);
        assert_eq!(scenario.end_of("c", &turn), ("completed".into(), None));
        assert_eq!(
            scenario.truth(&turn).matches("prompt ").count(),
            1,
            "it is told once: {}",
            scenario.truth(&turn)
        );
    }
    if !last.is_empty() {
        assert_eq!(scenario.end_of("c", "t1"), ("interrupted".into(), Some("agent_exited".into())));
    }
    scenario.end(gateway, Agents::BeginningShown);
}

fn dies_without_gateway() {
    let (mut scenario, mut gateway) = Scenario::begin("");
    scenario.say("c", "t1", "words=5 wait=1");
    eventually("the agent waits", || scenario.truth("t1").contains("waits"));
    scenario.until_word(":4 ");
    gateway.kill();
    scenario.client.until_closed();
    for pid in scenario.installation.of_role(Role::Agent) {
        signal(pid, Signal::KILL);
    }
    eventually("the agent is dead", || scenario.installation.of_role(Role::Agent).is_empty());
    let gateway = scenario.installation.start();
    scenario.client.reconnect(&scenario.installation, Over::Unix);
    scenario.until_end("c", "t1");
    assert_eq!(scenario.end_of("c", "t1"), ("interrupted".into(), Some("agent_exited".into())));
    scenario.say("c", "t2", "words=5");
    scenario.until_end("c", "t2");
    assert!(scenario.truth("t2").contains("resumed"), "{}", scenario.truth("t2"));
    scenario.end(gateway, Agents::AllShown);
}

fn prompt_outlives(by: Signal) {
    let (mut scenario, gateway) = Scenario::begin("");
    scenario.say("c", "t1", "words=10 ask=1");
    let request = scenario.client.until_kind("permission_request");
    let gateway = scenario.restart(gateway, by);
    scenario.client.until_kind("replay_end");
    let open: Vec<String> = scenario.client.view("c").requests.iter().cloned().collect();
    assert_eq!(open, [request["request_id"].as_str().unwrap()], "it is still open");
    // A new client gets the request as well; two clients answer at the same time.
    let mut other = Client::connect(&scenario.installation, Over::WebSocket);
    other.attach("c");
    let snapshot = other.until_kind("snapshot");
    assert_eq!(snapshot["state"]["requests"][0]["request_id"], request["request_id"]);
    let answer =
        json!({"type": "respond", "chat_id": "c", "request_id": request["request_id"], "decision": "allow"});
    scenario.client.send(&answer);
    other.send(&answer);
    scenario.client.send(&answer);
    scenario.until_end("c", "t1");
    other.until("the end", |event| is(event, "turn_end", "t1"));
    let truth = scenario.truth("t1");
    assert_eq!(truth.matches("answer allow").count(), 1, "{truth}");
    assert_eq!((truth.matches("prompt ").count(), truth.matches("stray").count()), (1, 0), "{truth}");
    assert_eq!(scenario.client.view("c").answer("t1"), words("t1", 10));
    drop(other);
    scenario.end(gateway, Agents::AllShown);
}

/// A running turn with a queue behind it, an open prompt in a second chat, and a cancel that is not answered yet in a
/// third.
fn everything_at_once(by: Signal) {
    let (mut scenario, gateway) = Scenario::begin("");
    scenario.say("cancelled", "t9", "words=10000 pace=1000");
    eventually("the agent speaks", || scenario.truth("t9").contains("wrote"));
    let deaf = scenario.installation.of_role(Role::Agent);
    deaf.iter().for_each(|pid| signal(*pid, Signal::STOP));
    scenario.say("busy", "t1", "words=20 wait=1");
    scenario.say("busy", "t2", "words=20");
    scenario.say("busy", "t3", "words=20");
    scenario.say("asked", "t4", "words=20 ask=1");
    scenario.client.until_kind("permission_request");
    eventually("the agent waits", || scenario.truth("t1").contains("waits"));
    scenario.client.send(&json!({"type": "cancel", "chat_id": "cancelled", "turn_id": "t9"}));
    scenario.client.send(&json!({"type": "ping", "nonce": "after the cancel"}));
    scenario.client.until_kind("pong");

    let gateway = scenario.restart(gateway, by);
    for _ in 0..3 {
        scenario.client.until_kind("replay_end");
    }
    assert_eq!(scenario.client.view("asked").requests.len(), 1, "the prompt is open");
    assert_eq!(scenario.truth("t2"), "", "the queue waits");
    deaf.iter().for_each(|pid| signal(*pid, Signal::CONT));
    scenario.until_end("cancelled", "t9");
    let (outcome, _) = scenario.end_of("cancelled", "t9");
    // Before a kill, the journal may or may not have the cancel; before an orderly restart it has.
    if by == Signal::TERM {
        assert_eq!(outcome, "cancelled");
    }
    let request = scenario.client.view("asked").requests.first().cloned();
    scenario
        .client
        .send(&json!({"type": "respond", "chat_id": "asked", "request_id": request, "decision": "allow"}));
    scenario.let_go("t1");
    for (chat, turn) in [("busy", "t1"), ("busy", "t2"), ("busy", "t3"), ("asked", "t4")] {
        scenario.until_end(chat, turn);
        assert_eq!(scenario.end_of(chat, turn).0, "completed", "{turn}");
        assert_eq!(scenario.client.view(chat).answer(turn), words(turn, 20));
    }
    scenario.end(gateway, Agents::BeginningShown);
}

fn second_gateway() {
    let (mut scenario, gateway) = Scenario::begin("");
    let mut second = scenario.installation.command();
    let said = second.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success(), "{text}");
    assert!(text.contains("Another gateway") && text.contains(&gateway.pid().to_string()), "{text}");
    // The first gateway is not affected.
    scenario.say("c", "t1", "words=5");
    scenario.until_end("c", "t1");
    scenario.end(gateway, Agents::AllShown);
}
