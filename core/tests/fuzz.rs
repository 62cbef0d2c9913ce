//! Any bytes from a client are decoded or refused, and the hub continues. `cargo bolero test -p switchboard-core --test
//! fuzz frames` searches further, guided by coverage. Add its findings to the corpus.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::{collections::VecDeque, path::Path};

use switchboard_core::{
    Hub, Input, Limits, Moment, Output, Peer,
    agent::AgentExit,
    ids::{ConnId, Principal},
    journal::{Grant, MemoryJournal},
    wire::{ClientEnvelope, ControlEvent, DecodeError, Frame, decode_binary, encode_control},
};
use switchboard_test_support::replay_damaged;

/// Gives a hub each line of these bytes as a frame of one client.
fn frames(bytes: &[u8]) {
    let limits = Limits { frame_bytes: 4096, text_bytes: 256, ..Limits::default() };
    let mut hub = Hub::new(limits.clone(), [7; 32], moment());
    let mut journal = MemoryJournal::default();
    let peer = Peer { principal: Principal::owner(), client_id: None };
    handle(&mut hub, &mut journal, Input::Opened { conn: ConnId(1), peer });
    for line in bytes.split(|byte| *byte == b'\n') {
        // Accepting legacy frames changes nothing for other frames.
        if let Ok(Some(envelope)) = decode_binary(line, &limits, false) {
            assert!(decode_binary(line, &limits, true) == Ok(Some(envelope)));
        }
        let input = match decode_binary(line, &limits, true) {
            Ok(Some(envelope)) => {
                comes_back(&envelope, &limits);
                Input::Envelope { conn: ConnId(1), envelope }
            }
            Ok(None) => continue,
            Err(error) => {
                is_fit_for_a_client(&error);
                Input::Malformed { conn: ConnId(1), error }
            }
        };
        handle(&mut hub, &mut journal, input);
    }
    handle(&mut hub, &mut journal, Input::Gone { conn: ConnId(1) });
    assert_eq!(hub.counts().connections, 0);
}

fn moment() -> Moment {
    Moment { ticks_ms: 0, boot_ms: 0, unix_ms: 1_700_000_000_000 }
}

/// Checks that a decoded frame, encoded again, decodes to the same.
fn comes_back(envelope: &ClientEnvelope, limits: &Limits) {
    if !matches!(envelope, ClientEnvelope::Legacy { .. }) {
        let encoded = serde_json::to_vec(envelope).unwrap();
        let wide = Limits { frame_bytes: usize::MAX, ..limits.clone() };
        let again = decode_binary(&encoded, &wide, false).unwrap().unwrap();
        assert!(again == *envelope, "{}", String::from_utf8_lossy(&encoded));
    }
}

fn is_fit_for_a_client(error: &DecodeError) {
    assert!(error.detail.len() < 300 && !error.detail.contains(char::is_control), "{}", error.detail);
    let frame = encode_control(&ControlEvent::Error(error.clone().into_event()));
    assert!(Frame::new(frame.bytes().clone()).is_some());
}

/// Handles an input and carries out its outputs. The journal answers at once, and agents cannot be started.
fn handle(hub: &mut Hub, journal: &mut MemoryJournal, input: Input) {
    let mut inputs = VecDeque::from([input]);
    let mut steps = 0;
    while let Some(input) = inputs.pop_front() {
        steps += 1;
        assert!(steps < 10_000, "one input, and no end of outputs");
        hub.handle(moment(), input);
        while let Some(output) = hub.poll_output() {
            match output {
                Output::Append(append) => inputs.push_back(Input::Journal(journal.append(append))),
                Output::Claim { chat } => inputs.push_back(Input::Owned { chat, grant: Grant::default() }),
                Output::Ask(ask) => inputs.push_back(Input::Journal(journal.ask(ask))),
                Output::StartAgent { chat, instance, .. } => {
                    let error =
                        serde_json::from_str(r#"{"code":"agent_start_failed","detail":"none"}"#).unwrap();
                    let exit = AgentExit::StartFailed(error);
                    inputs.push_back(Input::AgentExited { chat, instance, exit });
                }
                Output::WatchDrain { conn } => inputs.push_back(Input::OutboxDrained { conn }),
                Output::Deliver { .. }
                | Output::Offer { .. }
                | Output::HangUp { .. }
                | Output::AdoptAgent { .. }
                | Output::Command { .. }
                | Output::PauseAgent { .. }
                | Output::StopAgent { .. }
                | Output::ForgetChat { .. }
                | Output::Release { .. }
                | Output::LeaveAgent { .. }
                | Output::Finished => {}
            }
        }
    }
}

#[test]
fn whatever_a_client_sends_is_decoded_or_refused() {
    bolero::check!(name = "frames")
        .with_iterations(2000)
        .with_max_len(512)
        .for_each(|bytes: &[u8]| frames(bytes));
}

#[test]
fn damaged_frames_are_decoded_or_refused() {
    replay_damaged(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/__fuzz__/frames/corpus"), frames);
}
