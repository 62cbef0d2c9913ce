//! Feeds of recorded conversations.

use async_trait::async_trait;
use switchboard_core::agent::AgentEvent;
use switchboard_runtime::GatewayGone;

use super::*;
use crate::{
    host::protocol::record_head,
    session::decoder::tests::{Recorded, new, records},
};

/// The records as the frames of a host, from position 1 on.
fn frames(records: &[Recorded]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for (position, record) in (1..).zip(records) {
        let (kind, payload) = match record {
            Recorded::Command(meaning) => {
                let (id, action) = (format!("c{position}"), Action::Note);
                let head = CommandHead { id, action, opens_turn: false, meaning: meaning.clone() };
                (Kind::Command, serde_json::to_vec(&head).unwrap())
            }
            Recorded::Line(line) => (Kind::Output, line.clone()),
            Recorded::Skipped { bytes, prefix } => {
                (Kind::Skipped, [&bytes.to_le_bytes()[..], prefix].concat())
            }
            Recorded::Exited(exited) => (Kind::Exited, serde_json::to_vec(exited).unwrap()),
        };
        bytes.extend_from_slice(&record_head(kind, position, 1, payload.len()));
        bytes.extend_from_slice(&payload);
    }
    bytes
}

#[derive(Clone, Default)]
struct Handed(Arc<Mutex<Vec<AgentRecords>>>);

#[async_trait]
impl RecordSink for Handed {
    async fn send(&self, records: AgentRecords) -> Result<(), GatewayGone> {
        self.0.lock().unwrap().push(records);
        Ok(())
    }
}

async fn handed(decoder: RecordDecoder, bytes: &BytesMut) -> Vec<AgentRecords> {
    handed_within(BridgeLimits::default(), decoder, bytes).await
}

async fn handed_within(limits: BridgeLimits, decoder: RecordDecoder, bytes: &BytesMut) -> Vec<AgentRecords> {
    let handed = Handed::default();
    let directory =
        HostDirectory::new(std::path::Path::new("/nowhere"), switchboard_core::agent::AgentInstanceId(1));
    let messages = mpsc::unbounded_channel().0.downgrade();
    let source = FeedSource { spool: None, messages, connection: None };
    let committed = watch::channel(0).1;
    let (mut feed, _handle) = Feed::new(&limits, directory, decoder, handed.clone(), source, committed);
    feed.take(&mut bytes.clone()).await.unwrap();
    std::mem::take(&mut *handed.0.lock().unwrap())
}

#[tokio::test]
async fn what_was_said_does_not_wait_with_the_end_of_its_turn() {
    let bytes = frames(&records(include_str!("../../../fixtures/claude/think.jsonl")));
    let all = handed(new(), &bytes).await;
    let ends = |records: &AgentRecords| {
        records.events.iter().any(|event| matches!(event, AgentEvent::TurnEnded { .. }))
    };
    let [said, end] = &all[..] else { panic!("{all:?}") };
    assert!(said.events.iter().any(|event| matches!(event, AgentEvent::Text { .. })) && !ends(said));
    assert!(ends(end) && said.position < end.position && said.checkpoint.is_none());
    // A log that has only the first batch gets exactly the second one again.
    let mut decoder = new();
    decoder.set_published(said.position);
    let again = handed(decoder, &bytes).await;
    assert_eq!(again.iter().flat_map(|records| &records.events).collect::<Vec<_>>(), {
        end.events.iter().collect::<Vec<_>>()
    });
}

#[tokio::test]
async fn output_without_events_makes_room_in_the_spool() {
    let mut limits = BridgeLimits::default();
    limits.host.checkpoint_bytes = 100;
    let silent = Recorded::Line(b"\n".into());
    let bytes = frames(&vec![silent; 1000]);
    let all = handed_within(limits.clone(), new(), &bytes).await;
    assert!(all.len() > 100, "{} checkpoints of {} bytes", all.len(), bytes.len());
    assert!(all.iter().all(|records| records.events.is_empty() && records.checkpoint.is_some()));
    assert!(all.is_sorted_by(|one, next| one.position < next.position));
    // What the log has needs no checkpoint.
    let mut decoder = new();
    decoder.set_published(1000);
    assert_eq!(handed_within(limits, decoder, &bytes).await, []);
}
