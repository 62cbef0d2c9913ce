//! Recorded conversations, split at every position.

use switchboard_core::wire::{Task, TaskKind, TaskStatus, TurnReason};

use super::*;

/// A record that owns its output.
#[derive(Debug, Clone)]
pub(crate) enum Recorded {
    Command(CommandMeaning),
    Line(Vec<u8>),
    Skipped { bytes: u64, prefix: Vec<u8> },
    Exited(Exited),
}

impl Recorded {
    fn record(&self) -> Record<'_> {
        match self {
            Self::Command(meaning) => Record::Command(meaning.clone()),
            Self::Line(bytes) => Record::Output { count: 1, bytes },
            Self::Skipped { bytes, prefix } => Record::Skipped { bytes: *bytes, prefix },
            Self::Exited(exited) => Record::Exited(exited.clone()),
        }
    }
}

/// A recorded conversation as records: a start, the prompts, the agent's output, and its exit.
pub(crate) fn records(recording: &str) -> Vec<Recorded> {
    let mut records = vec![Recorded::Command(CommandMeaning::Start { session: None })];
    for line in recording.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        match (line["dir"].as_str(), line["msg"]["type"].as_str()) {
            (Some("out"), _) => records.push(Recorded::Line(format!("{}\n", line["msg"]).into_bytes())),
            (Some("in"), Some("user")) => {
                let turn = format!("turn-{}", records.len());
                records.push(Recorded::Command(CommandMeaning::Prompt { turn }));
            }
            _ => {}
        }
    }
    records.push(Recorded::Exited(Exited { code: Some(0), ..Exited::default() }));
    records
}

fn decode(decoder: &mut RecordDecoder, records: &[Recorded], first: u64) -> Vec<AgentEvent> {
    let mut events = Vec::new();
    for (position, record) in (first..).zip(records) {
        let mut batch = DecodedBatch::default();
        decoder.record(position, record.record(), &mut batch);
        events.extend(batch.events.into_iter().filter(|event| *event != AgentEvent::Alive));
    }
    events
}

pub(crate) fn new() -> RecordDecoder {
    RecordDecoder::new(crate::dialect::CLAUDE, Path::new("/workspace"), 7, None)
}

/// The records of each recording, behind those of a process that could not resume its session.
fn all_records() -> Vec<Vec<Recorded>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/claude");
    let mut all = Vec::new();
    for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        all.push(vec![
            Recorded::Command(CommandMeaning::Start { session: Some("s1".into()) }),
            Recorded::Skipped { bytes: 1 << 30, prefix: b"{".to_vec() },
            Recorded::Exited(Exited { code: Some(1), signal: None, stderr: vec!["no account".into()] }),
        ]);
        all.last_mut().unwrap().extend(records(&std::fs::read_to_string(path).unwrap()));
    }
    assert!(all.len() > 30);
    all
}

#[test]
fn from_any_checkpoint_on_everything_decodes_the_same() {
    for records in all_records() {
        let mut whole = new();
        let expected: Vec<Vec<AgentEvent>> = (1..)
            .zip(&records)
            .map(|(position, record)| decode(&mut whole, std::slice::from_ref(record), position))
            .collect();
        let notice = |event: &AgentEvent| {
            if let AgentEvent::Notice { code, .. } = event { Some(code.clone()) } else { None }
        };
        let first = expected.iter().flatten().filter_map(notice).take(2);
        assert_eq!(first.collect::<Vec<_>>(), ["other", "memory_lost"]);
        let mut before = new();
        for cut in 0..records.len() {
            let checkpoint = before.checkpoint().unwrap();
            // The log may have more events than its checkpoint covers.
            for ahead in [0, 1, 5] {
                let published = records.len().min(cut + ahead);
                let mut after = new();
                assert!(after.restore(&checkpoint));
                after.set_published(published as u64);
                // Records from before the checkpoint are skipped.
                let events = decode(&mut after, &records, 1);
                assert!(events == expected[published..].concat(), "cut at {cut}, {ahead} ahead");
                assert_eq!(after.state(), whole.state());
            }
            decode(&mut before, &records[cut..=cut], cut as u64 + 1);
        }
    }
}

#[test]
fn what_is_no_checkpoint_changes_nothing() {
    let mut decoder = new();
    let before = decoder.checkpoint();
    for bytes in
        [&b""[..], b"{}", br#"{"state":{"version":99},"codec":{}}"#, br#"{"state":{"version":1},"codec":7}"#]
    {
        assert!(!decoder.restore(bytes));
    }
    assert_eq!(decoder.checkpoint(), before);
}

#[test]
fn a_lost_turn_hides_its_own_events_only() {
    let text = || AgentEvent::Message { text: "said".into() };
    let task = || {
        AgentEvent::Task(Task {
            task_id: "t".into(),
            kind: TaskKind::Shell,
            title: "build".into(),
            status: TaskStatus::Running,
            parent_call_id: None,
        })
    };
    let notice = || AgentEvent::Notice {
        level: NoticeLevel::Info,
        code: "other".into(),
        text: "said".into(),
        data: None,
    };
    let ended = |own: bool| {
        let (outcome, error, usage, cost) = (Outcome::Completed, None, None, None);
        match own {
            true => AgentEvent::AgentTurnEnded { outcome, error, usage, cost },
            false => AgentEvent::TurnEnded { outcome, error, usage, cost },
        }
    };
    let started = || AgentEvent::AgentTurnStarted { reason: TurnReason::Hook };
    for (agent_turn, said, kept) in [
        (false, vec![text(), task(), notice(), ended(false)], vec![task(), notice()]),
        (true, vec![text(), ended(true), text()], vec![text(), ended(true)]),
        (true, vec![text(), ended(false), task()], vec![text(), task()]),
        (false, vec![text(), started(), text(), ended(true), text()], vec![started(), text(), ended(true)]),
    ] {
        let mut events = vec![text()];
        events.extend(said);
        LostTurn { agent_turn }.leave_out(&mut events, 1);
        assert_eq!(events[1..], kept);
    }
}
