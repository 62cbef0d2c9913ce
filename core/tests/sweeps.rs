//! One conversation is disturbed at every single place. Each client still gets all events, once and in order.

use serde_json::{Value, json};
use switchboard_conformance::{
    journal_model::How,
    trace::{self, Line, Step},
};
use switchboard_core::{Limits, agent::AgentCommand};

mod support;

use support::script::Script;

/// A conversation of the clients `a` and `b` with every kind of event. `ASKED` stands for the newest request.
const CONVERSATION: &str = r#"
a open
b open
a> {"type":"message","chat_id":"c","content":"one","turn_id":"t1"}
b> {"type":"attach","chat_id":"c"}
agent c> reason s0 "hm" | text s1 "one " | text s1 "two"
agent c> text s1 "!" | text_end s1 | tool k1 Bash {"command":"ls"}
agent c> permission {"request_id":"r1","tool":"Bash","input":{"command":"ls"}}
a> {"type":"message","chat_id":"c","content":"two","turn_id":"t2"}
b> {"type":"respond","chat_id":"c","request_id":"ASKED","decision":"allow"}
agent c> tool_end k1 Bash ok "files" | edit {"call_id":"k1","tool":"Bash","path":"x","added":1,"deleted":0}
b> {"type":"message","chat_id":"c","content":"three","turn_id":"t3"}
a> {"type":"set_goal_state","chat_id":"c","goal_state":{"active":true}}
agent c> end completed
agent c> question {"request_id":"q1","questions":[]} | text s2 "asking"
a> {"type":"respond","chat_id":"c","request_id":"ASKED","decision":"deny"}
agent c> message "done" | end failed
a> {"type":"cancel","chat_id":"c"}
agent c> end cancelled
"#;

/// A run of the conversation, and the frames that each client was sent.
struct Run {
    script: Script,
    received: Vec<(String, Value)>,
}

impl Run {
    fn new(limits: Limits) -> Self {
        Self { script: Script::new(limits), received: Vec::new() }
    }

    fn step(&mut self, step: &Step) {
        let mut step = step.clone();
        if let Step::Send { frame, .. } = &mut step {
            *frame = frame.replace("ASKED", self.asked());
        }
        self.script.step(&step).unwrap_or_else(|e| panic!("{step:?}: {e}"));
        self.received.extend(self.script.take_frames());
    }

    fn asked(&self) -> &str {
        let is_request = |event: &&Value| ["permission_request", "question"].contains(&text(event, "event"));
        let newest = self.received.iter().map(|(_, event)| event).rfind(is_request);
        newest.map_or("none", |event| text(event, "request_id"))
    }

    fn line(&mut self, line: &str) {
        steps(line).iter().for_each(|step| self.step(step));
    }

    /// The events of the log that a client was sent, without their positions.
    fn log_of(&self, client: &str) -> Vec<Value> {
        let mut next = None;
        let numbered = self.received.iter().filter(|(name, event)| name == client && is_numbered(event));
        numbered
            .map(|(_, event)| {
                let seq = event["seq"].as_u64().expect("a number");
                assert!(next.is_none_or(|next| next == seq), "{client}: {seq} in place of {next:?}");
                next = Some(seq + 1);
                // A client gets `message_accepted` in place of its own message.
                let kind =
                    if event["event"] == "message_accepted" { "user_message" } else { text(event, "event") };
                json!([
                    kind,
                    event["turn_id"],
                    // The epoch in the id differs if the chat had to be created twice.
                    text(event, "request_id").split('.').next(),
                    event["outcome"],
                    if kind == "user_message" { &Value::Null } else { &event["text"] }
                ])
            })
            .collect()
    }

    fn answers(&self, turn: &str) -> usize {
        let same = |event: &Value| event["event"] == "message_accepted" && event["turn_id"] == turn;
        self.received.iter().filter(|(_, event)| same(event)).count()
    }
}

fn is_numbered(event: &Value) -> bool {
    let of_the_log = event.get("epoch").is_some() && event.get("seq").is_some();
    of_the_log && event["duplicate"] != true && !["snapshot", "replay_end"].contains(&text(event, "event"))
}

fn text<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_default()
}

fn steps(text: &str) -> Vec<Step> {
    let lines = trace::parse(text).expect("a trace");
    lines
        .into_iter()
        .filter_map(|line| if let Line::Input(_, step) = line { Some(step) } else { None })
        .collect()
}

fn undisturbed() -> Run {
    let mut instance = Run::new(Limits::default());
    steps(CONVERSATION).iter().for_each(|step| instance.step(step));
    instance
}

fn tight() -> Limits {
    Limits { ring_bytes: 700, outbox_bytes: 900, page_bytes: 700, merge_bytes: 0, ..Limits::default() }
}

#[test]
fn a_full_outbox_at_every_frame() {
    let expected = undisturbed().log_of("a");
    assert!(expected.len() > 20, "the conversation is long enough to mean something");
    for limits in [Limits::default(), Limits { merge_bytes: 16 * 1024, ..tight() }] {
        for frames in 0..expected.len() {
            let mut instance = Run::new(limits.clone());
            for (at, step) in steps(CONVERSATION).iter().enumerate() {
                instance.step(step);
                if at == 0 {
                    instance.script.full_after("a", frames);
                }
            }
            instance.line("a drain");
            assert_eq!(instance.log_of("a"), expected, "full after {frames} frames");
            assert_eq!((instance.answers("t1"), instance.answers("t2"), instance.answers("t3")), (1, 1, 1));
        }
    }
}

#[test]
fn a_refused_append_at_every_place() {
    let expected = undisturbed().log_of("a");
    let appends = undisturbed().script.world.journal.appends;
    for how in [How::Refuse, How::Lose] {
        for refused in 1..4 {
            for place in 0..appends {
                let mut instance = Run::new(Limits::default());
                instance.script.fault_at(place, how, refused);
                for step in &steps(CONVERSATION) {
                    insist(&mut instance, step);
                }
                let what = format!("{how:?} {refused} from append {place} on");
                assert_eq!(instance.log_of("a"), expected, "{what}");
                let world = &instance.script.world;
                let record = world.journal.chat(&instance.script.key("c")).expect("it is stored");
                assert!(record.turns.is_empty(), "{what}");
                let commands = world.agents.values().flat_map(|agent| &agent.commands);
                let prompts: Vec<&str> = commands.filter_map(prompted_turn).collect();
                assert_eq!(prompts, ["t1", "t2", "t3"], "each prompt is sent once: {what}");
            }
        }
    }
}

fn prompted_turn(command: &AgentCommand) -> Option<&str> {
    let AgentCommand::Prompt { turn_id, .. } = command else { return None };
    Some(turn_id.as_str())
}

/// Repeats a step as long as it is refused as unavailable, like a person would.
fn insist(instance: &mut Run, step: &Step) {
    for _ in 0..20 {
        let before = instance.received.len();
        instance.step(step);
        instance.line("tick 500\ntick 500\ntick 500\ntick 500");
        let refused = instance.received[before..].iter().any(|(_, event)| event["code"] == "unavailable");
        if !refused {
            return;
        }
        assert!(matches!(step, Step::Send { .. }), "only clients are refused");
    }
    panic!("it is refused for ever: {step:?}");
}

#[test]
fn a_cursor_at_every_place_of_every_turn() {
    let all = undisturbed().log_of("a");
    let conversation = steps(CONVERSATION);
    for limits in [Limits::default(), Limits { merge_bytes: 16 * 1024, ..tight() }] {
        for done in 3..=conversation.len() {
            let mut instance = Run::new(Limits { connections_per_principal: None, ..limits.clone() });
            conversation[..done].iter().for_each(|step| instance.step(step));
            let record = instance.script.world.journal.chat(&instance.script.key("c")).expect("it exists");
            let (epoch, head) = (record.head.epoch.to_string(), record.head.seq);
            for seq in 0..=head {
                instance.line(&format!("r{seq} open"));
                let after = json!({"type": "attach", "chat_id": "c", "after": {"epoch": epoch, "seq": seq}});
                instance.line(&format!("r{seq}> {after}"));
            }
            conversation[done..].iter().for_each(|step| instance.step(step));
            for seq in 0..=head {
                let name = format!("r{seq}");
                let from = usize::try_from(seq).expect("small");
                assert_eq!(instance.log_of(&name), all[from..], "from {seq} after {done} steps");
                let own = instance.received.iter().filter(|(client, _)| *client == name);
                let control = |kind: &str| own.clone().filter(|(_, event)| event["event"] == kind).count();
                assert_eq!((control("attached"), control("replay_end"), control("snapshot")), (1, 1, 0));
            }
        }
    }
}

#[test]
fn a_restart_at_every_place() {
    let conversation = steps(CONVERSATION);
    for done in 3..=conversation.len() {
        let mut instance = Run::new(tight());
        conversation[..done].iter().for_each(|step| instance.step(step));
        instance.line("restart\nrecover c\na open");
        let record = instance.script.world.journal.chat(&instance.script.key("c")).expect("it exists");
        let running = record.turns.iter().filter(|turn| turn.started_at_ms.is_some()).count();
        assert!(running <= 1 && record.requests.is_empty(), "what ran is ended, what was asked is closed");
        while instance.script.has_agent("c") {
            instance.line("agent c> end completed");
            if instance
                .script
                .world
                .journal
                .chat(&instance.script.key("c"))
                .expect("it exists")
                .turns
                .is_empty()
            {
                break;
            }
        }
        let log = instance.script.world.journal.log(&instance.script.key("c"));
        let count = |kind: &str| log.iter().filter(|event| event.frame.as_str().contains(kind)).count();
        assert_eq!(
            count("\"event\":\"user_message\""),
            count("\"event\":\"turn_end\""),
            "after {done} steps"
        );
    }
}

#[test]
fn commits_lost_at_every_place() {
    let conversation = steps(CONVERSATION);
    for lost in 0..6 {
        for done in 3..=conversation.len() {
            let mut instance = Run::new(tight());
            conversation[..done].iter().for_each(|step| instance.step(step));
            instance.line(&format!("journal crash {lost}"));
            conversation[done..].iter().for_each(|step| insist(&mut instance, step));
            let rename =
                r#"a> {"type":"rename_chat","chat_id":"c","title":"noticed at the latest with this"}"#;
            steps(rename).iter().for_each(|step| insist(&mut instance, step));
            let what = format!("{lost} lost after {done} steps");
            let (key, journal) = (instance.script.key("c"), &instance.script.world.journal);
            let record = journal.chat(&key).expect("it is stored");
            assert!(record.turns.len() <= 3 && !journal.is_stale(&key), "{what}");
            if done < conversation.len() {
                assert!(record.turns.is_empty() && record.requests.is_empty(), "{what}: {:?}", record.turns);
            }
            let log = journal.whole_log(&key);
            let count = |kind: &str| log.iter().filter(|event| event.frame.as_str().contains(kind)).count();
            let (messages, ends) = (count("\"event\":\"user_message\""), count("\"event\":\"turn_end\""));
            assert_eq!(messages, ends + record.turns.len(), "{what}");
            assert!(count("\"event\":\"turn_started\"") <= messages, "{what}");
            // All clients have the new epoch, and their cursors are at its end.
            for client in ["a", "b"] {
                let mut mine =
                    instance.received.iter().filter(|(name, _)| name == client).map(|(_, event)| event);
                let last = mine.rfind(|event| event.get("seq").is_some() && event["duplicate"] != true);
                let last = last.expect("the client got events");
                assert_eq!(
                    (text(last, "epoch"), last["seq"].as_u64()),
                    (record.head.epoch.as_str(), Some(record.head.seq)),
                    "{client}: {what}"
                );
            }
        }
    }
}
