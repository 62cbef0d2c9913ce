//! The demo agent: a subprocess for trials without an account. It speaks Claude Code's stream-json, and thinks, asks,
//! uses pretended tools, fails and exits on command. Its command `help` lists the commands.

mod background;
mod commands;
mod input;
mod output;
mod task;
mod texts;
mod turn;

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Instant,
};

use serde_json::{Value, json};

use self::{
    input::{Input, Prompt},
    output::Output,
    task::Task,
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
    let mut state = DemoState { resumed, turns: 0, total_usd: 0.0, tasks: Vec::new() };
    loop {
        let input = match queue.pop_front() {
            Some(prompt) => Input::Prompt(prompt),
            None => match next(&inputs, &mut state.tasks) {
                Some(input) => input,
                None => return Ok(0),
            },
        };
        match input {
            Input::Prompt(prompt) => {
                let turn = Turn::new(&mut out, &inputs, &mut queue);
                if let Some(ended) = status(answer(turn, &prompt, &mut state)) {
                    return ended;
                }
            }
            Input::Due(task) => {
                let turn = Turn::new(&mut out, &inputs, &mut queue);
                if let Some(ended) = status(go_on(turn, &task, &mut state)) {
                    return ended;
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

/// Waits for the next line or the end of the next task. Gives `None` when the input has ended.
fn next(inputs: &Receiver<Input>, tasks: &mut Vec<Task>) -> Option<Input> {
    let Some((first, due)) =
        tasks.iter().enumerate().map(|(at, task)| (at, task.due)).min_by_key(|(_, due)| *due)
    else {
        return inputs.recv().ok();
    };
    match inputs.recv_timeout(due.saturating_duration_since(Instant::now())) {
        Ok(input) => Some(input),
        Err(RecvTimeoutError::Timeout) => Some(Input::Due(tasks.remove(first))),
        Err(RecvTimeoutError::Disconnected) => None,
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

/// How the process ends after a turn that ended so; `None` if it goes on.
fn status(ended: Result<(), Stop>) -> Option<io::Result<u8>> {
    match ended {
        Ok(()) | Err(Stop::Interrupted | Stop::Failed(..)) => None,
        Err(Stop::Die(status)) => Some(Ok(status)),
        Err(Stop::Io(error)) => Some(Err(error)),
    }
}

/// Runs one turn, from the prompt to its `result`.
fn answer<W: Write>(mut turn: Turn<'_, W>, prompt: &Prompt, state: &mut DemoState) -> Result<(), Stop> {
    state.turns += 1;
    lifecycle(turn.out, prompt, "started")?;
    let named = prompt.uuid.as_ref().map(|uuid| json!([uuid]));
    begin(turn.out, named.as_ref())?;
    let ended = commands::answer(&mut turn, prompt.text.trim(), state).and_then(|()| turn.end_message());
    let mut result = json!({"usage": {"input_tokens": prompt.text.split_whitespace().count() * 2}});
    if let Some(named) = named {
        result["user_message_uuids"] = named;
    }
    end(&mut turn, ended, result, state)?;
    lifecycle(turn.out, prompt, "completed")?;
    Ok(turn.out.flush()?)
}

/// Runs a turn that nobody prompted: a background task has ended.
fn go_on<W: Write>(mut turn: Turn<'_, W>, task: &Task, state: &mut DemoState) -> Result<(), Stop> {
    task.end(turn.out, &state.tasks)?;
    begin(turn.out, None)?;
    let ended = commands::go_on(&mut turn, task.asks).and_then(|()| turn.end_message());
    let origin = json!({"kind": "task-notification", "producer": "session-task"});
    end(&mut turn, ended, json!({"usage": {"input_tokens": 0}, "origin": origin}), state)?;
    Ok(turn.out.flush()?)
}

/// Writes the lines that begin a turn. `prompts` are the ids of the prompts that it answers.
fn begin<W: Write>(out: &mut Output<W>, prompts: Option<&Value>) -> io::Result<()> {
    let mut init = json!({"model": out.model, "tools": ["Bash", "Edit", "Agent", "AskUserQuestion"],
        "permissionMode": "default", "claude_code_version": "demo"});
    let mut status = json!({"status": "requesting"});
    if let Some(prompts) = prompts {
        init["user_message_uuids"] = prompts.clone();
        status["user_message_uuids"] = prompts.clone();
    }
    out.system("init", init)?;
    out.system("status", status)?;
    out.flush()
}

/// Writes the result of a turn, which has these fields besides.
fn end<W: Write>(
    turn: &mut Turn<'_, W>,
    ended: Result<(), Stop>,
    mut result: Value,
    state: &mut DemoState,
) -> Result<(), Stop> {
    let tokens = turn.tokens;
    state.total_usd += tokens as f64 * 1e-5;
    result["usage"]["output_tokens"] = tokens.into();
    for (name, value) in [
        ("type", json!("result")),
        ("subtype", json!("success")),
        ("is_error", json!(false)),
        ("num_turns", json!(1)),
        ("session_id", json!(turn.out.session)),
        ("total_cost_usd", json!(state.total_usd)),
        ("result", json!(turn.said)),
        ("terminal_reason", json!("completed")),
    ] {
        result[name] = value;
    }
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
    Ok(turn.out.line(&result)?)
}

fn lifecycle<W: Write>(out: &mut Output<W>, prompt: &Prompt, state: &str) -> io::Result<()> {
    match &prompt.uuid {
        Some(uuid) => out.line(&json!({"type": "command_lifecycle", "command_uuid": uuid, "state": state,
            "session_id": out.session})),
        None => Ok(()),
    }
}
