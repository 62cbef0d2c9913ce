//! The agent: it prints its script, and writes down each line of its input.
//!
//! A script has a section for each prompt of the conversation, in their order over all processes of the agent. A line that
//! begins with `{` is printed as it stands, but for `$WORKSPACE`. The others begin with `#`:
//!
//! - `# prompt`: a section begins, the answer to the next prompt;
//! - `# wait TYPE`: goes on once a line of this type has come;
//! - `# ack-interrupt`: goes on once an interrupt has come and is answered;
//! - `# raw TEXT`: prints this without a newline;
//! - `# exit STATUS`.

use std::{
    collections::VecDeque,
    env,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, StdinLock, Write},
    process,
};

use serde::Deserialize;
use serde_json::json;

/// The first argument that makes this binary the agent.
pub(crate) const AS_AGENT: &str = "as-scripted-agent";

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
    /// The sections.
    script: Vec<Vec<String>>,
    received: File,
    /// Prompts of all processes of this agent so far.
    prompts: usize,
    /// Lines that came while another was waited for.
    early: VecDeque<Line>,
}

/// Runs until the input ends, with the paths of the script and of the file for what is received.
pub(crate) fn run(arguments: &[String]) {
    let earlier = fs::read_to_string(&arguments[1]).unwrap_or_default();
    let received = OpenOptions::new().create(true).append(true).open(&arguments[1]).unwrap();
    let mut agent = Agent {
        input: io::stdin().lock(),
        script: read(&fs::read_to_string(&arguments[0]).unwrap()),
        received,
        prompts: earlier.lines().filter(|line| parse(line).r#type == "user").count(),
        early: VecDeque::new(),
    };
    loop {
        let line = agent.early.pop_front().unwrap_or_else(|| agent.next());
        if line.r#type == "user" {
            agent.prompts += 1;
            agent.play();
        }
    }
}

fn read(script: &str) -> Vec<Vec<String>> {
    let lines = |section: &str| section.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    script.split("# prompt\n").skip(1).map(lines).collect()
}

impl Agent {
    /// Answers the prompt that came last.
    fn play(&mut self) {
        let workspace = env::current_dir().unwrap().to_string_lossy().into_owned();
        let section = self.script.get(self.prompts - 1).expect("the script has no section for this prompt");
        for line in section.clone() {
            match line.strip_prefix("# ") {
                None => print(&format!("{}\n", line.replace("$WORKSPACE", &workspace))),
                Some(directive) => self.carry_out(directive),
            }
        }
    }

    fn carry_out(&mut self, directive: &str) {
        let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        match word {
            "wait" => self.wait(|line| line.r#type == rest),
            "ack-interrupt" => self.wait(|line| line.request.subtype == "interrupt"),
            "raw" => print(rest),
            "exit" => process::exit(rest.parse().unwrap()),
            _ => panic!("the script has an unknown directive: {directive}"),
        }
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
            process::exit(0);
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
