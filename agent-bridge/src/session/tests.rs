//! Table tests of the machine: each script has inputs (`>`) and, below each, all outputs that it has (`<`).
//! A command whose id is known is not delivered, as under a host, and is a `repeat`.
//!
//! Inputs: `prompt TURN`, `cancel TURN`, `answer REQUEST`, `stop`, `after MS`, `delivered` (the records of all commands
//! since), the process's records `out LINE`, `exit STATUS WORDS`, `closed`, `skipped BYTES`, `not found`, and `attach POSITION`.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test says what it expects, and no more")]

mod agent_turns;
mod dialect;
mod resume;
mod retire;

use std::{path::Path, sync::Arc, time::Duration};

use switchboard_core::{
    agent::{AgentCommand, AgentEvent, AgentExit, CommandId},
    ids::{RequestId, TurnId},
    wire::Answer,
};
use tokio::time::Instant;

use self::dialect::{STEPS, STEPS_PER_PROMPT};
use super::{backoff::Backoff, *};
use crate::{
    BridgeLimits,
    dialect::Dialect,
    exec::{random::Random, stderr_tail::LastWords},
    host::{
        protocol::{Action, CommandHead, CommandMeaning, Exited, SpawnFailure},
        recent::RecentCommands,
    },
};

struct Bench {
    session: Session,
    decoder: RecordDecoder,
    backoff: Arc<Backoff>,
    now: Instant,
    commands: u64,
    /// Commands whose records are not decoded yet.
    undelivered: Vec<CommandMeaning>,
    /// The host's memory of commands.
    known: RecentCommands,
}

impl Bench {
    fn new(dialect: &'static dyn Dialect, resume: Option<&str>) -> Self {
        let limits = BridgeLimits::default();
        let backoff = Arc::new(Backoff::new(&limits, Random::new([7; 16])));
        let config = SessionConfig {
            agent: "test".into(),
            dialect,
            start: Duration::from_secs(60),
            resume: Duration::from_secs(15),
            closed_output: Duration::from_secs(1),
            backoff: Arc::clone(&backoff),
            last_words: LastWords::default(),
        };
        Self {
            session: Session::new(config, resume.map(Into::into)),
            decoder: RecordDecoder::new(dialect, Path::new("/workspace"), 7, resume),
            backoff,
            now: Instant::now(),
            commands: 0,
            undelivered: Vec::new(),
            known: RecentCommands::default(),
        }
    }

    /// Adds commands of an earlier gateway, each with its id.
    fn sent_before<'a>(&mut self, commands: impl IntoIterator<Item = (&'a str, CommandMeaning)>) {
        for (id, meaning) in commands {
            let opens_turn = matches!(meaning, CommandMeaning::Prompt { .. });
            let head = CommandHead { id: id.into(), action: Action::Write, opens_turn, meaning };
            assert!(self.accept(&head), "{id} is new");
        }
    }

    /// Takes a command as the host does. Returns false for a repeat.
    fn accept(&mut self, head: &CommandHead) -> bool {
        let is_new = !self.known.contains(&head.id);
        if is_new {
            self.known.insert(head);
            self.undelivered.push(head.meaning.clone());
        }
        is_new
    }

    /// Carries out one line of a script. Returns all outputs.
    fn input(&mut self, line: &str) -> Vec<String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut replies = Vec::new();
        match word {
            "prompt" | "cancel" | "answer" => {
                self.commands += 1;
                let command = command(word, CommandId(self.commands), rest);
                self.session.handle(self.now, Input::Command(command), &mut self.decoder);
            }
            "stop" => self.session.handle(self.now, Input::Stop, &mut self.decoder),
            "after" => self.now += Duration::from_millis(rest.parse().unwrap()),
            "attach" => self.session.attach(rest.parse().unwrap(), None),
            "delivered" => {
                for meaning in std::mem::take(&mut self.undelivered) {
                    replies.extend(self.record(Record::Command(meaning)));
                }
            }
            "out" => {
                let bytes = format!("{rest}\n");
                replies.extend(self.record(Record::Output { count: 1, bytes: bytes.as_bytes() }));
            }
            "exit" => {
                let (code, words) = rest.split_once(' ').unwrap_or((rest, ""));
                let stderr = words.lines().map(Into::into).collect();
                let exited = Exited { code: code.parse().ok(), signal: None, stderr };
                replies.extend(self.record(Record::Exited(exited)));
            }
            "closed" => replies.extend(self.record(Record::OutputClosed)),
            "skipped" => {
                let bytes = rest.parse().unwrap();
                replies.extend(self.record(Record::Skipped { bytes, prefix: b"{" }));
            }
            "not" => replies.extend(self.record(Record::SpawnFailed(SpawnFailure::NotFound))),
            other => panic!("no input: {other}"),
        }
        let published = self.decoder.state().position;
        self.session.handle(self.now, Input::Progress { published }, &mut self.decoder);
        let mut outputs = replies;
        while let Some(output) = self.session.poll_output() {
            let is_repeat = matches!(&output, Output::Command { head, .. } if !self.accept(head));
            outputs.push(render(output) + if is_repeat { " repeat" } else { "" });
        }
        outputs
    }

    /// Decodes a record. Returns the codec's replies, the turns that end, those that the agent begins, and notices.
    fn record(&mut self, record: Record<'_>) -> Vec<String> {
        let mut batch = DecodedBatch::default();
        self.decoder.record(self.decoder.state().position + 1, record, &mut batch);
        let replies =
            batch.replies.iter().map(|(_, line)| format!("reply {}", String::from_utf8_lossy(line)));
        let ends = batch.events.iter().filter_map(|event| match event {
            AgentEvent::TurnEnded { outcome, .. } => Some(format!("turn {outcome:?}")),
            AgentEvent::AgentTurnStarted { reason } => Some(format!("agent turn {reason:?}")),
            AgentEvent::AgentTurnEnded { outcome, .. } => Some(format!("agent turn {outcome:?}")),
            AgentEvent::Notice { code, text, .. } => Some(format!("notice {code}: {text}")),
            _ => None,
        });
        replies.chain(ends).collect()
    }
}

fn command(word: &str, id: CommandId, subject: &str) -> AgentCommand {
    let turn = || TurnId::parse(subject).unwrap();
    match word {
        "prompt" => AgentCommand::Prompt { id, turn_id: turn(), text: "hi".into() },
        "cancel" => AgentCommand::Cancel { id, turn_id: turn() },
        _ => {
            let answer = Answer::Deny { message: None };
            AgentCommand::Answer { id, request_id: RequestId::parse(subject).unwrap(), answer }
        }
    }
}

fn render(output: Output) -> String {
    match output {
        Output::Command { head, bytes } => {
            let action = match head.action {
                Action::Note => if head.opens_turn { "note of a turn" } else { "note" }.into(),
                Action::Write => "write".into(),
                Action::Start { further, close } => {
                    format!("start{}{}", further.join(" "), if close { " and close" } else { "" })
                }
                Action::End { force } => if force { "kill" } else { "terminate" }.into(),
            };
            let bytes = String::from_utf8_lossy(&bytes).replace('\n', ";");
            format!("{} {action} {bytes}", head.id).trim().to_owned()
        }
        Output::Idle => "idle".into(),
        Output::Stop => "stop".into(),
        Output::Retire { holds_prompt } => {
            format!("retire{}", if holds_prompt { " with a prompt" } else { "" })
        }
        Output::End(End::Exit(AgentExit::Gone(error))) => format!("gone {}: {}", error.code, error.detail),
        Output::End(End::Exit(exit)) => match exit {
            AgentExit::StartFailed(error) => format!("failed: {}", error.detail),
            other => format!("{other:?}"),
        },
        Output::End(End::SpawnFailed(failure)) => format!("spawn failed: {failure:?}"),
    }
}

fn check_with(bench: &mut Bench, script: &str) {
    let mut expected: Vec<&str> = Vec::new();
    let mut outputs: Vec<String> = Vec::new();
    let mut input = "";
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()).chain(["> end"]) {
        if let Some(output) = line.strip_prefix("< ") {
            expected.push(output);
            continue;
        }
        assert_eq!(outputs, expected, "after {input:?} of {script}");
        input = line.strip_prefix("> ").expect("an input or an output");
        expected.clear();
        if input != "end" {
            outputs = bench.input(input);
        }
    }
}

/// Checks a script of an attached instance. Returns the bench.
fn check(dialect: &'static dyn Dialect, resume: Option<&str>, script: &str) -> Bench {
    let mut bench = Bench::new(dialect, resume);
    bench.session.attach(0, None);
    check_with(&mut bench, script);
    bench
}

/// Checks a script that goes on after the start of a process for the turn `t1`.
fn check_started(script: &str) -> Bench {
    check(STEPS, None, &format!("> prompt t1\n< start1 start hello;\n> delivered\n{script}"))
}

/// Checks a script that goes on after the prompt of the turn `t1` was sent.
fn check_in_turn(script: &str) {
    check_started(&format!("> out ready\n< c1:t1 write turn t1;hi;\n{script}"));
}

#[test]
fn a_prompt_starts_a_process_and_waits_for_its_handshake() {
    check(
        STEPS,
        None,
        "> prompt t1
         < start1 start hello;
         > delivered
         > out who
         < reply me
         > out ready
         < c1:t1 write turn t1;hi;
         > delivered
         > out end
         < turn Completed
         > after 50
         < idle
         > prompt t2
         < c2:t2 write turn t2;hi;
         > delivered
         > after 50",
    );
}

#[test]
fn a_prompt_that_is_cancelled_before_it_is_sent_is_void() {
    check_started(
        "> answer r2
         > cancel t0
         > cancel t1
         < v4:t1 note
         > delivered
         < turn Cancelled
         > out ready
         > after 50
         < idle
         > prompt t2
         < c5:t2 write turn t2;hi;",
    );
}

#[test]
fn a_cancel_reaches_a_prompt_that_is_on_its_way_or_open_and_no_other() {
    check_in_turn(
        "> cancel t1
         < c2:t1 write stop;
         > delivered
         > cancel t0
         > answer r1
         < c4:r1 write no r1;
         > cancel t1
         < c5:t1 write stop;
         > out end
         < turn Completed
         > cancel t1",
    );
}

#[test]
fn a_process_that_is_not_ready_in_time_has_failed() {
    let mut bench = check_started(
        "> after 59999
         < idle",
    );
    assert_eq!(bench.session.deadline(), Some(bench.now + Duration::from_millis(1)));
    check_with(
        &mut bench,
        "> after 1
         < failed: The agent \"test\" could not be started: it did not answer in time.",
    );
    assert!(bench.backoff.not_before() > Some(bench.now));
    assert_eq!(bench.input("prompt t2"), [""; 0], "it is over");
}

#[test]
fn exits_say_why() {
    for (records, expected) in [
        (
            "exit 3",
            "failed: The agent \"test\" could not be started: it exited with status 3 before it was ready.",
        ),
        ("not found", "spawn failed: NotFound"),
        ("out ready,exit 0", "gone agent_exited: The agent exited with status 0."),
        ("out ready,closed,after 1000", "gone agent_closed_output: The agent closed its output."),
        ("out ready,closed,after 999,exit 0", "gone agent_exited: The agent exited with status 0."),
    ] {
        let mut bench = check_started("");
        let mut outputs = Vec::new();
        for record in records.split(',') {
            outputs = bench.input(record);
        }
        assert_eq!(outputs, [expected], "{records}");
    }
}

#[test]
fn an_instance_does_not_end_before_its_events_are_sent() {
    let mut bench = check_started("");
    bench.record(Record::Exited(Exited::default()));
    for (published, expected) in [(1, None), (1, None), (2, Some("failed"))] {
        bench.session.handle(bench.now, Input::Progress { published }, &mut bench.decoder);
        let output = bench.session.poll_output().map(render);
        assert_eq!(output.as_deref().map(|output| &output[..6]), expected);
        assert_eq!(bench.backoff.not_before().is_some(), expected.is_some(), "it has failed once");
    }
}

#[test]
fn a_start_waits_for_the_end_of_the_backoff() {
    let mut bench = Bench::new(STEPS, None);
    bench.backoff.failed(bench.now);
    let due = bench.backoff.not_before().unwrap();
    check_with(&mut bench, "> prompt t1\n> after 50\n< idle");
    assert!(!bench.session.wants_process(bench.now), "the backoff");
    assert_eq!(bench.session.deadline(), Some(due));
    check_with(
        &mut bench,
        "> attach 0\n> cancel t1\n< v2:t1 note\n> delivered\n< turn Cancelled\n> prompt t2",
    );
    bench.now = due;
    check_with(
        &mut bench,
        "> after 0
         < idle
         < start1 start hello;
         > delivered
         > out ready
         < c3:t2 write turn t2;hi;",
    );
    assert_eq!(bench.backoff.not_before(), None, "a success ends the delays");
}

#[test]
fn without_a_host_an_instance_waits_for_its_first_prompt() {
    let mut bench = Bench::new(STEPS, None);
    check_with(
        &mut bench,
        "> prompt t1
         > cancel t1
         < v2:t1 note
         > delivered
         < turn Cancelled
         > answer r2
         > prompt t2",
    );
    assert!(bench.session.wants_process(bench.now));
    check_with(&mut bench, "> attach 1\n< start1 start hello;");
}

#[test]
fn commands_wait_until_the_records_of_the_gateway_before_are_decoded() {
    let mut bench = Bench::new(STEPS, None);
    let turn = || "t1".to_owned();
    bench.session.attach(3, Some(TurnId::parse("t1").unwrap()));
    bench.decoder.pass_only(Some(TurnId::parse("t1").unwrap()));
    bench.sent_before([
        ("start1", CommandMeaning::Start { session: None }),
        ("c1:t1", CommandMeaning::Prompt { turn: turn() }),
    ]);
    // The hub sends the prompt again; the records show that it was sent.
    check_with(
        &mut bench,
        "> prompt t1
         > delivered
         > out ready
         > out end
         < turn Completed
         > prompt t1
         > prompt t2
         < c3:t2 write turn t2;hi;",
    );
}

#[test]
fn a_turn_that_the_log_has_lost_is_cancelled_before_the_next_prompt() {
    let mut bench = Bench::new(STEPS, None);
    bench.session.attach(2, None);
    bench.sent_before([
        ("start1", CommandMeaning::Start { session: None }),
        ("c9:lost", CommandMeaning::Prompt { turn: "lost".into() }),
    ]);
    check_with(
        &mut bench,
        "> delivered
         > out ready
         > prompt t2
         < c0:lost write stop;
         > delivered
         > out end
         < c1:t2 write turn t2;hi;",
    );
}

#[test]
fn a_stop_interrupts_the_open_turn_and_is_the_last_output() {
    check(STEPS, None, "> stop\n< stop\n> prompt t1");
    check_in_turn(
        "> stop
         < c0:t1 write stop;
         < stop
         > exit 0",
    );
}

#[test]
fn with_a_process_for_each_prompt_an_exit_ends_the_turn() {
    check(
        STEPS_PER_PROMPT,
        None,
        "> prompt t1
         < c1:t1 start and close hello;turn t1;hi;
         > delivered
         > cancel t1
         < c2:t1 terminate
         > delivered
         > exit 15
         < turn Cancelled",
    );
    // The log has lost the first turn, so nothing is said of it.
    let mut bench = check(
        STEPS_PER_PROMPT,
        None,
        "> prompt t1
         < c1:t1 start and close hello;turn t1;hi;
         > delivered
         > prompt t2
         < c0:t1 terminate
         > delivered
         > exit 15
         < c2:t2 start and close hello;turn t2;hi;
         > delivered
         > exit 0
         < turn Completed
         > after 50
         < idle",
    );
    bench.backoff.failed(bench.now);
    check_with(
        &mut bench,
        "> prompt t3
         > after 15000
         < c3:t3 start and close hello;turn t3;hi;
         > delivered
         > exit 0
         < turn Completed",
    );
    assert_eq!(bench.backoff.not_before(), None, "a success ends the delays");
}
