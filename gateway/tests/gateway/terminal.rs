//! `switchboard chat` at a terminal.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    process::Child,
    sync::mpsc,
    time::Instant,
};

use rustix::{
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

use serde_json::json;

use switchboard_test_support::{Client, Gateway, TIMEOUT, config_file, switchboard, wait_for_exit};

/// `switchboard chat` at a pseudo-terminal.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    screen: mpsc::Receiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    pub(crate) fn open(gateway: &Gateway) -> Self {
        Self::open_at(&format!("http://{}", gateway.address), &gateway.path("data"))
    }

    /// Connects to the gateway at this address.
    pub(crate) fn open_at(target: &str, data_dir: &Path) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let side = || File::options().read(true).write(true).open(&name).unwrap();
        let mut command = switchboard();
        command.args(["chat", target]).arg("--data-dir").arg(data_dir);
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().unwrap();
        let (read, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut bytes) {
                if read.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keyboard, screen, shown: String::new() }
    }

    /// Waits until the screen shows this, and drops the output up to there. Returns what was shown before.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        while !self.shown.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.screen.recv_timeout(left) else {
                panic!("no {text:?} in {:?}", self.shown);
            };
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
        let begin = self.shown.find(text).unwrap();
        let before = self.shown[..begin].to_owned();
        self.shown.drain(..begin + text.len());
        before
    }

    /// Waits until the screen shows this and nothing before it.
    pub(crate) fn wait_for_next(&mut self, text: &str) {
        let deadline = Instant::now() + TIMEOUT;
        while self.shown.len() < text.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.screen.recv_timeout(left) else { break };
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
        assert!(self.shown.starts_with(text), "not {text:?} but {:?}", self.shown);
        self.shown.drain(..text.len());
    }

    /// Waits for one of two texts, and returns whether it was the first.
    pub(crate) fn shows_either(&mut self, first: &str, second: &str) -> bool {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let found = [first, second].map(|text| self.shown.find(text).map(|at| at + text.len()));
            if let Some(end) = found.into_iter().flatten().min() {
                self.shown.drain(..end);
                return found[0] == Some(end);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.screen.recv_timeout(left) else {
                panic!("neither {first:?} nor {second:?} in {:?}", self.shown);
            };
            self.shown.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Answers a prompt on the screen, and repeats the answer if it came too early for the program. Waits for the text
    /// that follows the answer.
    pub(crate) fn answer(&mut self, prompt: &str, line: &str, outcome: &str) {
        self.write(line);
        while !self.shows_either(outcome, "Nothing was answered.") {
            self.wait_for(prompt);
            self.write(line);
        }
    }

    pub(crate) fn write(&mut self, line: &str) {
        self.type_keys(&format!("{line}\n"));
    }

    /// Types these keys, all at once.
    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Stops the program's threads until [`Terminal::resume`]. When this returns, none of them runs.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        let stopped = waitpid(Some(Pid::from_child(&self.child)), WaitOptions::UNTRACED).unwrap();
        assert!(stopped.unwrap().1.stopped());
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_person_is_told_that_there_is_no_room_and_gets_it_when_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_file(dir.path(), "[limits]\nconnections_per_principal = 1\n");
    let gateway = Gateway::start(&["--config", config.to_str().unwrap()]);
    let mut only = gateway.websocket();
    assert_eq!(only.next().unwrap()["event"], "ready");
    let mut terminal = Terminal::open(&gateway);
    terminal.wait_for("the limit is 1 connections of yours at once");
    drop(only);
    terminal.wait_for("\n> ");
    terminal.write("/quit");
    assert!(wait_for_exit(&mut terminal.child).success());
}

#[test]
fn a_person_is_told_at_once_that_there_is_no_token() {
    let gateway = Gateway::start(&[]);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open_at(&format!("http://{}", gateway.address), elsewhere.path());
    // The gateway refuses the handshake. After that it would wait for a token.
    let before = terminal.wait_for("does not let this client in: no token was found");
    assert!(!before.contains("Connected to"), "{before}");
    terminal.wait_for(elsewhere.path().to_str().unwrap());
}

#[test]
fn a_person_answers_and_stops_what_the_agent_does_by_itself() {
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent", "demo"]);
    });
    let mut terminal = Terminal::open(&gateway);
    terminal.wait_for("Connected to");
    terminal.wait_for("> ");
    terminal.write("background ask 1");
    terminal.wait_for("[command: make release runs in the background]");
    terminal.wait_for("[command: make release is done]");
    terminal.wait_for("[the agent goes on by itself: background work ended]");
    terminal.wait_for("In a turn that the agent began by itself:");
    terminal.wait_for("Allow it this once?");
    terminal.answer("Allow it this once?", "y", "[allowed]");
    terminal.wait_for("\n> ");
    terminal.write("background ask 1");
    terminal.wait_for("In a turn that the agent began by itself:");
    terminal.wait_for("Allow it this once?");
    terminal.write("/stop");
    terminal.wait_for("Stopped.");
    terminal.wait_for("\n> ");
}

#[test]
fn a_person_gives_leave_stops_a_turn_and_goes() {
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent", "demo"]);
    });
    let mut terminal = Terminal::open(&gateway);
    terminal.wait_for("Connected to");
    terminal.wait_for("> ");
    terminal.write("permission touch x");
    terminal.wait_for("touch x");
    terminal.wait_for("Allow it this once?");
    terminal.answer("Allow it this once?", "y", "[allowed]");
    terminal.wait_for("\n> ");
    terminal.write("permission touch y");
    terminal.wait_for("Allow it this once?");
    terminal.answer("Allow it this once?", "not today", "[denied]");
    terminal.wait_for("\n> ");
    terminal.write("question");
    let choice = "or an answer of your own: ";
    terminal.wait_for(choice);
    terminal.answer(choice, "1", choice);
    terminal.answer(choice, "1", "[answered]");
    terminal.wait_for("\n> ");
    terminal.write("slow 1000");
    // The echo of what was written, and then the first words.
    terminal.wait_for("slow 1000");
    terminal.wait_for(" ");
    terminal.interrupt();
    terminal.wait_for("Stopped.");
    terminal.wait_for("\n> ");
    terminal.write("/chats");
    terminal.wait_for("permission touch x");
    terminal.write("/rename Touching things");
    terminal.wait_for("now called: Touching things");
    terminal.write("/delete");
    terminal.wait_for("Write yes to delete it");
    terminal.write("yes");
    terminal.wait_for("was deleted");
    terminal.write("echo in another one");
    terminal.wait_for("New chat");
    terminal.wait_for("in another one");
    terminal.wait_for("\n> ");
    terminal.write("/new");
    terminal.wait_for("New chat");
    terminal.write("/quit");
    assert!(wait_for_exit(&mut terminal.child).success());
}

#[test]
fn nothing_is_allowed_that_was_not_shown() {
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent", "demo"]);
    });
    let mut terminal = Terminal::open(&gateway);
    terminal.wait_for("> ");
    let hidden = "x".repeat(2000);
    terminal.write(&format!("permission echo \u{202e}p\u{430}y{hidden}"));
    terminal.wait_for("command: ");
    terminal.wait_for("<U+202E>p<U+0430>y");
    let more = "are hidden; s shows ";
    terminal.wait_for(more);
    terminal.answer(more, "y", "Not yet: ");
    terminal.wait_for(more);
    // In inverse video, which no text of an agent can have.
    let ask = "\u{1b}[7m ? \u{1b}[0m Allow it this once?";
    terminal.answer(more, "s", ask);
    terminal.answer(ask, "y", "[allowed]");
}

#[test]
fn a_message_that_was_not_accepted_outlives_the_terminal() {
    let gateway = Gateway::start(&[]);
    let mut terminal = Terminal::open(&gateway);
    terminal.wait_for("Connected to");
    terminal.wait_for("> ");
    gateway.pause();
    terminal.write("said once");
    let kept = || {
        let folders = std::fs::read_dir(gateway.path("data/unsent")).into_iter().flatten().flatten();
        let files =
            folders.flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten());
        // A file that is being written has a temporary extension.
        files.filter(|file| file.path().extension().is_none()).count()
    };
    let deadline = Instant::now() + TIMEOUT;
    while kept() == 0 {
        assert!(Instant::now() < deadline, "the message is not written down");
        std::thread::yield_now();
    }
    // As if the terminal's window were closed. The sent message may have arrived, or not.
    drop(terminal);
    gateway.signal(Signal::CONT);
    let mut terminal = Terminal::open(&gateway);
    terminal.wait_for("sent again: 1");
    terminal.wait_for("Sent to chat");
    terminal.write("/quit");
    assert!(wait_for_exit(&mut terminal.child).success());
    assert_eq!(kept(), 0);
    let mut client = gateway.websocket();
    client.send(&json!({"type": "list_chats"}));
    let chats = client.wait_for("chats");
    assert_eq!(chats["chats"].as_array().unwrap().len(), 1, "{chats}");
    client.send(&json!({"type": "history", "chat_id": chats["chats"][0]["chat_id"]}));
    let events = client.wait_for("history")["events"].take();
    let said = events.as_array().unwrap().iter().filter(|event| event["event"] == "user_message");
    assert_eq!(said.count(), 1, "{events}");
}

#[test]
fn a_stop_leaves_what_is_queued_to_run() {
    let gateway = Gateway::start_with(|command| {
        command.args(["--agent", "demo"]);
    });
    let mut terminal = Terminal::open(&gateway);
    terminal.wait_for("> ");
    for by_line in [true, false] {
        terminal.write("slow 1000");
        terminal.wait_for("slow 1000");
        terminal.wait_for("word1 ");
        terminal.write("echo these were queued");
        terminal.wait_for("Queued as a message");
        if by_line {
            terminal.write("/stop");
        } else {
            terminal.interrupt();
        }
        terminal.wait_for("Stopping…");
        terminal.wait_for("Stopped.");
        terminal.wait_for("these were queued");
        terminal.wait_for("\n> ");
    }
}
