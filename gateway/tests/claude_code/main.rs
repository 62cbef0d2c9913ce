//! Claude Code itself behind the real program, against a scripted model on loopback: what it does by itself.
//!
//! `SWITCHBOARD_TEST_CLAUDE` names its executable; `cargo xtask test` installs one and sets it. Without it, there is
//! nothing to test, and each test says so.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod background;
mod interrupts;
mod races;
mod subagents;

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use switchboard_test_support::{
    Client as _, Gateway, WebSocketClient, agent_turns, answer_text, config_file, matches, scripted_model,
    unbalanced,
};

/// How long Claude Code may take for anything. On a busy machine it takes longer to start than other programs do.
const PATIENCE: Duration = Duration::from_secs(90);

/// A gateway with Claude Code, and a client that has a chat.
struct Session {
    gateway: Gateway,
    client: WebSocketClient,
    chat: String,
    /// Every event that the client received after `attached`.
    events: Vec<Value>,
    prompts: usize,
}

impl Session {
    /// Starts a gateway with these settings; `None` without Claude Code.
    fn start(settings: &str) -> Option<Self> {
        let Some(executable) = env::var_os("SWITCHBOARD_TEST_CLAUDE") else {
            // Written to standard error directly: the test harness hides the output of a passing test.
            let skipped = "SKIPPED: SWITCHBOARD_TEST_CLAUDE is not set, so Claude Code is not tested; `cargo xtask test` does it";
            let mut stderr = std::io::stderr();
            writeln!(stderr, "{skipped}").unwrap();
            return None;
        };
        let mut path = Path::new(&executable).parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        let model = format!("http://{}", scripted_model());
        let gateway = Gateway::start_with(|command| {
            let data = command.get_args().skip_while(|arg| *arg != "--data-dir").nth(1).unwrap();
            let dir = Path::new(data).parent().unwrap().to_owned();
            for (name, subdir) in [("HOME", "home"), ("TMPDIR", "tmp")] {
                fs::create_dir(dir.join(subdir)).unwrap();
                command.env(name, dir.join(subdir));
            }
            command.args(["--agent", "claude", "--sandbox", "off"]);
            command.arg("--config").arg(config_file(&dir, settings)).env("PATH", path);
            command.env("ANTHROPIC_API_KEY", "test-key").env("ANTHROPIC_BASE_URL", model);
            for switch in [
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
                "CLAUDE_CODE_MAX_RETRIES",
                "DISABLE_AUTOUPDATER",
                "DISABLE_ERROR_REPORTING",
                "DISABLE_TELEMETRY",
            ] {
                command.env(switch, "1");
            }
        });
        let mut client = gateway.websocket();
        let chat = client.new_chat();
        Some(Self { gateway, client, chat, events: Vec::new(), prompts: 0 })
    }

    /// A path in the agent's workspace.
    fn path(&self, name: &str) -> PathBuf {
        self.gateway.path("work").join(name)
    }

    /// Lets go on what waits for this file.
    fn open(&self, gate: &str) {
        fs::write(self.path(gate), "").unwrap();
    }

    fn send(&mut self, frame: Value) {
        let mut frame = frame;
        frame["chat_id"] = self.chat.clone().into();
        self.client.send(&frame);
    }

    /// Sends a message, and returns the id of its turn.
    fn prompt(&mut self, text: &str) -> Value {
        self.prompts += 1;
        let turn = json!(format!("turn-{}", self.prompts));
        self.send(json!({"type": "message", "turn_id": turn, "content": text}));
        turn
    }

    /// Sends a message, and waits for the end of its turn.
    fn run(&mut self, text: &str) -> Value {
        let turn = self.prompt(text);
        self.until(&json!({"event": "turn_end", "turn_id": turn}));
        turn
    }

    /// Receives events up to one that matches.
    fn until(&mut self, pattern: &Value) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let event = self.client.next();
            let is_over = Instant::now() > deadline || event.is_none() && !self.client.0.can_read();
            assert!(!is_over, "nothing came that is {pattern}{}", self.report());
            let Some(event) = event else { continue };
            self.events.push(event.clone());
            if matches(pattern, &event) {
                return event;
            }
        }
    }

    /// Asserts that an event that matches was received.
    #[track_caller]
    fn assert_received(&self, pattern: &Value) {
        assert!(self.received(pattern), "there was no {pattern}{}", self.report());
    }

    fn received(&self, pattern: &Value) -> bool {
        self.events.iter().any(|event| matches(pattern, event))
    }

    fn report(&self) -> String {
        let events: Vec<String> = self.events.iter().map(Value::to_string).collect();
        format!("; events:\n{}\nlog:\n{}", events.join("\n"), self.gateway.log())
    }

    /// What a turn's answer says, without its subagents.
    fn text(&self, turn: &Value) -> String {
        answer_text(&self.events, turn, &Value::Null)
    }

    /// The newest turn that the agent began.
    #[track_caller]
    fn agent_turn(&self) -> Value {
        agent_turns(&self.events).pop().unwrap_or_else(|| panic!("the agent began no turn{}", self.report()))
    }

    fn allow(&mut self, request: &Value) {
        self.send(json!({"type": "respond", "request_id": request["request_id"], "decision": "allow"}));
    }

    /// Begins work in the background that ends when the gate is opened, and after which the agent is told `then`.
    fn begin_background_work(&mut self, gate: &str, then: &str) {
        let turn = self.run(&format!("background:until [ -e {gate} ]; do sleep 0.02; done|{then}"));
        self.assert_received(
            &json!({"event": "turn_end", "turn_id": turn, "outcome": "completed", "error": null}),
        );
        self.assert_received(
            &json!({"event": "task", "turn_id": turn, "kind": "shell", "status": "running"}),
        );
    }

    /// Asserts that all that began has ended.
    #[track_caller]
    fn assert_balanced(&self) {
        let wrong = unbalanced(&self.events);
        assert!(wrong.is_empty(), "{}{}", wrong.join("\n"), self.report());
    }
}
