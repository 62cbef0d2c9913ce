//! `switchboard chat`, in a pipe and at a terminal.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Output, Stdio},
    sync::mpsc,
    time::Instant,
};

use rustix::{
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

use serde_json::json;

use switchboard_test_support::{Client, Gateway, TIMEOUT, config_file, run, switchboard, wait_for_exit};

use crate::conversation::{halves, numbers};

fn chat(gateway: &Gateway, target: &str, input: &str) -> (Option<i32>, String, String) {
    let mut command = switchboard();
    command.args(["chat", target]).arg("--data-dir").arg(gateway.path("data"));
    let Output { status, stdout, stderr } = run(command, input);
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_pipe_gets_the_answers_and_nothing_else() {
    let gateway = Gateway::start(&[]);
    let web = format!("http://{}", gateway.address);
    let with_token = format!("http://{}/#token={}", gateway.address, gateway.token());
    let unix = format!("unix:{}", gateway.path("data/socket").display());
    for target in [&web, &with_token, &unix] {
        let (status, out, err) = chat(&gateway, target, "first\n\nsecond\n");
        assert_eq!((status, &*out, &*err), (Some(0), "first\nsecond\n", ""), "{target}");
    }
}

#[test]
fn eight_pipes_at_once_get_their_answers_also_where_only_two_agents_may_run() {
    for flags in [&[][..], &["--max-agents", "2"]] {
        let gateway = Gateway::start(flags);
        let target = format!("http://{}", gateway.address);
        std::thread::scope(|scope| {
            for pipe in 0..8 {
                let (gateway, target) = (&gateway, &target);
                scope.spawn(move || {
                    let said = format!("hi from {pipe}\n");
                    let (status, out, err) = chat(gateway, target, &said);
                    assert_eq!((status, &*out, &*err), (Some(0), &*said, ""), "{flags:?}");
                });
            }
        });
    }
}

#[test]
fn escape_sequences_of_a_model_do_not_reach_the_terminal() {
    let gateway = Gateway::start_with(|command| {
        command.args([
            "--agent-command",
            r"printf '\033[31mred\033]0;title\007 \302\2332J\r\n'",
            "--dialect",
            "text",
        ]);
    });
    let target = format!("http://{}", gateway.address);
    let (status, out, _) = chat(&gateway, &target, "x\n");
    assert_eq!((status, &*out), (Some(0), "<U+001B>[31mred<U+001B>]0;title<U+0007> <U+009B>2J\n"));
}

#[test]
fn the_token_may_come_from_the_environment_or_a_file() {
    let gateway = Gateway::start(&[]);
    let target = format!("http://{}", gateway.address);
    let elsewhere = tempfile::tempdir().unwrap();
    let chat = |change: &dyn Fn(&mut std::process::Command)| {
        let mut command = switchboard();
        command.args(["chat", &target]).arg("--data-dir").arg(elsewhere.path());
        change(&mut command);
        run(command, "x\n").status.success()
    };
    assert!(!chat(&|_| {}));
    assert!(chat(&|command| {
        command.env("SWITCHBOARD_TOKEN", gateway.token());
    }));
    assert!(chat(&|command| {
        command.arg("--token-file").arg(gateway.path("data/token"));
    }));
}

#[test]
fn a_failed_turn_fails_the_command() {
    let gateway = Gateway::start_with(|command| {
        command.args([
            "--agent-command",
            "sh -c 'cat > /dev/null; echo partly; echo no such model >&2; exit 3'",
            "--dialect",
            "text",
        ]);
    });
    let (status, out, err) = chat(&gateway, &format!("http://{}", gateway.address), "x\n");
    assert_eq!((status, &*out), (Some(1), "partly\n"), "{err}");
    assert!(err.contains("Failed") && err.contains('3') && err.contains("no such model"), "{err}");
    let log = gateway.log();
    let said = log.lines().find(|line| line.contains("no such model"));
    assert!(said.is_some_and(|line| line.contains("WARN")), "{log}");
}

#[test]
fn a_message_that_is_too_long_fails_a_pipe_and_says_what_to_do() {
    let gateway = Gateway::start(&[]);
    let web = format!("http://{}", gateway.address);
    let unix = format!("unix:{}", gateway.path("data/socket").display());
    for target in [&web, &unix] {
        // The last length exceeds a socket's buffer: the gateway closes while the message is being written.
        for length in [259_000, 300_000, 2_000_000] {
            let (status, out, err) = chat(&gateway, target, &format!("{}\nshort\n", "a".repeat(length)));
            assert_eq!((status, &*out), (Some(1), "short\n"), "{target} {length}: {err}");
            assert!(err.contains("Shorten it, or put the text into a file"), "{target} {length}: {err}");
        }
    }
}

#[test]
fn a_pipe_fails_where_there_is_no_room_for_another_connection_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_file(dir.path(), "[limits]\nconnections_per_principal = 1\n");
    let gateway = Gateway::start(&["--config", config.to_str().unwrap()]);
    let mut only = gateway.websocket();
    assert_eq!(only.next().unwrap()["event"], "ready");
    let web = format!("http://{}", gateway.address);
    let unix = format!("unix:{}", gateway.path("data/socket").display());
    for target in [&web, &unix] {
        let (status, out, err) = chat(&gateway, target, "x\n");
        assert_eq!((status, &*out), (Some(1), ""), "{err}");
        assert!(err.contains("the limit is 1 connections of yours at once"), "{err}");
        assert!(err.contains("Close another"), "{err}");
    }
}

#[test]
fn who_is_not_let_in_is_told_why() {
    let gateway = Gateway::start(&[]);
    let target = format!("http://{}/#token=wrong", gateway.address);
    let (status, _, err) = chat(&gateway, &target, "x\n");
    assert!(status == Some(1) && err.contains("--token-file") && !err.contains("wrong"), "{err}");
    let (status, _, err) = chat(&gateway, "http://127.0.0.1:1", "x\n");
    assert!(status == Some(1) && err.contains("switchboard serve"), "{err}");
    let (status, _, err) = chat(&gateway, "nonsense", "x\n");
    assert!(status == Some(1) && err.contains("http://HOST:PORT"), "{err}");
}

/// Relays connections until the test cuts them.
struct Wire {
    listener: TcpListener,
}

impl Wire {
    fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Relays the next connection, and returns its two ends.
    fn pass_one(&self, to: SocketAddr) -> [TcpStream; 2] {
        let (client, _) = self.listener.accept().unwrap();
        let server = TcpStream::connect(to).unwrap();
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            std::thread::spawn(move || {
                // Cut or closed: closes both ends.
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        [client, server]
    }
}

#[test]
fn a_lost_connection_is_resumed_and_every_word_comes_once() {
    let wire = Wire::new();
    let gateway = halves(&["--allow-host", &wire.address().to_string()]);
    let mut command = switchboard();
    command.args(["chat", &format!("http://{}", wire.address())]).arg("--data-dir").arg(gateway.path("data"));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ends = wire.pass_one(gateway.address);
    child.stdin.take().unwrap().write_all(b"count\n").unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while text != numbers(1..=300) {
        assert_ne!(out.read_line(&mut text).unwrap(), 0, "{text}");
    }
    for end in ends {
        // The relay may have closed the other end already.
        let _ = end.shutdown(Shutdown::Both);
    }
    std::fs::write(gateway.path("work/go"), "").unwrap();
    let _ends = wire.pass_one(gateway.address);
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, numbers(1..=600));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("Connection lost"), "{said}");
    assert!(wait_for_exit(&mut child).success());
}

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
