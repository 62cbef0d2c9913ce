//! If very many clients attach to a chat, the description of its agent is encoded once, and its bytes are shared.
#![allow(clippy::wildcard_enum_match_arm, reason = "nobody listens to the other outputs")]

use std::collections::BTreeSet;

use switchboard_core::{
    Hub, Input, Limits, Moment, Output, Peer,
    ids::{ChatId, ConnId, Principal},
    journal::{Grant, JournalAnswer, MemoryJournal},
    wire::{AgentState, ClientEnvelope, Frame, Message},
};

const NOW: Moment = Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 1_700_000_000_000 };
const CONNECTIONS: u64 = 10_000;

struct World {
    hub: Hub,
    journal: MemoryJournal,
}

impl World {
    /// Returns the frames that are delivered to all connections.
    fn step(&mut self, input: Input) -> Vec<Frame> {
        let mut sent = Vec::new();
        self.hub.handle(NOW, input);
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::Append(append) => {
                    let answer = JournalAnswer::Appended(append.id);
                    self.journal.append(append);
                    self.hub.handle(NOW, Input::Journal(answer));
                }
                Output::Claim { chat } => {
                    self.hub.handle(NOW, Input::Owned { chat, grant: Grant::default() })
                }
                Output::Ask(ask) => self.hub.handle(NOW, Input::Journal(self.journal.ask(ask))),
                Output::Deliver { frame, .. } => sent.push(frame),
                Output::WatchDrain { conn } => self.hub.handle(NOW, Input::OutboxDrained { conn }),
                _ => {}
            }
        }
        sent
    }
}

#[test]
fn ten_thousand_connections_that_attach_share_one_frame_and_others_get_none() {
    let limits = Limits { connections_per_principal: None, messages_per_minute: None, ..Limits::default() };
    let agent = AgentState {
        agent: "claude".into(),
        dialect: Some("claude".into()),
        workspace: Some("~/src/x".into()),
        sandbox: Some("shield".into()),
    };
    let hub = Hub::new(limits, [7; 32], NOW).with_agent(Some(agent));
    let mut world = World { hub, journal: MemoryJournal::default() };
    let chat_id = ChatId::parse("c").expect("a chat id");
    let is_state = |frame: &&Frame| frame.as_str().starts_with(r#"{"event":"agent_state""#);
    for conn in (0..CONNECTIONS).map(ConnId) {
        let peer = Peer { principal: Principal::owner(), client_id: None };
        let sent = world.step(Input::Opened { conn, peer });
        assert_eq!((sent.len(), sent.iter().filter(is_state).count()), (1, 0), "ready, and nothing more");
    }
    let message = Message { chat_id: chat_id.clone(), content: "hi".into(), turn_id: None };
    world.step(Input::Envelope { conn: ConnId(0), envelope: ClientEnvelope::Message(message) });
    let mut places = BTreeSet::new();
    for conn in (1..CONNECTIONS).map(ConnId) {
        let envelope = ClientEnvelope::Attach { chat_id: chat_id.clone(), after: None };
        let sent = world.step(Input::Envelope { conn, envelope });
        let states: Vec<&Frame> = sent.iter().filter(is_state).collect();
        assert_eq!(states.len(), 1);
        places.extend(states.iter().map(|frame| frame.bytes().as_ptr()));
        let bytes: usize = sent.iter().map(Frame::len).sum();
        assert!(bytes < 2048, "{bytes} bytes for one who attaches");
    }
    assert_eq!(places.len(), 1, "it was encoded more than once");
}
