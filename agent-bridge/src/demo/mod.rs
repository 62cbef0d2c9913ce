//! The demo agent: a subprocess for trials without an account. It speaks Claude Code's stream-json, and thinks, asks,
//! uses pretended tools, fails and exits on command. Its command `help` lists the commands.

mod commands;
mod input;
mod output;
mod texts;
mod turn;

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
};

use serde_json::{Value, json};

use self::{
    input::{Input, Prompt},
    output::Output,
    turn::{DemoState, Stop, Turn},
};

/// A session id that the demo agent does not know, to try out what a gateway does then.
pub const UNKNOWN_SESSION: &str = "00000000-0000-4000-8000-000000000000";

/// Runs the demo agent until its input ends. Returns the exit status for the process.
///
/// Of `arguments`, `--resume ID` and `--session-id ID` are understood and all others are ignored, so that the demo
/// agent can replace `claude`. It writes to no file and starts no process.
///
/// # Errors
/// If `stdout` cannot be written, or the thread that reads `stdin` cannot be started.
pub fn run(
    arguments: impl IntoIterator<Item = String>,
    stdin: impl Read + Send + 'static,
    stdout: impl Write,
) -> io::Result<u8> {
    let (session, resumed) = session(arguments);
    let mut out = Output::new(stdout, session);
    if resumed && out.session == UNKNOWN_SESSION {
        let error = format!("No conversation found with session ID: {}", out.session);
        let result = json!({"type": "result", "subtype": "error_during_execution", "is_error": true,
            "num_turns": 0, "total_cost_usd": 0, "session_id": out.session, "errors": [error]});
        out.line(&result)?;
        out.flush()?;
        return Ok(1);
    }
    let inputs = input::listen(stdin)?;
    let mut queue = VecDeque::new();
    let mut state = DemoState { resumed, turns: 0, total_usd: 0.0 };
    loop {
        let input = match queue.pop_front() {
            Some(prompt) => Input::Prompt(prompt),
            None => match inputs.recv() {
                Ok(input) => input,
                Err(_) => return Ok(0),
            },
        };
        match input {
            Input::Prompt(prompt) => {
                state.turns += 1;
                let turn = Turn::new(&mut out, &inputs, &mut queue);
                match answer(turn, &prompt, &mut state) {
                    Ok(()) => {}
                    Err(Stop::Die(status)) => return Ok(status),
                    Err(Stop::Io(error)) => return Err(error),
                    Err(Stop::Interrupted | Stop::Failed(..)) => {}
                }
            }
            Input::Control { request_id, subtype } if subtype == "initialize" => {
                out.control_success(&request_id, json!({"commands": [], "models": [], "agents": []}))?;
            }
            Input::Control { request_id, .. } => out.control_success(&request_id, json!({}))?,
            Input::Interrupt { request_id } => {
                out.control_success(&request_id, json!({"still_queued": []}))?
            }
            Input::Answer { .. } => {}
            Input::Garbage => return Ok(1),
        }
    }
}

fn session(arguments: impl IntoIterator<Item = String>) -> (Option<String>, bool) {
    let (mut session, mut resumed) = (None, false);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--resume" || argument == "--session-id" {
            resumed = argument == "--resume";
            session = arguments.next();
        }
    }
    (session, resumed)
}

/// Runs one turn, from the prompt to its `result`.
fn answer<W: Write>(mut turn: Turn<'_, W>, prompt: &Prompt, state: &mut DemoState) -> Result<(), Stop> {
    lifecycle(turn.out, prompt, "started")?;
    let model = turn.out.model.clone();
    turn.out.system(
        "init",
        json!({"model": model, "tools": ["Bash", "Edit", "AskUserQuestion"],
        "permissionMode": "default", "claude_code_version": "demo"}),
    )?;
    turn.out.system("status", json!({"status": "requesting"}))?;
    turn.out.flush()?;
    let ended = commands::answer(&mut turn, prompt.text.trim(), state).and_then(|()| turn.end_message());
    let tokens = turn.tokens;
    state.total_usd += tokens as f64 * 1e-5;
    let mut result = json!({"type": "result", "is_error": false, "subtype": "success", "num_turns": 1,
        "session_id": turn.out.session, "total_cost_usd": state.total_usd, "result": turn.said,
        "usage": {"input_tokens": prompt.text.split_whitespace().count() * 2, "output_tokens": tokens},
        "terminal_reason": "completed"});
    match ended {
        Ok(()) => {}
        Err(Stop::Interrupted) => {
            turn.aborted()?;
            result["is_error"] = true.into();
            result["subtype"] = "error_during_execution".into();
            result["terminal_reason"] = "aborted_streaming".into();
            result["result"] = Value::Null;
        }
        Err(Stop::Failed(status, text)) => {
            result["is_error"] = true.into();
            result["terminal_reason"] = "api_error".into();
            result["api_error_status"] = status.into();
            result["result"] = text.into();
        }
        Err(stop @ (Stop::Die(_) | Stop::Io(_))) => {
            turn.out.flush()?;
            return Err(stop);
        }
    }
    turn.out.line(&result)?;
    lifecycle(turn.out, prompt, "completed")?;
    Ok(turn.out.flush()?)
}

fn lifecycle<W: Write>(out: &mut Output<W>, prompt: &Prompt, state: &str) -> io::Result<()> {
    match &prompt.uuid {
        Some(uuid) => out.line(&json!({"type": "command_lifecycle", "command_uuid": uuid, "state": state,
            "session_id": out.session})),
        None => Ok(()),
    }
}
