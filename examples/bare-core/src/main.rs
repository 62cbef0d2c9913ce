//! The whole protocol without a runtime: one client on standard input and output, a journal in memory, and an agent that
//! is a function. This is what a shell around the core has to do, and all of it.
#![allow(clippy::print_stdout, reason = "standard output is its client")]

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{self, BufRead as _, Read as _},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use switchboard_core::{
    Hub, Input, Limits, Moment, Output, Peer,
    agent::{AgentCommand, AgentEvent, AgentExit, AgentInstanceId, AgentRecords},
    ids::{ChatKey, ConnId, Principal},
    journal::{Grant, MemoryJournal},
    wire::{Outcome, TurnError, decode},
};

/// The one client.
const CLIENT: ConnId = ConnId(1);

/// Time enters here and nowhere else.
struct Clock(Instant);

impl Clock {
    fn now(&self) -> Moment {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = millis(self.0.elapsed());
        Moment { ticks_ms: ms, boot_ms: ms, unix_ms: millis(unix) }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The hub, and what is around it.
struct Shell {
    clock: Clock,
    hub: Hub,
    journal: MemoryJournal,
    agents: BTreeMap<AgentInstanceId, (ChatKey, u64)>,
    finished: bool,
}

impl Shell {
    /// Gives the hub one input, and then the answers to all that it asks for, until it is quiet.
    fn handle(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.hub.handle(self.clock.now(), input);
            // Everything out, in order, before the next input.
            while let Some(output) = self.hub.poll_output() {
                inputs.extend(self.carry_out(output));
            }
        }
    }

    /// Does one thing. What came of it goes back in.
    fn carry_out(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Deliver { frame, .. } => println!("{}", frame.as_str()),
            // Standard output takes everything; one that did not would be reported with `Input::OutboxFull`.
            Output::Offer { events, .. } => {
                events.iter().for_each(|event| println!("{}", event.frame.as_str()))
            }
            Output::WatchDrain { conn } => return Some(Input::OutboxDrained { conn }),
            Output::HangUp { conn, close } => {
                println!("{}", close.frame.as_str());
                return Some(Input::Gone { conn });
            }
            // Nobody else has this journal.
            Output::Claim { chat } => return Some(Input::Owned { chat, grant: Grant::default() }),
            Output::Release { .. } | Output::LeaveAgent { .. } => {}
            Output::Append(append) => return Some(Input::Journal(self.journal.append(append))),
            Output::Ask(ask) => return Some(Input::Journal(self.journal.ask(ask))),
            Output::StartAgent { chat, instance, .. } => {
                self.agents.insert(instance, (chat, 0));
            }
            // This agent outlives nothing.
            Output::AdoptAgent { chat, agent, .. } => {
                let error =
                    TurnError { code: "agent_exited".to_owned(), detail: "the agent is gone".to_owned() };
                return Some(Input::AgentExited {
                    chat,
                    instance: agent.instance,
                    exit: AgentExit::Gone(error),
                });
            }
            Output::Command { instance, command } => return self.command(instance, command),
            Output::StopAgent { instance, .. } => {
                let (chat, _) = self.agents.remove(&instance)?;
                return Some(Input::AgentExited { chat, instance, exit: AgentExit::Stopped });
            }
            // It says nothing that it was not asked for.
            Output::PauseAgent { .. } => {}
            // Nor does it keep anything.
            Output::ForgetChat { .. } => {}
            Output::Finished => self.finished = true,
        }
        None
    }

    /// The agent: repeats what it hears.
    fn command(&mut self, instance: AgentInstanceId, command: AgentCommand) -> Option<Input> {
        let (chat, position) = self.agents.get_mut(&instance)?;
        let AgentCommand::Prompt { text, .. } = command else { return None };
        *position += 1;
        let events = vec![
            AgentEvent::Message { text },
            AgentEvent::TurnEnded { outcome: Outcome::Completed, error: None, usage: None, cost: None },
        ];
        let records = AgentRecords { position: *position, events, checkpoint: None };
        Some(Input::AgentRecords { chat: chat.clone(), instance, records })
    }

    /// Waits for a line, and for the time that the hub wants to be called at.
    fn run(&mut self, limits: &Limits, lines: &Receiver<String>) {
        while !self.finished {
            let until = self.hub.next_deadline().map_or(u64::MAX, |deadline| deadline.at_ms);
            let wait = until.saturating_sub(self.clock.now().ticks_ms).min(60_000);
            match lines.recv_timeout(Duration::from_millis(wait)) {
                Ok(line) => match decode(&line, limits, false) {
                    Ok(Some(envelope)) => self.handle(Input::Envelope { conn: CLIENT, envelope }),
                    Ok(None) => {}
                    Err(error) => self.handle(Input::Malformed { conn: CLIENT, error }),
                },
                Err(RecvTimeoutError::Timeout) => self.handle(Input::Tick),
                Err(RecvTimeoutError::Disconnected) => self.handle(Input::Shutdown),
            }
        }
    }
}

/// Lines of standard input, on a thread of their own: the hub waits for nobody. At most 16 wait for it.
fn lines() -> Receiver<String> {
    let (sender, lines) = mpsc::sync_channel(16);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn main() -> io::Result<()> {
    // From the system: ids that must not be guessed are made from it.
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let clock = Clock(Instant::now());
    let limits = Limits::default();
    let hub = Hub::new(limits.clone(), seed, clock.now());
    let (journal, agents) = (MemoryJournal::default(), BTreeMap::new());
    let mut shell = Shell { clock, hub, journal, agents, finished: false };
    let peer = Peer { principal: Principal::owner(), client_id: Some("terminal".to_owned()) };
    shell.handle(Input::Opened { conn: CLIENT, peer });
    shell.run(&limits, &lines());
    Ok(())
}
