//! The state machine of an agent instance: all its transitions.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use switchboard_core::{
    agent::{AgentCommand, CommandId},
    ids::TurnId,
};
use tokio::time::Instant;

use super::{
    RecordDecoder, SessionConfig, SessionState,
    end::EndReason,
    io::{Input, Output},
};
use crate::{
    dialect::{Encoded, ProcessLifetime, ProcessStart},
    host::protocol::{Action, CommandHead, CommandMeaning},
};

/// Delay between a turn's end and [`Output::Idle`], in case another turn begins at once. Clients that wait for the
/// turn's end are served first.
const IDLE_AFTER: Duration = Duration::from_millis(50);

/// The id in the cancellation of a turn that the agent began by itself, whose id only the hub knows.
const AGENT_TURN: &str = "~agent";

/// The state machine of one agent instance.
#[derive(Debug)]
pub(crate) struct Session {
    config: SessionConfig,
    /// The agent's session that the first process resumes.
    session_to_resume: Option<String>,
    /// Whether processes can be started. Otherwise the instance waits for its first prompt.
    attached: bool,
    /// Whether the host is to be stopped as soon as no turn is open. Prompts that come later are held.
    retires: bool,
    /// The position of the last record from before this gateway. Commands wait until this record is decoded, because
    /// until then it is unknown which of them have been carried out.
    caught_up_at: u64,
    /// The turn for which an instance of an earlier gateway was taken over.
    adopted_turn: Option<TurnId>,
    /// Commands that have not been carried out.
    queue: VecDeque<AgentCommand>,
    /// A prompt that waits for a process.
    waiting: Option<AgentCommand>,
    /// The prompt that was sent to a process which was to resume a session. Another process gets it if it turns out
    /// that the session is unknown to the agent.
    prompt: Option<AgentCommand>,
    /// The turn whose prompt was sent last.
    sent: Option<TurnId>,
    /// The turn that was cancelled last because the log has lost it.
    interrupted: Option<TurnId>,
    /// The events of all records up to this position have been sent to the gateway.
    published: u64,
    /// Number of the last start that was commanded.
    commanded: u64,
    /// Number of the last start that has succeeded.
    succeeded: u64,
    /// Number of the last start whose process was ended because it does not know its session.
    dismissed: u64,
    was_open: bool,
    /// Whether the agent worked by itself at the last review.
    in_agent_turn: bool,
    /// When [`Output::Idle`] is due.
    idle_at: Option<Instant>,
    /// The time of the last input.
    reviewed: Option<Instant>,
    /// When a process that is not ready was first seen; `None` if the process is ready or there is none.
    began: Option<Instant>,
    /// When the last record of a process that is to resume a session and is not ready was first seen, and the record's
    /// position; `None` if there is no such process.
    resuming: Option<(u64, Instant)>,
    /// When a running process was first seen with closed output; `None` if its output is open.
    closed: Option<Instant>,
    ended: bool,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A new instance. `session_to_resume` is an id of the agent; `None` begins a new session.
    pub(crate) fn new(config: SessionConfig, session_to_resume: Option<String>) -> Self {
        Self {
            config,
            session_to_resume,
            attached: false,
            retires: false,
            caught_up_at: 0,
            adopted_turn: None,
            queue: VecDeque::new(),
            waiting: None,
            prompt: None,
            sent: None,
            interrupted: None,
            published: 0,
            commanded: 0,
            succeeded: 0,
            dismissed: 0,
            was_open: true,
            in_agent_turn: false,
            idle_at: None,
            reviewed: None,
            began: None,
            resuming: None,
            closed: None,
            ended: false,
            outputs: VecDeque::new(),
        }
    }

    /// Lets the instance start processes. The records up to position `caught_up_at`, or up to [`Self::caught_up`], are from
    /// before this gateway, which took the instance over for the turn `adopted_turn`.
    pub(crate) fn attach(&mut self, caught_up_at: u64, adopted_turn: Option<TurnId>) {
        self.attached = true;
        self.caught_up_at = caught_up_at;
        self.adopted_turn = adopted_turn;
        // The records may show that an earlier gateway has sent this prompt.
        self.sent = None;
        if let Some(prompt) = self.waiting.take() {
            self.queue.push_front(prompt);
        }
    }

    /// Notes that all records from before this gateway are decoded.
    pub(crate) fn caught_up(&mut self) {
        self.caught_up_at = 0;
    }

    /// Lets the instance end with the open turn, or at once if none is open.
    pub(crate) fn retire(&mut self) {
        self.retires = true;
    }

    pub(crate) fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// Whether a prompt waits and a process may be started for it.
    pub(crate) fn wants_process(&self, now: Instant) -> bool {
        self.waiting.is_some() && self.is_due(now)
    }

    /// Takes an input.
    pub(crate) fn handle(&mut self, now: Instant, input: Input, decoder: &mut RecordDecoder) {
        if self.ended {
            return;
        }
        self.reviewed = Some(now);
        match input {
            Input::Command(command) => self.queue.push_back(command),
            Input::Progress { published } => self.published = published,
            Input::Stop => {
                if let Some(turn_id) = self.open_turn(decoder.state()) {
                    self.send(&AgentCommand::Cancel { id: CommandId(0), turn_id }, decoder);
                }
                if decoder.works_in_background() {
                    let id = format!("stop{}", decoder.state().starts);
                    let end = Action::End { force: false };
                    self.command(id, end, CommandMeaning::Reply, Bytes::new());
                }
                return self.finish(Output::Stop);
            }
        }
        self.review(now, decoder);
    }

    /// The next thing to be done.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the next [`Input::Progress`] is due if no new records arrive. Actions that are overdue wait until records
    /// are sent.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let backoff = self.config.backoff.not_before().filter(|_| self.waiting.is_some());
        let start = self.began.map(|began| began + self.config.start);
        let resume = self.resuming.map(|(_, since)| since + self.config.resume);
        let closed = self.closed.map(|closed| closed + self.config.closed_output);
        let due = [backoff, start, resume, closed, self.idle_at].into_iter().flatten();
        due.filter(|due| self.reviewed.is_none_or(|reviewed| *due > reviewed)).min()
    }

    /// Reviews the state and takes all actions that are due.
    fn review(&mut self, now: Instant, decoder: &mut RecordDecoder) {
        let state = decoder.state();
        if state.position < self.caught_up_at {
            return;
        }
        if self.sent.is_none() {
            self.sent.clone_from(&state.prompted);
        }
        if let Some(reason) = self.end_reason(now, state) {
            // All events of the agent must be sent first.
            if self.published >= state.position {
                let end = self.config.end_for(now, reason, state);
                self.finish(Output::End(end));
            }
            return;
        }
        let open = state.in_turn() || self.sent != state.prompted;
        if self.retires && !open {
            if self.published >= state.position {
                let holds_prompt = self.queue.iter().any(|command| self.is_unsent_prompt(command, decoder));
                self.finish(Output::Retire { holds_prompt });
            }
            return;
        }
        if std::mem::replace(&mut self.was_open, open) && !open {
            self.idle_at = Some(now + IDLE_AFTER);
        }
        if !std::mem::replace(&mut self.in_agent_turn, state.agent_turn) && state.agent_turn {
            // A host that loses its gateway lets an agent in a turn run for longer.
            self.note(format!("a{}", state.position), true, CommandMeaning::Reply);
        }
        if !state.running && state.resume_failed() && state.turn_open && self.prompt.is_some() {
            // Before a cancel is carried out, which must not go to the process that is gone.
            self.waiting = self.prompt.take();
        }
        while let Some(command) = self.next_command(decoder) {
            self.obey(command, decoder);
        }
        if self.was_open {
            self.idle_at = None;
        } else if self.idle_at.take_if(|due| *due <= now).is_some() {
            self.outputs.push_back(Output::Idle);
        }
        match self.lifetime() {
            ProcessLifetime::Instance => self.review_process(now, decoder),
            ProcessLifetime::Prompt => self.review_prompt(now, decoder),
        }
    }

    /// Why the instance has ended, according to its records and to the deadlines.
    fn end_reason(&self, now: Instant, state: &SessionState) -> Option<EndReason> {
        let resumes = state.resumed && !state.ready;
        self.overdue(now, state).filter(|_| !resumes).or_else(|| state.end_reason(self.lifetime()))
    }

    /// The deadline that the running process has missed.
    fn overdue(&self, now: Instant, state: &SessionState) -> Option<EndReason> {
        let over = |since: Option<Instant>, longest| since.is_some_and(|since| since + longest <= now);
        if state.running && over(self.closed, self.config.closed_output) {
            return Some(EndReason::ClosedOutput);
        }
        let silent = self.resuming.filter(|(position, _)| *position == state.position);
        let late =
            over(self.began, self.config.start) || over(silent.map(|(_, since)| since), self.config.resume);
        (state.running && !state.ready && late).then_some(EndReason::NotReady)
    }

    /// Whether the running process cannot resume its session, so that it is to be ended.
    fn cannot_resume(&self, now: Instant, state: &SessionState) -> bool {
        let resumes = state.resumed && !state.ready;
        state.running && (state.unknown_session || resumes && self.overdue(now, state).is_some())
    }

    /// The next command, unless it is a prompt and the agent is in another turn. The log has lost that turn, so it is
    /// cancelled first.
    fn next_command(&mut self, decoder: &mut RecordDecoder) -> Option<AgentCommand> {
        while let Some(AgentCommand::Prompt { turn_id, .. }) = self.queue.front() {
            if self.has_ended(turn_id, decoder) {
                self.queue.pop_front();
                continue;
            }
            decoder.pass_only(Some(turn_id.clone()));
            let state = decoder.state();
            if let Some(lost) = state.prompted.clone().filter(|open| state.turn_open && open != turn_id) {
                if self.interrupted.replace(lost.clone()).as_ref() != Some(&lost) {
                    self.send(&AgentCommand::Cancel { id: CommandId(0), turn_id: lost }, decoder);
                }
                return None;
            }
            break;
        }
        self.queue.pop_front()
    }

    /// Whether the records contain the end of this turn, for which the instance was taken over.
    fn has_ended(&self, turn: &TurnId, decoder: &RecordDecoder) -> bool {
        self.adopted_turn.as_ref() == Some(turn) && !decoder.passes(turn)
    }

    /// Whether a command is a prompt that no process has.
    fn is_unsent_prompt(&self, command: &AgentCommand, decoder: &RecordDecoder) -> bool {
        matches!(command, AgentCommand::Prompt { turn_id, .. }
            if self.sent.as_ref() != Some(turn_id) && !self.has_ended(turn_id, decoder))
    }

    /// Carries out a command, unless the records show that it has been carried out.
    fn obey(&mut self, command: AgentCommand, decoder: &RecordDecoder) {
        let state = decoder.state();
        match &command {
            AgentCommand::Prompt { turn_id, .. } => {
                let known = self.sent.as_ref() == Some(turn_id);
                // The process that got the prompt of the open turn could not resume its session.
                let lost = known && state.turn_open && (state.unsent || state.resume_failed());
                if known && !lost {
                    self.prompt = state.resumed.then_some(command);
                } else if state.ready && state.running && self.lifetime() == ProcessLifetime::Instance {
                    self.send(&command, decoder);
                } else {
                    self.waiting = Some(command);
                }
            }
            AgentCommand::Cancel { id, turn_id } => {
                let waits = matches!(&self.waiting, Some(AgentCommand::Prompt { turn_id: waits, .. }) if waits == turn_id);
                let on_its_way =
                    self.sent.as_ref() == Some(turn_id) && state.prompted.as_ref() != Some(turn_id);
                let is_prompted = state.prompted.as_ref() == Some(turn_id);
                let open =
                    if is_prompted { state.turn_open } else { state.agent_turn || self.is_alone(state) };
                if waits {
                    self.waiting = None;
                    self.cancel_unsent(*id, turn_id);
                } else if on_its_way || open {
                    self.send(&command, decoder);
                }
                // Otherwise the turn's end is about to be decoded; an interrupt could only stop a prompt's turn.
            }
            AgentCommand::Answer { .. } => self.send(&command, decoder),
        }
    }

    /// Whether the process has no prompt to work on, nor will get one before the next command. An interrupt then reaches
    /// nothing but work of the agent's own, of which the codec may know nothing.
    fn is_alone(&self, state: &SessionState) -> bool {
        let prompted = state.turn_open || self.sent != state.prompted || self.waiting.is_some();
        state.running && state.ready && !prompted
    }

    /// Notes that a turn is cancelled whose prompt no process has. The host may know the ids of the turn's prompt and
    /// cancel, which were written to an earlier process, and takes a command with a known id for a repeat.
    fn cancel_unsent(&mut self, id: CommandId, turn: &TurnId) {
        self.sent = Some(turn.clone());
        self.was_open = true;
        self.note(format!("v{}:{turn}", id.0), false, CommandMeaning::Void { turn: turn.as_str().into() });
    }

    /// Sends a command to the process, if the dialect has something to send for it.
    fn send(&mut self, command: &AgentCommand, decoder: &RecordDecoder) {
        let state = decoder.state();
        let mut again = String::new();
        let (subject, meaning) = match command {
            AgentCommand::Prompt { turn_id, .. } => {
                self.prompt = state.resumed.then(|| command.clone());
                if state.unsent && state.prompted.as_ref() == Some(turn_id) {
                    // A host takes a command whose id it knows for a repeat.
                    again = format!(".{}", state.starts);
                }
                self.sent = Some(turn_id.clone());
                self.was_open = true;
                (turn_id.as_str(), CommandMeaning::Prompt { turn: turn_id.as_str().into() })
            }
            AgentCommand::Cancel { turn_id, .. } => {
                (turn_id.as_str(), CommandMeaning::Cancel { turn: turn_id.as_str().into() })
            }
            AgentCommand::Answer { request_id, .. } => {
                (request_id.as_str(), CommandMeaning::Answer { request: request_id.as_str().into() })
            }
        };
        let id = format!("c{}:{subject}{again}", command.id().0);
        match decoder.encode(command) {
            Encoded::Nothing => {}
            Encoded::Write(bytes) => self.command(id, Action::Write, meaning, bytes.into()),
            Encoded::Terminate => self.command(id, Action::End { force: false }, meaning, Bytes::new()),
        }
    }

    /// Starts a process that serves all turns, sees it through its handshake, and sends it the first prompt.
    fn review_process(&mut self, now: Instant, decoder: &RecordDecoder) {
        let state = decoder.state();
        self.began = (state.running && !state.ready).then(|| self.began.unwrap_or(now));
        self.closed = (state.running && state.closed).then(|| self.closed.unwrap_or(now));
        self.resuming = (state.running && state.resumed && !state.ready).then(|| {
            let same = self.resuming.filter(|(position, _)| *position == state.position);
            same.unwrap_or((state.position, now))
        });
        if self.cannot_resume(now, state) {
            if std::mem::replace(&mut self.dismissed, state.starts) != state.starts {
                let end = Action::End { force: true };
                self.command(format!("end{}", state.starts), end, CommandMeaning::Reply, Bytes::new());
            }
        } else if state.running && state.ready {
            self.start_succeeded(state);
            match self.waiting.take() {
                Some(AgentCommand::Prompt { id, turn_id, .. }) if state.unsent && state.cancelled => {
                    self.cancel_unsent(id, &turn_id);
                }
                Some(prompt) => self.send(&prompt, decoder),
                None => {}
            }
        } else if !state.running && self.may_start(now, state) {
            // The first start, or the second one, without the session that the agent could not resume.
            let session = self.session_to_resume.clone().filter(|_| state.starts == 0);
            if state.starts > 0 {
                let agent = &self.config.agent;
                tracing::warn!(agent, "the agent could not resume its session; it begins a new one");
            }
            let ProcessStart { arguments, input } = self.config.dialect.start(session.as_deref());
            self.commanded = state.starts + 1;
            let start = Action::Start { further: arguments, close: false };
            let meaning = CommandMeaning::Start { session };
            self.command(format!("start{}", self.commanded), start, meaning, input.into());
        }
    }

    /// Starts a process for the prompt that waits.
    fn review_prompt(&mut self, now: Instant, decoder: &RecordDecoder) {
        let state = decoder.state();
        if state.exited.is_some() {
            self.start_succeeded(state);
        }
        if state.running || self.sent != state.prompted || !self.may_start(now, state) {
            return;
        }
        let Some(prompt) = self.waiting.take() else { return };
        let AgentCommand::Prompt { id, turn_id, .. } = &prompt else { return };
        let ProcessStart { arguments, mut input } = self.config.dialect.start(None);
        if let Encoded::Write(bytes) = decoder.encode(&prompt) {
            input.extend_from_slice(&bytes);
        }
        self.commanded = state.starts + 1;
        self.sent = Some(turn_id.clone());
        self.was_open = true;
        let start = Action::Start { further: arguments, close: true };
        let meaning = CommandMeaning::Prompt { turn: turn_id.as_str().into() };
        self.command(format!("c{}:{turn_id}", id.0), start, meaning, input.into());
    }

    /// Whether a process is to be started now: a prompt waits, no start is on its way, and no backoff is under way.
    fn may_start(&self, now: Instant, state: &SessionState) -> bool {
        self.attached && self.commanded <= state.starts && self.wants_process(now)
    }

    /// Notes that the last start has succeeded, which ends the delays, if this instance commanded it.
    fn start_succeeded(&mut self, state: &SessionState) {
        if std::mem::replace(&mut self.succeeded, state.starts) != state.starts
            && self.commanded == state.starts
        {
            self.config.backoff.succeeded();
        }
    }

    /// Whether the backoff after failed starts is over.
    fn is_due(&self, now: Instant) -> bool {
        self.config.backoff.not_before().is_none_or(|due| due <= now)
    }

    fn lifetime(&self) -> ProcessLifetime {
        self.config.dialect.lifetime()
    }

    /// The open turn, including a turn whose prompt was sent and has not come back as a record. A turn of the agent's
    /// own gets an id that only names it in the command.
    fn open_turn(&self, state: &SessionState) -> Option<TurnId> {
        if self.sent.is_some() && self.sent != state.prompted {
            return self.sent.clone();
        }
        let prompted = state.prompted.clone().filter(|_| state.turn_open);
        prompted.or_else(|| state.agent_turn.then(|| TurnId::parse(AGENT_TURN).ok()).flatten())
    }

    /// Records something of which the process learns nothing.
    fn note(&mut self, id: String, opens_turn: bool, meaning: CommandMeaning) {
        let head = CommandHead { id, action: Action::Note, opens_turn, meaning };
        self.outputs.push_back(Output::Command { head, bytes: Bytes::new() });
    }

    fn command(&mut self, id: String, action: Action, meaning: CommandMeaning, bytes: Bytes) {
        let opens_turn = matches!(meaning, CommandMeaning::Prompt { .. });
        let head = CommandHead { id, action, opens_turn, meaning };
        self.outputs.push_back(Output::Command { head, bytes });
    }

    fn finish(&mut self, output: Output) {
        self.ended = true;
        self.outputs.push_back(output);
    }
}
