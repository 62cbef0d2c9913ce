//! The agent: it does what the prompt says, and writes down itself what it was told and what it said.
//!
//! `turn=NAME words=N pace=MICROSECONDS [size=BYTES] [think=N] [ask=1] [wait=1]`: thinks and says words that are
//! numbered, asks for leave in the middle where that is wanted, and with `wait` goes on only once the file `go` is
//! there.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

use serde_json::{Value, json};

/// The first argument that makes this binary the agent.
pub(crate) const AS_AGENT: &str = "as-scripted-agent";

/// Why a turn ends early.
enum Stop {
    Cancelled,
    Over,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Over
    }
}

/// The agent's record of one turn: one line for each input and output.
struct Truth(File);

impl Truth {
    fn open(folder: &Path, turn: &str) -> io::Result<Self> {
        Ok(Self(OpenOptions::new().create(true).append(true).open(folder.join(turn))?))
    }

    fn note(&mut self, line: &str) -> io::Result<()> {
        // In one write, so that a line is there whole or not at all.
        self.0.write_all(format!("{line}\n").as_bytes())
    }
}

struct Agent {
    /// Tells this process from all others.
    name: String,
    folder: PathBuf,
    session: String,
    resumed: bool,
    lines: Receiver<Value>,
    /// Prompts that came during a turn.
    early: Vec<Value>,
    asked: u64,
    /// Withdrawn requests, whose answers may still arrive.
    withdrawn: BTreeSet<String>,
    messages: u64,
    turns: u64,
}

/// Runs until the input ends. Of the arguments, the first is the folder of the truth; `--resume SESSION` is understood.
pub(crate) fn run(arguments: &[String]) {
    let folder = PathBuf::from(&arguments[0]);
    let resume = arguments.iter().position(|argument| argument == "--resume");
    let resume = resume.and_then(|at| arguments.get(at + 1)).cloned();
    let resumed = resume.is_some();
    let name = random_name();
    let session = resume.unwrap_or_else(|| format!("session-{name}"));
    // As agents do, starts a process that outlives it, in a session of its own.
    let helper = Command::new("setsid").args(["sleep", "1000"]).stdin(Stdio::null()).spawn();
    drop(helper);
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            let line = serde_json::from_str(&line).unwrap_or_else(|_| json!({"type": "garbage"}));
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut agent = Agent {
        name,
        folder,
        session,
        resumed,
        lines,
        early: Vec::new(),
        asked: 0,
        withdrawn: BTreeSet::new(),
        messages: 0,
        turns: 0,
    };
    // The gateway or host has ended, or the agent has to end, so errors need no report.
    let _ = agent.serve();
}

/// At random: in a sandbox, all agents have the same process number.
fn random_name() -> String {
    let mut random = [0; 8];
    File::open("/dev/urandom").and_then(|mut file| io::Read::read_exact(&mut file, &mut random)).unwrap();
    format!("{:016x}", u64::from_ne_bytes(random))
}

impl Agent {
    fn serve(&mut self) -> Result<(), Stop> {
        loop {
            let line = match self.early.is_empty() {
                true => self.lines.recv().map_err(|_| Stop::Over)?,
                false => self.early.remove(0),
            };
            if line["type"] == "user" {
                match self.turn(&line) {
                    Err(Stop::Over) => return Err(Stop::Over),
                    Ok(()) | Err(Stop::Cancelled) => {}
                }
            } else {
                self.hear(line, None).or_else(|stop| match stop {
                    // The cancel came too late.
                    Stop::Cancelled => Ok(()),
                    Stop::Over => Err(Stop::Over),
                })?;
            }
        }
    }

    /// Handles a line of the input that is no prompt, or a prompt that came too early.
    fn hear(&mut self, line: Value, truth: Option<&mut Truth>) -> Result<(), Stop> {
        match line["type"].as_str() {
            Some("user") => self.early.push(line),
            Some("control_request") => {
                let response =
                    json!({"subtype": "success", "request_id": line["request_id"], "response": {}});
                self.say(&json!({"type": "control_response", "response": response}))?;
                if line["request"]["subtype"] == "interrupt" {
                    return Err(Stop::Cancelled);
                }
            }
            Some("control_response")
                if line["response"]["request_id"].as_str().is_some_and(|id| self.withdrawn.remove(id)) => {}
            Some("control_response") => {
                let what = format!("stray {}", line["response"]["request_id"]);
                match truth {
                    Some(truth) => truth.note(&what)?,
                    None => Truth::open(&self.folder, "strays")?.note(&what)?,
                }
            }
            _ => Truth::open(&self.folder, "strays")?.note(&format!("garbage {line}"))?,
        }
        Ok(())
    }

    fn say(&self, line: &Value) -> io::Result<()> {
        let mut text = line.to_string();
        text.push('\n');
        // One write, so that an agent that is killed has written the whole line or nothing.
        io::stdout().lock().write_all(text.as_bytes())?;
        io::stdout().lock().flush()
    }

    fn event(&self, event: &Value) -> io::Result<()> {
        self.say(&json!({"type": "stream_event", "event": event, "session_id": self.session, "parent_tool_use_id": null}))
    }

    fn turn(&mut self, prompt: &Value) -> Result<(), Stop> {
        let text = prompt["message"]["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        let order = AgentControl::parse(&text);
        self.turns += 1;
        let mut truth = Truth::open(&self.folder, &order.turn)?;
        truth.note(&format!(
            "prompt {} session {} {} turn {}",
            self.name,
            self.session,
            if self.resumed { "resumed" } else { "new" },
            self.turns
        ))?;
        let uuid = &prompt["uuid"];
        self.lifecycle(uuid, "started")?;
        self.say(&json!({"type": "system", "subtype": "init", "session_id": self.session, "model": "scripted", "tools": ["Bash"]}))?;
        let answered = self.answer(&order, &mut truth);
        let cancelled = match answered {
            Ok(()) => false,
            Err(Stop::Cancelled) => true,
            Err(Stop::Over) => return Err(Stop::Over),
        };
        truth.note(if cancelled { "cancelled" } else { "result" })?;
        let mut result = json!({"type": "result", "is_error": false, "subtype": "success", "num_turns": 1,
            "session_id": self.session, "total_cost_usd": 0, "result": order.whole(), "terminal_reason": "completed"});
        if cancelled {
            result["is_error"] = true.into();
            result["subtype"] = "error_during_execution".into();
            result["terminal_reason"] = "aborted_streaming".into();
            result["result"] = Value::Null;
        }
        self.say(&result)?;
        self.lifecycle(uuid, "completed")?;
        truth.note("done")?;
        Ok(())
    }

    fn lifecycle(&self, uuid: &Value, state: &str) -> io::Result<()> {
        self.say(&json!({"type": "command_lifecycle", "command_uuid": uuid, "state": state, "session_id": self.session}))
    }

    fn answer(&mut self, order: &AgentControl, truth: &mut Truth) -> Result<(), Stop> {
        let half = if order.ask { order.words / 2 } else { order.words };
        if order.think > 0 {
            let thoughts: Vec<String> = (0..order.think).map(|n| order.word(n)).collect();
            self.speak(order, "thinking", &thoughts, truth)?;
        }
        let words: Vec<String> = (0..order.words).map(|n| order.word(n)).collect();
        self.speak(order, "text", &words[..half], truth)?;
        if order.wait {
            truth.note("waits")?;
            let go = self.folder.join(format!("{}.go", order.turn));
            while !go.exists() {
                self.pause(Duration::from_millis(5), truth)?;
            }
        }
        if order.ask {
            self.ask(order, truth)?;
            self.speak(order, "text", &words[half..], truth)?;
        }
        Ok(())
    }

    /// Writes words as a message of their own.
    fn speak(
        &mut self,
        order: &AgentControl,
        kind: &str,
        words: &[String],
        truth: &mut Truth,
    ) -> Result<(), Stop> {
        if words.is_empty() {
            return Ok(());
        }
        let (field, delta) = match kind {
            "thinking" => ("thinking", "thinking_delta"),
            _ => ("text", "text_delta"),
        };
        let id = self.begin_message()?;
        self.event(
            &json!({"type": "content_block_start", "index": 0, "content_block": {"type": kind, field: ""}}),
        )?;
        let mut said = String::new();
        let outcome = words.iter().try_for_each(|word| {
            truth.note(&format!("{kind} {word}"))?;
            said.push_str(word);
            self.event(
                &json!({"type": "content_block_delta", "index": 0, "delta": {"type": delta, field: word}}),
            )?;
            truth.note(&format!("wrote {word}"))?;
            self.pause(Duration::from_micros(order.pace), truth)
        });
        if matches!(outcome, Err(Stop::Over)) {
            return outcome;
        }
        let mut whole = json!({"type": "assistant", "parent_tool_use_id": null, "session_id": self.session,
            "message": {"id": id, "type": "message", "role": "assistant", "model": "scripted",
                "content": [{"type": kind, field: said}]}});
        if outcome.is_err() {
            whole["aborted"] = true.into();
        }
        self.say(&whole)?;
        self.event(&json!({"type": "content_block_stop", "index": 0}))?;
        self.event(&json!({"type": "message_stop"}))?;
        outcome
    }

    fn begin_message(&mut self) -> io::Result<String> {
        self.messages += 1;
        let id = format!("msg-{}-{}", self.name, self.messages);
        self.event(
            &json!({"type": "message_start", "message": {"id": id, "type": "message", "role": "assistant",
            "model": "scripted", "content": []}}),
        )?;
        Ok(id)
    }

    /// Makes a permission request, and waits for the answer.
    fn ask(&mut self, order: &AgentControl, truth: &mut Truth) -> Result<(), Stop> {
        self.asked += 1;
        let id = format!("ask-{}-{}", self.name, self.asked);
        let (tool, input) = (format!("use-{id}"), json!({"command": order.turn}));
        let message = self.begin_message()?;
        let block = json!({"type": "tool_use", "id": tool, "name": "Bash", "input": input});
        self.event(&json!({"type": "content_block_start", "index": 0,
            "content_block": {"type": "tool_use", "id": tool, "name": "Bash", "input": {}}}))?;
        self.say(&json!({"type": "assistant", "parent_tool_use_id": null, "session_id": self.session,
            "message": {"id": message, "type": "message", "role": "assistant", "model": "scripted", "content": [block]}}))?;
        self.event(&json!({"type": "content_block_stop", "index": 0}))?;
        self.event(&json!({"type": "message_stop"}))?;
        truth.note("ask")?;
        let request =
            json!({"subtype": "can_use_tool", "tool_name": "Bash", "input": input, "tool_use_id": tool});
        self.say(&json!({"type": "control_request", "request_id": id, "request": request}))?;
        let allowed = loop {
            let line = self.lines.recv().map_err(|_| Stop::Over)?;
            let ours = line["type"] == "control_response" && line["response"]["request_id"] == *id;
            if ours {
                let behavior =
                    line["response"]["response"]["behavior"].as_str().unwrap_or_default().to_owned();
                truth.note(&format!("answer {behavior}"))?;
                break behavior == "allow";
            }
            if let Err(Stop::Cancelled) = self.hear(line, Some(&mut *truth)) {
                self.say(&json!({"type": "control_cancel_request", "request_id": id}))?;
                self.withdrawn.insert(id);
                self.tool_result(&tool, true)?;
                return Err(Stop::Cancelled);
            }
        };
        Ok(self.tool_result(&tool, !allowed)?)
    }

    fn tool_result(&self, tool: &str, failed: bool) -> io::Result<()> {
        let block =
            json!({"type": "tool_result", "tool_use_id": tool, "content": "it ran", "is_error": failed});
        self.say(&json!({"type": "user", "message": {"role": "user", "content": [block]},
            "parent_tool_use_id": null, "session_id": self.session}))
    }

    /// Waits, and handles input meanwhile.
    fn pause(&mut self, time: Duration, truth: &mut Truth) -> Result<(), Stop> {
        loop {
            match self.lines.recv_timeout(time) {
                Ok(line) => self.hear(line, Some(&mut *truth))?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Stop::Over),
            }
        }
    }
}

/// The parameters in a prompt.
struct AgentControl {
    turn: String,
    words: usize,
    pace: u64,
    /// By how much each word is longer than its number.
    size: usize,
    think: usize,
    ask: bool,
    wait: bool,
}

impl AgentControl {
    fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let find = |word: &str| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
            text.split_whitespace().find_map(find)
        };
        let number = |name: &str| value(name).and_then(|number| number.parse().ok()).unwrap_or(0);
        Self {
            turn: value("turn").unwrap_or_else(|| "nameless".into()),
            words: usize::try_from(number("words")).unwrap_or(0),
            pace: number("pace"),
            size: usize::try_from(number("size")).unwrap_or(0),
            think: usize::try_from(number("think")).unwrap_or(0),
            ask: number("ask") > 0,
            wait: number("wait") > 0,
        }
    }

    fn word(&self, n: usize) -> String {
        format!("{}:{n}{} ", self.turn, ".".repeat(self.size))
    }

    /// The text of the last message, which a client must not see once more.
    fn whole(&self) -> String {
        (0..self.words).map(|n| self.word(n)).collect()
    }
}
