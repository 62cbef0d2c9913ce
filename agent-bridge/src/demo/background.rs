//! What the demo agent has done beside its answers: tasks in the background, and a subagent.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    task::{TASKS, TITLE, Task, listed},
    turn::{Stop, Turn},
};

/// Shortest and longest duration of a task, in seconds.
const SECONDS: (u64, u64) = (1, 3600);

/// Begins a task, which goes on when the turn has ended.
pub(super) fn begin<W: Write>(
    turn: &mut Turn<'_, W>,
    words: &str,
    tasks: &mut Vec<Task>,
) -> Result<(), Stop> {
    if tasks.len() == TASKS {
        return turn.say("Enough tasks run already.");
    }
    let mut words = words.split_whitespace().peekable();
    let asks = words.next_if_eq(&"ask").is_some();
    let seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(3).clamp(SECONDS.0, SECONDS.1);
    let input = json!({"command": TITLE, "description": "A pretend build: nothing is run", "run_in_background": true});
    let use_id = turn.use_tool("Bash", &input)?;
    let id = turn.out.id("b");
    let due = Instant::now() + Duration::from_secs(seconds);
    tasks.push(Task { id: id.clone(), use_id: use_id.clone(), due, asks });
    listed(turn.out, tasks)?;
    turn.out.system(
        "task_started",
        json!({"task_id": id, "tool_use_id": use_id, "description": TITLE, "is_backgrounded": true,
            "task_type": "local_bash"}),
    )?;
    let output = format!("Command running in background with ID: {id}.");
    turn.out.tool_result(&use_id, &output, false, json!({"backgroundTaskId": id}))?;
    turn.say(&format!("A pretend build runs in the background, for {seconds} s. I shall go on when it ends."))
}

/// Lets a subagent do a part of the work.
pub(super) fn subagent<W: Write>(turn: &mut Turn<'_, W>, asks: bool) -> Result<(), Stop> {
    turn.say("I let a subagent look for the mistake.")?;
    let input = json!({"description": "Look for the mistake", "prompt": "Look for a spelling mistake in src/greeting.rs.",
        "subagent_type": "general-purpose"});
    let id = turn.use_tool("Agent", &input)?;
    turn.out.inner(&id, &json!({"type": "text", "text": "I read the file first."}))?;
    let read = inner_tool(turn, &id, "Read", &json!({"file_path": "src/greeting.rs"}))?;
    turn.pause(Duration::from_millis(300))?;
    let text = "fn greeting() -> &'static str {\n    \"Helo\"\n}";
    turn.out.inner_result(&id, &read, text, false)?;
    if asks {
        let input = json!({"command": "cargo test", "description": "A pretend command: nothing is run"});
        let test = inner_tool(turn, &id, "Bash", &input)?;
        let answer = turn.ask("Bash", &input, &test)?;
        let allowed = answer["behavior"] == "allow";
        let text = if allowed { "test result: ok" } else { "The user doesn't want to proceed." };
        turn.out.inner_result(&id, &test, text, !allowed)?;
    }
    turn.out.inner(&id, &json!({"type": "text", "text": "It is in line 2: Helo."}))?;
    turn.out.tool_result(&id, "Line 2 has Helo for Hello.", false, json!(null))?;
    turn.say("The subagent found it: line 2 has `Helo` for `Hello`.")
}

fn inner_tool<W: Write>(
    turn: &mut Turn<'_, W>,
    parent: &str,
    name: &str,
    input: &Value,
) -> Result<String, Stop> {
    let id = turn.out.id("toolu");
    turn.out.inner(parent, &json!({"type": "tool_use", "id": id, "name": name, "input": input}))?;
    Ok(id)
}
