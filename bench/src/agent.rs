//! The agent of the bench: speaks the Claude dialect and writes deltas at the pace that the message requests.

use std::{
    io::{self, BufRead as _, Write},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::token;

/// Deltas per write when the message requests no pace.
const PER_WRITE: u64 = 256;

/// Answers each message `go COUNT PACE_US` with `COUNT` deltas, one every `PACE_US` microseconds, until stdin ends.
pub(crate) fn run() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (turn, line) in io::stdin().lock().lines().enumerate() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
        match message["type"].as_str() {
            Some("control_request") => answer_control(&mut out, &message)?,
            Some("user") => {
                let text = message["message"]["content"][0]["text"]
                    .as_str()
                    .or_else(|| message["message"]["content"].as_str())
                    .unwrap_or_default();
                let mut words = text.split_whitespace().skip(1).map(|word| word.parse().unwrap_or(0));
                let (count, pace_us) = (words.next().unwrap_or(1), words.next().unwrap_or(0));
                answer(&mut out, turn, count, pace_us)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn line(out: &mut impl Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{value}")?;
    out.flush()
}

fn answer_control(out: &mut impl Write, message: &Value) -> io::Result<()> {
    let response = json!({"subtype": "success", "request_id": message["request_id"], "response": {}});
    line(out, &json!({"type": "control_response", "response": response}))
}

fn event(out: &mut impl Write, event: &Value) -> io::Result<()> {
    line(
        out,
        &json!({"type": "stream_event", "event": event, "session_id": SESSION, "parent_tool_use_id": null,
            "uuid": "00000000-0000-4000-8000-000000000002"}),
    )
}

const SESSION: &str = "00000000-0000-4000-8000-000000000001";

fn answer(out: &mut impl Write, turn: usize, count: u64, pace_us: u64) -> io::Result<()> {
    let id = format!("msg_{turn:04}");
    line(
        out,
        &json!({"type": "system", "subtype": "init", "session_id": SESSION, "model": "bench", "tools": []}),
    )?;
    let message = json!({"id": id, "type": "message", "role": "assistant", "model": "bench", "content": [],
        "usage": {"input_tokens": 1, "output_tokens": 1}});
    event(out, &json!({"type": "message_start", "message": message}))?;
    event(
        out,
        &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    )?;
    deltas(out, count, pace_us)?;
    event(out, &json!({"type": "content_block_stop", "index": 0}))?;
    event(
        out,
        &json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": count}}),
    )?;
    event(out, &json!({"type": "message_stop"}))?;
    line(
        out,
        &json!({"type": "result", "subtype": "success", "is_error": false, "result": "", "session_id": SESSION,
            "terminal_reason": "completed", "usage": {"input_tokens": 1, "output_tokens": count},
            "total_cost_usd": 0.0}),
    )
}

/// Writes delta lines as the real agent does. The lines are built by hand, so that the agent is not the slowest part.
fn deltas(out: &mut impl Write, count: u64, pace_us: u64) -> io::Result<()> {
    const BEFORE: &[u8] = br#"{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""#;
    const AFTER: &[u8] = br#""}},"session_id":"00000000-0000-4000-8000-000000000001","parent_tool_use_id":null,"uuid":"00000000-0000-4000-8000-000000000002"}
"#;
    let per_write = if pace_us == 0 { PER_WRITE } else { 1 };
    let mut lines = Vec::new();
    let mut number = 0;
    while number < count {
        lines.clear();
        for _ in 0..per_write.min(count - number) {
            lines.extend_from_slice(BEFORE);
            token::put(&mut lines, number);
            lines.extend_from_slice(AFTER);
            number += 1;
        }
        out.write_all(&lines)?;
        out.flush()?;
        if pace_us > 0 {
            thread::sleep(Duration::from_micros(pace_us));
        }
    }
    Ok(())
}
