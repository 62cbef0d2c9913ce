//! One fixture per kind of frame, at least: `fixtures/{client,server}/<kind>[.<variant>].json`.
//!
//! The lists below are exhaustive matches: a kind without a line does not compile, a line without a fixture
//! and a fixture without a line fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use switchboard_core::{
    Limits,
    wire::{
        ChatBody, ChatEvent, ClientEnvelope, ControlEvent, Frame, FrameKind, decode, encode_chat,
        encode_control,
    },
};

macro_rules! kinds {
    ($kinds:ident, $kind_of:ident, $enum:ident { $($variant:ident => $name:literal,)* }) => {
        const $kinds: &[&str] = &[$($name),*];

        fn $kind_of(value: &$enum) -> &'static str {
            match value {
                $($enum::$variant { .. } => $name,)*
            }
        }
    };
}

kinds!(CLIENT, client_kind, ClientEnvelope {
    Authenticate => "authenticate",
    NewChat => "new_chat",
    Attach => "attach",
    Detach => "detach",
    Message => "message",
    Cancel => "cancel",
    Respond => "respond",
    RequestInput => "request_input",
    SetGoalState => "set_goal_state",
    ListChats => "list_chats",
    History => "history",
    RenameChat => "rename_chat",
    DeleteChat => "delete_chat",
    Ping => "ping",
    // Legacy frames are text and no JSON. `decode.rs` has their cases.
    Legacy => "legacy",
});

kinds!(CHAT, chat_kind, ChatBody {
    UserMessage => "user_message",
    TurnStarted => "turn_started",
    Delta => "delta",
    StreamEnd => "stream_end",
    ReasoningDelta => "reasoning_delta",
    ReasoningEnd => "reasoning_end",
    Message => "message",
    ToolEvent => "tool_event",
    FileEdit => "file_edit",
    Task => "task",
    Notice => "notice",
    PermissionRequest => "permission_request",
    Question => "question",
    RequestResolved => "request_resolved",
    TurnEnd => "turn_end",
    GoalState => "goal_state",
});

kinds!(CONTROL, control_kind, ControlEvent {
    Ready => "ready",
    Attached => "attached",
    AgentState => "agent_state",
    Snapshot => "snapshot",
    ReplayEnd => "replay_end",
    MessageAccepted => "message_accepted",
    TurnStalled => "turn_stalled",
    GoalStatus => "goal_status",
    GoalState => "goal_state",
    Notice => "notice",
    SessionUpdated => "session_updated",
    RuntimeModelUpdated => "runtime_model_updated",
    Chats => "chats",
    ChatsChanged => "chats_changed",
    History => "history",
    RequestInput => "request_input",
    Pong => "pong",
    Error => "error",
});

#[test]
fn every_client_kind_decodes_and_comes_back() {
    let mut seen = BTreeSet::from(["legacy"]);
    for (name, text) in fixtures("client") {
        let envelope = decode(&text, &Limits::default(), false)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"))
            .unwrap_or_else(|| panic!("{name}: ignored"));
        let kind = client_kind(&envelope);
        assert_eq!(kind, kind_in(&name), "{name} holds another kind");
        assert_eq!(kind, envelope.kind());
        let typed: ClientEnvelope = serde_json::from_str(&text).expect("serde agrees with the decoder");
        assert!(typed == envelope, "{name}: serde and the decoder disagree");
        let encoded = serde_json::to_string(&envelope).expect("it encodes");
        assert_eq!(json(&encoded), json(&text), "{name} does not come back");
        insta::assert_snapshot!(format!("client.{name}"), encoded);
        seen.insert(kind);
    }
    assert_eq!(seen, CLIENT.iter().copied().collect(), "a kind has no fixture");
}

#[test]
fn every_server_kind_decodes_and_comes_back() {
    let (mut chat, mut control) = (BTreeSet::new(), BTreeSet::new());
    for (name, text) in fixtures("server") {
        // A frame with a sequence number is a chat event, except `message_accepted`.
        let numbered = json(&text).get("seq").is_some() && CHAT.contains(&kind_in(&name));
        let (kind, encoded) = if numbered {
            let event: ChatEvent = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let kind = chat_kind(&event.body);
            chat.insert(kind);
            (kind, encode_chat(&event.place, &event.body))
        } else {
            let event: ControlEvent = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            let kind = control_kind(&event);
            control.insert(kind);
            (kind, encode_control(&event))
        };
        assert_eq!(kind, kind_in(&name), "{name} holds another kind");
        assert_eq!(json(encoded.as_str()), json(&text), "{name} does not come back");
        assert_eq!(kind_name(&encoded), kind, "{name} is encoded as another kind");
        assert_eq!(
            Frame::new(encoded.bytes().clone()).as_ref().map(kind_name),
            Some(kind),
            "{name} is read as another kind"
        );
        assert_eq!(Frame::new(encoded.bytes().clone()).as_ref(), Some(&encoded), "{name} is not a frame");
        insta::assert_snapshot!(format!("server.{name}"), encoded.as_str());
    }
    assert_eq!(chat, CHAT.iter().copied().collect(), "a kind of chat event has no fixture");
    assert_eq!(control, CONTROL.iter().copied().collect(), "a kind of control event has no fixture");
}

#[test]
fn unknown_fields_are_ignored_everywhere() {
    for (name, text) in fixtures("server") {
        let mut value = json(&text);
        value["later"] = Value::from(1);
        let known = serde_json::from_value::<ChatEvent>(value.clone()).is_ok()
            || serde_json::from_value::<ControlEvent>(value).is_ok();
        assert!(known, "{name} with an unknown field");
    }
    for (name, text) in fixtures("client") {
        let mut value = json(&text);
        value["later"] = Value::from(1);
        assert!(
            decode(&value.to_string(), &Limits::default(), false).is_ok(),
            "{name} with an unknown field"
        );
    }
}

#[test]
fn every_snapshot_has_its_fixture() {
    let expected: BTreeSet<String> = ["client", "server"]
        .iter()
        .flat_map(|side| fixtures(side).into_keys().map(move |name| format!("fixtures__{side}.{name}.snap")))
        .collect();
    let present: BTreeSet<String> = list(&here().join("tests/snapshots"))
        .filter(|name| name.starts_with("fixtures__") && name.ends_with(".snap"))
        .collect();
    assert_eq!(present, expected);
}

#[test]
fn a_frame_is_one_line_of_one_object() {
    let frame = |text: &'static [u8]| Frame::new(text.into());
    assert!(frame(b"{}").is_some());
    for bad in [&b""[..], b"[]", b"{", b"}", b"{}\n", b"{\n}", b"{\r}", b"{\"\xff\"}", b"null"] {
        assert!(frame(bad).is_none(), "{bad:?}");
    }
    assert_eq!(format!("{:?}", frame(b"{}")), "Some(Frame(2 bytes))", "what is said stays out of logs");
}

fn kind_name(frame: &Frame) -> &'static str {
    match frame.kind() {
        FrameKind::Chat(kind) => kind.name(),
        FrameKind::Control(kind) => kind.name(),
        FrameKind::Unknown => "unknown",
    }
}

fn kind_in(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("it is JSON")
}

fn here() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn list(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a UTF-8 name"))
}

fn fixtures(side: &str) -> BTreeMap<String, String> {
    let dir = here().join("fixtures").join(side);
    list(&dir)
        .map(|file| {
            let name = file.strip_suffix(".json").unwrap_or_else(|| panic!("{file} is no fixture"));
            (name.to_owned(), fs::read_to_string(dir.join(&file)).expect("UTF-8"))
        })
        .collect()
}
