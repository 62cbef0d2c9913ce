//! The agent: it prints its script, and writes down each line of its input.
//!
//! A script has a section for each prompt of the conversation, in their order over all processes of the agent. A line that
//! begins with `{` is printed as it stands, but for `$WORKSPACE` and `$PICTURE`, which is the text of a large picture. The
//! others begin with `#`:
//!
//! - `# start`: a section begins, what each process does before it reads its input;
//! - `# prompt`: a section begins, the answer to the next prompt;
//! - `# wait TYPE`: goes on once a line of this type has come;
//! - `# ack-interrupt`: goes on once an interrupt has come and is answered;
//! - `# await NAME`: goes on once the client says so;
//! - `# raw TEXT`: prints this without a newline;
//! - `# stderr TEXT`;
//! - `# exit STATUS`;
//! - `# if-resumed DIRECTIVE`: the directive, if the process was started to resume a session.

use std::{
    collections::VecDeque,
    env,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, StdinLock, Write},
    path::{Path, PathBuf},
    process,
};

use serde::Deserialize;
use serde_json::json;

use switchboard_test_support::eventually;

/// The first argument that makes this binary the agent.
pub(crate) const AS_AGENT: &str = "as-scripted-agent";

/// The bytes of `$PICTURE`: Claude Code prints a picture twice, which makes a line of 9 MB.
const PICTURE_BYTES: usize = 4_600_000;

/// A line of the input, as far as the agent knows it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    r#type: String,
    request_id: String,
    request: Request,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Request {
    subtype: String,
}

struct Agent {
    input: StdinLock<'static>,
    start: Vec<String>,
    /// The answer to each prompt.
    answers: Vec<Vec<String>>,
    resumed: bool,
    received: File,
    /// Where the client leaves its signals.
    signals: PathBuf,
    /// Prompts of all processes of this agent so far.
    prompts: usize,
    /// Lines that came while another was waited for.
    early: VecDeque<Line>,
}

/// The file whose existence says that the client has given this signal.
pub(crate) fn signal(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("signal-{name}"))
}

/// Runs until the input ends, with the paths of the script and of the file for what is received, and the arguments that
/// the gateway adds.
pub(crate) fn run(arguments: &[String]) {
    let earlier = fs::read_to_string(&arguments[1]).unwrap_or_default();
    let received = OpenOptions::new().create(true).append(true).open(&arguments[1]).unwrap();
    let script = fs::read_to_string(&arguments[0]).unwrap();
    let mut agent = Agent {
        input: io::stdin().lock(),
        start: sections(&script, "# start").pop().unwrap_or_default(),
        answers: sections(&script, "# prompt"),
        resumed: arguments[2..].iter().any(|argument| argument == "--resume"),
        received,
        signals: Path::new(&arguments[1]).parent().unwrap().to_owned(),
        prompts: earlier.lines().filter(|line| parse(line).r#type == "user").count(),
        early: VecDeque::new(),
    };
    agent.play(&agent.start.clone());
    loop {
        let line = agent.early.pop_front().unwrap_or_else(|| agent.next());
        if line.r#type == "user" {
            agent.prompts += 1;
            let answer = agent.answers.get(agent.prompts - 1).expect("no section is for this prompt");
            agent.play(&answer.clone());
        }
    }
}

/// The lines of each section that begins with this line.
fn sections(script: &str, heading: &str) -> Vec<Vec<String>> {
    let mut sections: Vec<(&str, Vec<String>)> = Vec::new();
    for line in script.lines() {
        if matches!(line, "# start" | "# prompt") {
            sections.push((line, Vec::new()));
        } else if let Some((_, section)) = sections.last_mut() {
            section.push(line.to_owned());
        }
    }
    sections.into_iter().filter(|(line, _)| *line == heading).map(|(_, section)| section).collect()
}

impl Agent {
    fn play(&mut self, section: &[String]) {
        let workspace = env::current_dir().unwrap().to_string_lossy().into_owned();
        for line in section {
            match line.strip_prefix("# ") {
                None => {
                    let line = line.replace("$WORKSPACE", &workspace);
                    print(&format!(
                        "{}
",
                        line.replace("$PICTURE", &"A".repeat(PICTURE_BYTES))
                    ));
                }
                Some(directive) => self.carry_out(directive),
            }
        }
    }

    fn carry_out(&mut self, directive: &str) {
        let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        match word {
            "wait" => self.wait(|line| line.r#type == rest),
            "ack-interrupt" => self.wait(|line| line.request.subtype == "interrupt"),
            "await" => eventually(rest, || signal(&self.signals, rest).exists()),
            "raw" => print(rest),
            "stderr" => io::stderr().write_all(format!("{rest}\n").as_bytes()).unwrap(),
            "exit" => self.exit(rest.parse().unwrap()),
            "if-resumed" if self.resumed => self.carry_out(rest),
            "if-resumed" => {}
            _ => panic!("the script has an unknown directive: {directive}"),
        }
    }

    /// Exits, and writes that down too.
    fn exit(&mut self, status: i32) -> ! {
        writeln!(self.received, "{}", json!({"type": "exit", "status": status})).unwrap();
        process::exit(status)
    }

    fn wait(&mut self, is_it: impl Fn(&Line) -> bool) {
        if let Some(at) = self.early.iter().position(&is_it) {
            self.early.remove(at);
            return;
        }
        loop {
            let line = self.next();
            if is_it(&line) {
                return;
            }
            self.early.push_back(line);
        }
    }

    /// The next line of the input. Requests are answered at once, as the real program does.
    fn next(&mut self) -> Line {
        let mut line = String::new();
        if self.input.read_line(&mut line).unwrap() == 0 {
            self.exit(0);
        }
        self.received.write_all(line.as_bytes()).unwrap();
        let line = parse(&line);
        if line.r#type == "control_request" {
            let response = json!({"subtype": "success", "request_id": line.request_id, "response": {"still_queued": []}});
            print(&format!("{}\n", json!({"type": "control_response", "response": response})));
        }
        line
    }
}

fn parse(line: &str) -> Line {
    serde_json::from_str(line).unwrap_or_default()
}

fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    // The gateway may have ended.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
