//! `switchboard chat`: a terminal client that reconnects and resumes the chat.

mod advice;
mod answered;
mod effect;
mod frames;
mod link;
mod permissions;
mod requests;
mod screen;
mod session;
mod sheet;
mod subagents;
mod target;
mod text;
mod tool_output;
mod unsent;

use std::{
    io::{self, BufRead, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use switchboard_core::ids::{ChatId, TurnId};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    cli::ChatArgs,
    config::default_data_dir,
    failure::{Failure, Result},
};
use effect::Effect;
use frames::Frame;
use link::{Lost, ServerConnection};
use screen::Screen;
use session::Session;
use target::Target;
use text::safe;
use unsent::Store;

/// Interval between pings to the gateway.
const PING: Duration = Duration::from_secs(20);
/// A connection without any frame from the gateway for this long is given up.
const SILENCE: Duration = Duration::from_secs(45);
/// First and longest delay before a new connection attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// Delay between drawing a request and showing its prompt. Lines typed before the prompt are not taken as answers.
const ARMING: Duration = Duration::from_millis(500);
/// How long no frame has come before a prompt is drawn, so that it is not drawn between frames that come together.
const PROMPT_DELAY: Duration = Duration::from_millis(50);
/// What to do without a token, or with another one than the gateway's.
const GIVE_TOKEN: &str = "Give the address as `switchboard serve` prints it, with its #token=..., or the token's file \
                          with --token-file.";
/// Capacity of the channel of lines from standard input.
const LINES: usize = 64;

/// Runs the client until its end, and returns its exit code.
///
/// # Errors
///
/// The arguments are not valid, the gateway cannot be reached at the first attempt, or the gateway refuses the client.
pub(crate) fn run(args: &ChatArgs) -> Result<ExitCode> {
    let target = Target::of(args)?;
    let chat = args.chat.as_deref().map(ChatId::parse).transpose().map_err(|_| {
        Failure::new("--chat is not the id of a chat.", "Give up to 64 letters, digits or _ : - signs.")
    })?;
    let runtime = crate::executor::start()?;
    // Only messages that a person types are stored; a program can send its messages again.
    let data_dir = args.data_dir.clone().or_else(|| default_data_dir().ok());
    let store = data_dir.filter(|_| io::stdin().is_terminal()).map(|dir| Store::new(&dir, &target.shown()));
    let ended = runtime.block_on(async { Client::new(target, chat, store)?.run().await });
    // The thread that reads standard input may block for ever.
    runtime.shutdown_background();
    ended.map(ExitCode::from)
}

/// A line from standard input, and when it was read.
struct Line {
    text: String,
    read: std::time::Instant,
}

struct Client {
    target: Target,
    session: Session,
    /// Standard input is no terminal: its lines come from a program or a file.
    batch: bool,
    /// Stores messages that are not accepted yet beyond the end of this program.
    store: Option<Store>,
    screen: Screen,
    lines: mpsc::Receiver<Line>,
    lines_open: bool,
    interrupts: tokio::signal::unix::Signal,
    retry_at: Option<Instant>,
    arm_at: Option<Instant>,
    /// When to draw the prompt for a message, or to draw that of a request again below other output.
    prompt_at: Option<Instant>,
    quit: Option<u8>,
}

impl Client {
    fn new(target: Target, chat: Option<ChatId>, store: Option<Store>) -> Result<Self> {
        let batch = !io::stdin().is_terminal();
        let attended = !batch && io::stdout().is_terminal();
        let interrupts = signal(SignalKind::interrupt()).map_err(|error| {
            Failure::new(format!("Ctrl-C cannot be listened for: {error}."), "Try again.")
        })?;
        let mut session = Session::new(chat, batch);
        if !io::stderr().is_terminal() {
            session.answer_nothing();
        }
        session.queue_stored(store.as_ref().map(Store::load).unwrap_or_default());
        Ok(Self {
            target,
            session,
            batch,
            store,
            screen: Screen::new(attended),
            lines: read_lines(),
            lines_open: true,
            interrupts,
            retry_at: None,
            arm_at: None,
            prompt_at: None,
            quit: None,
        })
    }

    async fn run(mut self) -> Result<u8> {
        let mut delay = BACKOFF.0;
        let mut been_connected = false;
        // The reason already printed for the current outage; printed once, not at each attempt.
        let mut reported: Option<Lost> = None;
        loop {
            let lost = match ServerConnection::open(&self.target).await {
                Ok(mut link) => {
                    self.screen.aside(&format!("Connected to {}. /help says more.", self.target.shown()));
                    let lost = self.serve_connection(&mut link, &mut delay).await;
                    been_connected = true;
                    reported = None;
                    if lost.is_none() {
                        link.close().await;
                    }
                    lost
                }
                Err(lost) => Some(lost),
            };
            if let Some(status) = self.quit {
                return Ok(status);
            }
            match lost {
                Some(Lost::Refused(why)) => return Err(self.refused(&why)),
                Some(Lost::Unauthenticated) => {
                    let missing = self.target.missing_token();
                    return Err(self.refused(missing.as_deref().unwrap_or("it refuses the credentials")));
                }
                // Without a person, nobody would see why the client waits, and nobody could close another connection.
                Some(Lost::Full(why)) if self.batch => return Err(self.full(&why)),
                Some(Lost::Gone(why)) if !been_connected => return Err(self.unreachable(&why)),
                lost if lost.is_some() && lost == reported => {}
                Some(Lost::Full(why)) => {
                    self.screen
                        .note(&format!("The gateway takes no further connection: {why}. Trying again."));
                    reported = Some(Lost::Full(why));
                }
                Some(Lost::Gone(why)) => {
                    self.screen.note(&format!("Connection lost ({why}); trying again."));
                    reported = Some(Lost::Gone(why));
                }
                Some(Lost::TooLarge) => self.session.handle_too_large(),
                None => {}
            }
            self.session.handle_disconnect();
            self.wait(jittered(delay)).await;
            delay = (delay * 2).min(BACKOFF.1);
            if let Some(status) = self.quit {
                return Ok(status);
            }
        }
    }

    /// Drives the session over one connection. Returns why the connection was lost, or `None` if the program is to end.
    async fn serve_connection(&mut self, link: &mut ServerConnection, delay: &mut Duration) -> Option<Lost> {
        let mut received_at = Instant::now();
        let mut ping = tokio::time::interval_at(received_at + PING, PING);
        loop {
            while let Some(effect) = self.session.poll_effect() {
                if let Some(frame) = self.carry_out(effect)
                    && let Err(lost) = link.send(&frame).await
                {
                    return Some(lost);
                }
            }
            if self.quit.is_some() {
                return None;
            }
            let awaits_line = self.session.awaits_message() || self.session.drawn_prompt().is_some();
            let is_prompt_due = awaits_line && !self.screen.is_prompted();
            self.prompt_at = is_prompt_due.then(|| Instant::now() + PROMPT_DELAY);
            tokio::select! {
                frame = link.next() => match frame {
                    Ok(text) => {
                        received_at = Instant::now();
                        self.session.handle_frame(Frame::read(&text), new_turn());
                        if self.session.is_connected() {
                            *delay = BACKOFF.0;
                        }
                    }
                    Err(lost) => return Some(lost),
                },
                _ = ping.tick() => {
                    if let Err(lost) = link.send("{\"type\":\"ping\"}").await {
                        return Some(lost);
                    }
                }
                () = sleep_until(received_at + SILENCE) => return Some(Lost::Gone("silent".into())),
                () = self.handle_input() => {}
            }
        }
    }

    /// Handles input and signals during the delay before the next connection attempt.
    async fn wait(&mut self, delay: Duration) {
        let until = Instant::now() + delay;
        self.prompt_at = None;
        while self.quit.is_none() {
            while let Some(effect) = self.session.poll_effect() {
                // Frames are dropped here; the session sends their content again after the next connect.
                let _ = self.carry_out(effect);
            }
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.handle_input() => {}
            }
        }
    }

    /// Waits for the next line, signal or timer, and passes it to the session. Cancel safe.
    async fn handle_input(&mut self) {
        tokio::select! {
            line = self.lines.recv(), if self.lines_open => match line {
                Some(line) => {
                    self.screen.entered();
                    self.session.handle_line(&line.text, line.read, new_turn());
                }
                None => {
                    self.lines_open = false;
                    self.session.handle_input_end();
                }
            },
            _ = self.interrupts.recv() => self.session.handle_interrupt(),
            () = alarm(self.arm_at) => {
                self.arm_at = None;
                self.session.handle_armed();
            }
            () = alarm(self.prompt_at) => {
                self.prompt_at = None;
                match self.session.drawn_prompt() {
                    Some(prompt) => self.screen.redraw_question(&prompt),
                    None => self.screen.prompt(),
                }
            }
            () = alarm(self.retry_at) => {
                self.retry_at = None;
                self.session.flush();
            }
        }
    }

    /// Carries out an effect. Returns the frame to send, if the effect is one.
    fn carry_out(&mut self, effect: Effect) -> Option<String> {
        match effect {
            Effect::Send(frame) => return Some(frame),
            Effect::Print { event, own, permission } => self.screen.print(&event, own, permission),
            Effect::Replaced => self.screen.replaced(),
            Effect::LeftChat => self.screen.leave_chat(),
            Effect::Note(text) => self.screen.note(&text),
            Effect::DrawRequest(rows) => {
                self.screen.draw_request(&rows);
                self.arm_at = Some(Instant::now() + ARMING);
            }
            Effect::Prompt(prompt) => {
                self.screen.question(&prompt);
                self.session.handle_prompted(std::time::Instant::now());
            }
            Effect::List { chats, open } => self.screen.list(&chats, open.as_ref()),
            Effect::Store(unsent) => self.store_message(&unsent),
            Effect::Forget(turn_id) => {
                if let Some(store) = &self.store {
                    store.forget(&turn_id);
                }
            }
            Effect::RetryAfter(ms) => self.retry_at = Some(Instant::now() + Duration::from_millis(ms)),
            Effect::Quit(status) => self.quit = Some(status),
        }
        None
    }

    fn store_message(&mut self, unsent: &unsent::Unsent) {
        let Some(store) = &self.store else { return };
        if let Err(error) = store.save(unsent) {
            // Printed once: the error is about the disk, not about this message.
            self.store = None;
            let what = "What is not accepted yet is lost if this program ends";
            self.screen.note(&format!("{what}: it cannot be written down ({error})."));
        }
    }

    fn refused(&self, why: &str) -> Failure {
        Failure::new(
            format!("The gateway at {} does not let this client in: {why}.", self.target.shown()),
            GIVE_TOKEN,
        )
    }

    fn full(&self, why: &str) -> Failure {
        Failure::new(
            format!("The gateway at {} takes no further connection: {}.", self.target.shown(), safe(why)),
            "Close another page or program that is connected, then try again.",
        )
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::new(
            format!("There is no gateway at {}: {why}.", self.target.shown()),
            "Start one with `switchboard serve`, or give the address that it prints.",
        )
    }
}

async fn alarm(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Reads standard input in a thread, which ends with the process.
fn read_lines() -> mpsc::Receiver<Line> {
    let (lines, received) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Ok(Some(line)) = next_line(&mut input) {
            if lines.blocking_send(Line { text: line, read: std::time::Instant::now() }).is_err() {
                return;
            }
        }
    });
    received
}

/// Reads the next line. Bytes that are not UTF-8 are replaced, so that the rest of the input is not lost.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Ok(Some(String::from_utf8_lossy(line).into_owned()))
}

/// A random turn id, unique across clients.
fn new_turn() -> TurnId {
    let id: String = random::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
    TurnId::parse(&id).expect("hexadecimal digits are a turn id")
}

/// A random delay between half of `delay` and `delay`, so that many clients do not reconnect at the same time.
fn jittered(delay: Duration) -> Duration {
    let [byte] = random::<1>();
    delay / 2 + delay * u32::from(byte) / 512
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has entropy after it has started");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_utf_8_loses_nothing_else() {
        let mut input = &b"one \xe9 two\r\n\nlast"[..];
        for expected in ["one \u{fffd} two", "", "last"] {
            assert_eq!(next_line(&mut input).unwrap().as_deref(), Some(expected));
        }
        assert_eq!(next_line(&mut input).unwrap(), None);
    }
}
