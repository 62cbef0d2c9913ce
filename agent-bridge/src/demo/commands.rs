//! The commands of the demo agent.

use std::{io::Write, time::Duration};

use serde_json::json;

use super::{
    background, texts,
    turn::{DemoState, Stop, Turn},
};

/// Every command: its name, its arguments, and what it demonstrates.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("help", "", "this list"),
    ("echo", "TEXT", "says TEXT"),
    ("slow", "[N]", "N words (20), two a second"),
    ("long", "[N]", "N paragraphs (10), quickly"),
    ("fast", "[N]", "N deltas (1000), as fast as they can be written"),
    ("think", "", "thinks for a while before it answers"),
    ("permission", "[COMMAND]", "asks for leave to run a pretend command; also `tool`"),
    ("question", "", "asks you two questions"),
    ("edit", "", "asks for leave to change a pretend file, and shows the change"),
    ("tools", "", "uses several pretend tools, one of which fails"),
    ("subagent", "[ask]", "lets a pretend subagent look around; with `ask` it asks for leave"),
    (
        "background",
        "[ask] [N]",
        "begins a pretend task of N seconds (3), and goes on by itself when that ends; may ask then",
    ),
    ("retry", "", "loses the connection to its model, voids what it said, and says it again"),
    ("whole", "", "answers in one piece, without streaming"),
    ("fail", "", "fails, as when the model is overloaded"),
    ("hang", "", "goes silent until you cancel it"),
    ("die", "[STATUS]", "exits in the middle of its answer"),
    ("noise", "", "writes things that a decoder must tolerate"),
    ("session", "", "says which session this is, and whether it was resumed"),
];

/// Answers one prompt.
pub(super) fn answer<W: Write>(turn: &mut Turn<'_, W>, text: &str, life: &mut DemoState) -> Result<(), Stop> {
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    match name.to_ascii_lowercase().as_str() {
        "help" | "/help" | "?" => help(turn),
        "echo" => turn.say(if rest.is_empty() { "(nothing to echo)" } else { rest }),
        "slow" => slow(turn, number(rest, 20)),
        "long" => long(turn, number(rest, 10)),
        "fast" => fast(turn, number(rest, 1000)),
        "think" => {
            turn.think(texts::LONG_THOUGHT)?;
            turn.say("I have thought about it, and the answer is **42**.")
        }
        "permission" | "tool" => permission(turn, if rest.is_empty() { "ls -la" } else { rest }),
        "question" => question(turn),
        "edit" => edit(turn),
        "tools" => tools(turn),
        "subagent" => background::subagent(turn, rest == "ask"),
        "background" => background::begin(turn, rest, &mut life.tasks),
        "retry" => retry(turn),
        "whole" => whole(turn),
        "fail" => {
            turn.say("Let me see")?;
            let sentence =
                "API Error: Repeated 529 Overloaded errors. This is what a failed turn looks like.";
            Err(Stop::Failed(529, sentence.into()))
        }
        "hang" => turn.hang(),
        "die" => {
            turn.open(false)?;
            turn.piece("These may be my last ")?;
            turn.out.flush()?;
            turn.pause(Duration::from_millis(100))?;
            Err(Stop::Die(u8::try_from(number(rest, 1)).unwrap_or(1)))
        }
        "noise" => noise(turn),
        "session" => session(turn, life),
        _ => free(turn, text, life),
    }
}

/// Goes on after a background task has ended; `asks`: asks for leave.
pub(super) fn go_on<W: Write>(turn: &mut Turn<'_, W>, asks: bool) -> Result<(), Stop> {
    turn.say("The pretend build is done.")?;
    if asks { permission(turn, "make install") } else { Ok(()) }
}

fn number(text: &str, default: u64) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(default)
}

fn help<W: Write>(turn: &mut Turn<'_, W>) -> Result<(), Stop> {
    turn.pace /= 4;
    turn.say(&format!(
        "I am the built-in demo agent. Say one of these:\n\n| Command | What it shows |\n|---|---|\n{}",
        rows()
    ))
}

/// The commands as rows of a Markdown table.
fn rows() -> String {
    let rows = COMMANDS.iter().map(|(name, after, shows)| {
        let command = if after.is_empty() { format!("`{name}`") } else { format!("`{name} {after}`") };
        format!("| {command} | {shows} |\n")
    });
    rows.collect()
}

fn slow<W: Write>(turn: &mut Turn<'_, W>, words: u64) -> Result<(), Stop> {
    turn.open(false)?;
    for word in 1..=words {
        turn.piece(&format!("word{word} "))?;
        turn.out.flush()?;
        turn.pause(Duration::from_millis(500))?;
    }
    turn.close()
}

fn long<W: Write>(turn: &mut Turn<'_, W>, paragraphs: u64) -> Result<(), Stop> {
    turn.pace = Duration::from_millis(4);
    turn.open(false)?;
    for paragraph in 1..=paragraphs {
        for token in super::turn::tokens(&format!("**{paragraph}.** {}\n\n", texts::PARAGRAPH)) {
            turn.piece(token)?;
            turn.out.flush()?;
            turn.pause(turn.pace)?;
        }
    }
    turn.close()
}

fn fast<W: Write>(turn: &mut Turn<'_, W>, deltas: u64) -> Result<(), Stop> {
    turn.open(false)?;
    for delta in 1..=deltas {
        turn.piece(&format!("{delta} "))?;
        if delta % 64 == 0 {
            turn.pause(Duration::ZERO)?;
        }
    }
    turn.close()
}

fn permission<W: Write>(turn: &mut Turn<'_, W>, command: &str) -> Result<(), Stop> {
    turn.think("This needs a command to be run. I had better ask first.")?;
    turn.say("I would like to run a command.")?;
    let input = json!({"command": command, "description": "A pretend command: nothing is run"});
    let id = turn.use_tool("Bash", &input)?;
    let answer = turn.ask("Bash", &input, &id)?;
    if answer["behavior"] == "allow" {
        turn.pause(Duration::from_millis(400))?;
        turn.out.tool_result(&id, texts::LISTING, false, json!({"stdout": texts::LISTING, "stderr": ""}))?;
        let ran = answer["updatedInput"]["command"].as_str().unwrap_or_default();
        turn.say(&format!("Thank you. I pretended to run `{ran}`, and it pretended to work."))
    } else {
        let why = answer["message"].as_str().unwrap_or("no reason given").to_owned();
        turn.out.tool_result(&id, &why, true, json!(null))?;
        turn.say(&format!("I did not run it. You said: *{why}*"))
    }
}

fn question<W: Write>(turn: &mut Turn<'_, W>) -> Result<(), Stop> {
    turn.say("Before I begin, two questions.")?;
    let input = json!({"questions": [
        {"question": "Which language should the example be in?", "header": "Language", "multiSelect": false,
            "options": [{"label": "Rust", "description": "Fast and careful"}, {"label": "Python", "description": "Short"},
                {"label": "TypeScript", "description": "At home in the browser"}]},
        {"question": "What should it have?", "header": "Extras", "multiSelect": true,
            "options": [{"label": "Tests"}, {"label": "Comments"}, {"label": "A table"}]},
    ]});
    let id = turn.use_tool("AskUserQuestion", &input)?;
    let answer = turn.ask("AskUserQuestion", &input, &id)?;
    let Some(answers) =
        answer["updatedInput"]["answers"].as_object().filter(|_| answer["behavior"] == "allow")
    else {
        turn.out.tool_result(&id, "The user declined to answer.", true, json!(null))?;
        return turn.say("Then I shall guess.");
    };
    let lines = answers
        .iter()
        .map(|(question, answer)| format!("- {question} **{}**\n", answer.as_str().unwrap_or_default()));
    let lines: String = lines.collect();
    turn.out.tool_result(&id, "The user answered.", false, json!(null))?;
    turn.say(&format!("Thank you. I heard:\n\n{lines}"))
}

fn edit<W: Write>(turn: &mut Turn<'_, W>) -> Result<(), Stop> {
    turn.say("I would like to correct a file.")?;
    let input = json!({"file_path": "src/greeting.rs", "old_string": "    \"Helo\"\n", "new_string": "    \"Hello\"\n",
        "description": "A pretend file: nothing is written"});
    let id = turn.use_tool("Edit", &input)?;
    let answer = turn.ask("Edit", &input, &id)?;
    if answer["behavior"] != "allow" {
        turn.out.tool_result(&id, answer["message"].as_str().unwrap_or("denied"), true, json!(null))?;
        return turn.say("The file stays as it is.");
    }
    let patch = json!([{"oldStart": 1, "oldLines": 3, "newStart": 1, "newLines": 3,
        "lines": [" fn greeting() -> &'static str {", "-    \"Helo\"", "+    \"Hello\"", " }"]}]);
    let detail = json!({"filePath": "src/greeting.rs", "structuredPatch": patch});
    turn.out.tool_result(&id, "The file src/greeting.rs has been updated.", false, detail)?;
    turn.say("Done: one line changed in `src/greeting.rs`. (There is no such file; this is a demo.)")
}

fn tools<W: Write>(turn: &mut Turn<'_, W>) -> Result<(), Stop> {
    turn.say("Let me look around.")?;
    for (name, input, result, failed) in [
        ("Glob", json!({"pattern": "**/*.rs"}), "src/main.rs\nsrc/greeting.rs", false),
        (
            "Read",
            json!({"file_path": "src/greeting.rs"}),
            "fn greeting() -> &'static str {\n    \"Helo\"\n}",
            false,
        ),
        ("Read", json!({"file_path": "src/missing.rs"}), "File does not exist.", true),
    ] {
        let id = turn.use_tool(name, &input)?;
        turn.pause(Duration::from_millis(300))?;
        turn.out.tool_result(&id, result, failed, json!(null))?;
    }
    turn.say("Two files, one of them with a spelling mistake. Say `edit` and I shall correct it.")
}

fn retry<W: Write>(turn: &mut Turn<'_, W>) -> Result<(), Stop> {
    turn.open(false)?;
    for token in super::turn::tokens("This text will be taken back, because the connection") {
        turn.piece(token)?;
        turn.out.flush()?;
        turn.pause(turn.pace)?;
    }
    turn.abandon()?;
    for attempt in 1..=2 {
        let fields = json!({"attempt": attempt, "max_retries": 10, "retry_delay_ms": 400 * attempt, "error_status": 529});
        turn.out.system("api_retry", fields)?;
        turn.out.flush()?;
        turn.pause(Duration::from_millis(400 * attempt))?;
    }
    turn.say("The connection is back, and this is the answer that counts.")
}

fn whole<W: Write>(turn: &mut Turn<'_, W>) -> Result<(), Stop> {
    turn.pause(Duration::from_millis(300))?;
    turn.said = "This answer came in one piece.".into();
    Ok(())
}

fn noise<W: Write>(turn: &mut Turn<'_, W>) -> Result<(), Stop> {
    for line in [
        "npm warn something is deprecated",
        "{\"type\":\"half",
        "[]",
        "{\"type\":\"from_the_future\",\"x\":[1]}",
    ] {
        turn.out.raw(line)?;
    }
    turn.say("Did you notice the noise? You should not have.")
}

fn session<W: Write>(turn: &mut Turn<'_, W>, life: &DemoState) -> Result<(), Stop> {
    let resumed = if life.resumed { "resumed" } else { "new" };
    let text = format!("Session `{}`, {resumed}, turn {} of this process.", turn.out.session, life.turns);
    turn.say(&text)
}

/// Answers a prompt that is not a command.
fn free<W: Write>(turn: &mut Turn<'_, W>, text: &str, life: &DemoState) -> Result<(), Stop> {
    let pick = text.bytes().fold(life.turns, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let pick = usize::try_from(pick % 1024).unwrap_or_default();
    turn.think(texts::THOUGHTS[pick % texts::THOUGHTS.len()])?;
    turn.pause(Duration::from_millis(150))?;
    turn.say(&texts::answer(pick, text))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_documentation_has_the_same_list() {
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let text = std::fs::read_to_string(document).unwrap();
        assert!(text.contains(&super::rows()), "docs/operations.md is to have:\n{}", super::rows());
    }
}
