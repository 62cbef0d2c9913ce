//! Applies one append within a transaction.

use std::fmt;

use rusqlite::{Connection, OptionalExtension as _};
use rustc_hash::FxHashMap;
use switchboard_core::{
    agent::{AgentCommand, AgentInstanceId, CommandId},
    ids::{ChatKey, Epoch, TurnId},
    journal::{Append, Change, OpenWork},
    wire::Outcome,
};

use super::{column::int, erase, error::is_damage, meta::JournalState, sql::write};

/// How many chats' rows the writer caches.
const CACHED_ROWS: usize = 8192;

/// Why an append is not applied.
#[derive(Debug)]
pub(super) enum NotApplied {
    /// The append contradicts the contents of the journal.
    Contradiction(&'static str),
    /// The chat needs a new epoch first.
    Stale,
    /// SQLite failed.
    Sql(rusqlite::Error),
}

impl fmt::Display for NotApplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contradiction(what) => f.write_str(what),
            Self::Stale => f.write_str("the chat needs a new epoch first"),
            Self::Sql(error) => error.fmt(f),
        }
    }
}

impl From<rusqlite::Error> for NotApplied {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// The row of a chat, as far as appends need it.
#[derive(Debug, Clone, Copy)]
struct ChatRow {
    id: i64,
    epoch_no: i64,
    head: i64,
    generation: i64,
    /// The time of the last activity, in milliseconds since 1970.
    updated_at: i64,
    /// The id of the chat's agent instance.
    agent_instance: Option<i64>,
    /// The agent's position, if only the newest event has it and the chat's row does not.
    ahead: Option<i64>,
}

/// The rows of chats, cached between transactions, so that not every append has to look them up.
#[derive(Debug, Default)]
pub(super) struct ChatRows(FxHashMap<ChatKey, ChatRow>);

impl ChatRows {
    /// Clears the cache, after a transaction was rolled back.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    fn forget_chat(&mut self, chat: &ChatKey) {
        self.0.remove(chat);
    }

    fn row(&mut self, db: &Connection, chat: &ChatKey) -> rusqlite::Result<Option<ChatRow>> {
        if let Some(known) = self.0.get(chat) {
            return Ok(Some(*known));
        }
        db.prepare_cached(write::FIND_CHAT)?
            .query_row((chat.principal.as_str(), chat.chat.as_str()), |row| {
                Ok(ChatRow {
                    id: row.get(0)?,
                    epoch_no: row.get(1)?,
                    head: row.get(2)?,
                    generation: row.get(3)?,
                    updated_at: row.get(4)?,
                    agent_instance: row.get(5)?,
                    ahead: row.get(6)?,
                })
            })
            .optional()
    }

    fn store(&mut self, chat: &ChatKey, chat_row: ChatRow) {
        if let Some(known) = self.0.get_mut(chat) {
            *known = chat_row;
            return;
        }
        if self.0.len() >= CACHED_ROWS {
            self.0.clear();
        }
        self.0.insert(chat.clone(), chat_row);
    }
}

/// Applies one append, and returns the chat's row id. After an error the transaction must be rolled back. Each event
/// increases the commit count by one, and the new count is the event's id, so the newest event's id is the journal's
/// commit count.
pub(super) fn append(
    db: &Connection,
    chat_rows: &mut ChatRows,
    state: &mut JournalState,
    append: &Append,
) -> Result<i64, NotApplied> {
    let generation = state.generation;
    let mut chat_row = match (chat_rows.row(db, &append.chat)?, &append.create) {
        (Some(chat_row), _) => chat_row,
        (None, Some(_)) if is_deleted(db, &append.chat)? => {
            return Err(NotApplied::Contradiction("the chat was deleted"));
        }
        (None, Some(epoch)) => create(db, &append.chat, epoch, generation, int(append.at_ms))?,
        (None, None) => return Err(NotApplied::Contradiction("there is no such chat")),
    };
    if chat_row.generation < generation {
        return Err(NotApplied::Stale);
    }
    let deltas = delta_changes(append, chat_row);
    if deltas.is_none() {
        update_row(db, &mut chat_row)?;
    }
    add_events(db, &mut chat_row, state, append, deltas.as_ref())?;
    if let Some(DeltaChanges { position, work }) = deltas {
        if let Some(work) = work {
            chat_row.ahead = None;
            let row = (chat_row.id, chat_row.head, position, open_work(work)?);
            db.prepare_cached(write::MOVE_HEAD_AND_WORK)?.execute(row)?;
        } else {
            chat_row.ahead = Some(position);
        }
        chat_rows.store(&append.chat, chat_row);
        return Ok(chat_row.id);
    }
    move_head(db, &mut chat_row, append)?;
    for one in &append.changes {
        change(db, &mut chat_row, append, one)?;
    }
    if append.changes.contains(&Change::Deleted) {
        delete(db, &append.chat, chat_row.id)?;
        chat_rows.forget_chat(&append.chat);
    } else {
        chat_rows.store(&append.chat, chat_row);
    }
    Ok(chat_row.id)
}

/// Adds the events of an append, the last one with the agent's position if nothing but that changes.
fn add_events(
    db: &Connection,
    chat_row: &mut ChatRow,
    state: &mut JournalState,
    append: &Append,
    deltas: Option<&DeltaChanges<'_>>,
) -> Result<(), NotApplied> {
    let Some(last) = append.events.last() else { return Ok(()) };
    let mut add = db.prepare_cached(write::ADD_EVENT)?;
    for event in &append.events {
        let first = int(event.first_seq);
        if first != chat_row.head + 1 {
            return Err(NotApplied::Contradiction("it does not follow the chat's last event"));
        }
        chat_row.head = int(event.seq);
        let sum = crc32fast::hash(event.frame.bytes());
        state.commits += 1;
        let (id, frame) = (int(state.commits), event.frame.as_str());
        let moved = deltas.filter(|deltas| deltas.work.is_none() && event.seq == last.seq);
        let position = moved.map(|deltas| deltas.position);
        add.execute((id, chat_row.id, chat_row.epoch_no, chat_row.head, first, sum, frame, position))?;
    }
    Ok(())
}

/// Moves the head, the last activity and the last command in the chat's row.
fn move_head(db: &Connection, chat_row: &mut ChatRow, append: &Append) -> Result<(), NotApplied> {
    if append.is_activity() {
        let second = chat_row.updated_at / 1000;
        chat_row.updated_at = chat_row.updated_at.max(int(append.at_ms));
        let row = (chat_row.id, chat_row.head, chat_row.updated_at, last_command(append));
        db.prepare_cached(write::MOVE_HEAD_AT)?.execute(row)?;
        if chat_row.updated_at / 1000 != second {
            db.prepare_cached(write::MOVE_SECOND)?.execute((chat_row.id, chat_row.updated_at / 1000))?;
        }
        return Ok(());
    }
    if !append.events.is_empty() {
        db.prepare_cached(write::MOVE_HEAD)?.execute((chat_row.id, chat_row.head))?;
    }
    if last_command(append) > 0 {
        db.prepare_cached(write::RAISE_COMMAND)?.execute((chat_row.id, last_command(append)))?;
    }
    Ok(())
}

/// The changes of an append of events that are no activity, such as deltas, if they are only the agent's position and
/// the open work.
struct DeltaChanges<'a> {
    /// The position of the chat's agent. If this is the only change, it goes into the row of the last event, and the
    /// chat's row is not written.
    position: i64,
    /// The open work from this append on, if it changes.
    work: Option<&'a OpenWork>,
}

fn delta_changes(append: &Append, chat_row: ChatRow) -> Option<DeltaChanges<'_>> {
    let (work, rest) = match &append.changes[..] {
        [Change::OpenWork { work }, rest @ ..] => (Some(work), rest),
        rest => (None, rest),
    };
    let [Change::AgentPosition { instance, position, checkpoint: None }] = rest else { return None };
    let of_deltas = !append.events.is_empty() && !append.is_activity();
    let position = position.cast_signed();
    (of_deltas && chat_row.agent_instance == Some(instance.0.cast_signed()))
        .then_some(DeltaChanges { position, work })
}

/// Brings the chat's row up to date with its events.
fn update_row(db: &Connection, chat_row: &mut ChatRow) -> rusqlite::Result<()> {
    if let Some(position) = chat_row.ahead.take() {
        db.prepare_cached(write::UPDATE_ROW)?.execute((chat_row.id, chat_row.head, position))?;
    }
    Ok(())
}

/// The highest id of a command in the append; 0: it has no command.
fn last_command(append: &Append) -> i64 {
    append.changes.iter().filter_map(command_of).map(|command| int(command.id().0)).max().unwrap_or(0)
}

fn command_of(change: &Change) -> Option<&AgentCommand> {
    if let Change::Command { command } = change { Some(command) } else { None }
}

/// Hides a chat; all rows of a small chat are removed at once.
fn delete(db: &Connection, chat: &ChatKey, id: i64) -> rusqlite::Result<()> {
    erase::hide(db, id)?;
    match erase::some(db, id) {
        // The chat is hidden all the same; rows that cannot be removed stay in the file.
        Err(error) if is_damage(&error) => tracing::error!(%error, "a damaged chat cannot be erased whole"),
        erased => {
            erased?;
        }
    }
    db.prepare_cached(write::ADD_DELETED)?.execute([&chat.hash()[..]])?;
    Ok(())
}

fn is_deleted(db: &Connection, chat: &ChatKey) -> rusqlite::Result<bool> {
    db.prepare_cached(write::IS_DELETED)?.query_row([&chat.hash()[..]], |row| row.get(0))
}

/// Begins a new epoch, if the chat's epoch belongs to an earlier generation. Returns whether it did.
pub(super) fn reset_epoch(
    db: &Connection,
    chat_rows: &mut ChatRows,
    generation: i64,
    chat: &ChatKey,
    epoch: &Epoch,
    at: i64,
) -> Result<bool, NotApplied> {
    let Some(mut chat_row) = chat_rows.row(db, chat)?.filter(|chat_row| chat_row.generation < generation)
    else {
        return Ok(false);
    };
    update_row(db, &mut chat_row)?;
    chat_row = ChatRow { epoch_no: chat_row.epoch_no + 1, head: 0, generation, ..chat_row };
    db.prepare_cached(write::ADD_EPOCH)?.execute((chat_row.id, chat_row.epoch_no, epoch.as_str(), at))?;
    db.prepare_cached(write::RESET_EPOCH)?.execute((chat_row.id, chat_row.epoch_no, generation))?;
    chat_rows.store(chat, chat_row);
    Ok(true)
}

fn create(
    db: &Connection,
    chat: &ChatKey,
    epoch: &Epoch,
    generation: i64,
    at: i64,
) -> Result<ChatRow, NotApplied> {
    db.prepare_cached(write::ADD_CHAT)?.execute((
        chat.principal.as_str(),
        chat.chat.as_str(),
        generation,
        at,
    ))?;
    let id = db.last_insert_rowid();
    db.prepare_cached(write::ADD_EPOCH)?.execute((id, 1, epoch.as_str(), at))?;
    Ok(ChatRow { id, epoch_no: 1, head: 0, generation, updated_at: 0, agent_instance: None, ahead: None })
}

fn change(
    db: &Connection,
    chat_row: &mut ChatRow,
    append: &Append,
    change: &Change,
) -> Result<(), NotApplied> {
    let (chat, at) = (chat_row.id, int(append.at_ms));
    match change {
        Change::TurnAccepted { turn_id, hash, seq, text, starts_turn } => {
            let started = starts(append, turn_id).then_some(at);
            let prompt = prompt(append, turn_id, text).map(|id| int(id.0));
            let (turn_id, hash, seq) = (turn_id.as_str(), &hash[..], int(*seq));
            let row = (chat, turn_id, hash, chat_row.epoch_no, seq, starts_turn, at, text, started, prompt);
            db.prepare_cached(write::ADD_TURN)?.execute(row)?;
        }
        // The row of the turn was inserted as running.
        Change::TurnStarted { turn_id } if accepted(append, turn_id).is_some() => {}
        Change::TurnStarted { turn_id } => {
            db.prepare_cached(write::START_TURN)?.execute((chat, turn_id.as_str(), at))?;
        }
        Change::CancelRequested { turn_id, reason } => {
            let reason = reason.as_ref().map(json).transpose()?;
            db.prepare_cached(write::CANCEL_TURN)?.execute((chat, turn_id.as_str(), reason))?;
        }
        Change::TurnEnded { turn_id, outcome } => end_turn(db, chat, at, turn_id.as_str(), *outcome)?,
        Change::RequestOpened { request_id, agent_request_id, last_request, question, input, frame } => {
            let (id, agent_id) = (request_id.as_str(), agent_request_id.as_str());
            let row = (chat, id, question, frame.as_str(), agent_id, input.as_deref());
            db.prepare_cached(write::ADD_REQUEST)?.execute(row)?;
            db.prepare_cached(write::RAISE_REQUEST)?.execute((chat, int(*last_request)))?;
        }
        Change::RequestClosed { request_id } => {
            db.prepare_cached(write::DROP_REQUEST)?.execute((chat, request_id.as_str()))?;
        }
        Change::Command { command } => add_command(db, chat, append, command)?,
        Change::AgentStarted { instance } => start_agent(db, chat_row, *instance)?,
        Change::AgentEnded { instance } => end_agent(db, chat_row, *instance)?,
        Change::AgentPosition { instance, position, checkpoint } => {
            move_agent(db, chat, *instance, *position, checkpoint.as_deref())?;
        }
        Change::AgentTurn { turn: Some(turn) } => {
            db.prepare_cached(write::SET_AGENT_TURN)?.execute((chat, json(turn)?))?;
        }
        Change::AgentTurn { turn: None } => end_agent_turn(db, chat)?,
        Change::Tasks { tasks } => {
            let tasks = if tasks.is_empty() { None } else { Some(json(tasks)?) };
            db.prepare_cached(write::SET_TASKS)?.execute((chat, tasks))?;
        }
        Change::OpenWork { work } => {
            db.prepare_cached(write::SET_OPEN_WORK)?.execute((chat, open_work(work)?))?;
        }
        Change::Session { token } => {
            db.prepare_cached(write::SET_SESSION)?.execute((chat, token))?;
        }
        Change::Title { title } => {
            db.prepare_cached(write::SET_TITLE)?.execute((chat, title))?;
        }
        Change::Goal { goal_state } => {
            db.prepare_cached(write::SET_GOAL)?.execute((chat, json(goal_state)?))?;
        }
        // Applied after all other changes.
        Change::Deleted => {}
    }
    Ok(())
}

/// The text of the turn, if this append accepts the turn.
fn accepted<'a>(append: &'a Append, turn: &TurnId) -> Option<&'a str> {
    append.changes.iter().find_map(|change| {
        if let Change::TurnAccepted { turn_id, text, .. } = change {
            (turn_id == turn).then_some(text.as_str())
        } else {
            None
        }
    })
}

/// Whether this append starts the turn.
fn starts(append: &Append, turn: &TurnId) -> bool {
    append.changes.iter().any(|change| matches!(change, Change::TurnStarted { turn_id } if turn_id == turn))
}

/// The id of the prompt for this turn and text, if this append contains both the prompt and the start of the turn.
fn prompt(append: &Append, turn: &TurnId, content: &str) -> Option<CommandId> {
    let is_it = |command: &&AgentCommand| matches!(command, AgentCommand::Prompt { turn_id, text, .. } if turn_id == turn && text == content);
    let found = append.changes.iter().filter_map(command_of).find(is_it)?;
    starts(append, turn).then(|| found.id())
}

fn end_turn(db: &Connection, chat: i64, at: i64, turn_id: &str, outcome: Outcome) -> Result<(), NotApplied> {
    let started: Option<bool> = db
        .prepare_cached(write::TURN_HAS_STARTED)?
        .query_row((chat, turn_id), |row| row.get(0))
        .optional()?;
    let Some(started) = started else { return Err(NotApplied::Contradiction("no such turn is open")) };
    db.prepare_cached(write::END_TURN)?.execute((chat, turn_id, outcome_name(outcome), at))?;
    if started {
        drop_commands(db, chat, turn_id)?;
    }
    Ok(())
}

fn start_agent(db: &Connection, chat_row: &mut ChatRow, instance: AgentInstanceId) -> Result<(), NotApplied> {
    let instance = instance.0.cast_signed();
    chat_row.agent_instance = Some(instance);
    db.prepare_cached(write::START_AGENT)?.execute((chat_row.id, instance))?;
    db.prepare_cached(write::DROP_CHECKPOINT)?.execute([chat_row.id])?;
    Ok(())
}

fn end_agent(db: &Connection, chat_row: &mut ChatRow, instance: AgentInstanceId) -> Result<(), NotApplied> {
    let instance = instance.0.cast_signed();
    chat_row.agent_instance.take_if(|present| *present == instance);
    if db.prepare_cached(write::END_AGENT)?.execute((chat_row.id, instance))? > 0 {
        db.prepare_cached(write::DROP_CHECKPOINT)?.execute([chat_row.id])?;
    }
    Ok(())
}

fn move_agent(
    db: &Connection,
    chat: i64,
    instance: AgentInstanceId,
    position: u64,
    checkpoint: Option<&[u8]>,
) -> Result<(), NotApplied> {
    let (instance, position) = (instance.0.cast_signed(), position.cast_signed());
    let moved = db.prepare_cached(write::MOVE_AGENT)?.execute((chat, instance, position))?;
    if let Some(state) = checkpoint.filter(|_| moved > 0) {
        db.prepare_cached(write::SET_CHECKPOINT)?.execute((chat, position, state))?;
    }
    Ok(())
}

fn end_agent_turn(db: &Connection, chat: i64) -> Result<(), NotApplied> {
    let ended: Option<String> =
        db.prepare_cached(write::AGENT_TURN_ID)?.query_row([chat], |row| row.get(0))?;
    db.prepare_cached(write::SET_AGENT_TURN)?.execute((chat, None::<String>))?;
    if let Some(turn_id) = ended {
        drop_commands(db, chat, &turn_id)?;
    }
    Ok(())
}

/// Drops the commands of a turn that has ended. Answers belong to no turn and go with the last one that runs.
fn drop_commands(db: &Connection, chat: i64, turn_id: &str) -> Result<(), NotApplied> {
    if db.prepare_cached(write::A_TURN_RUNS)?.query_row([chat], |row| row.get(0))? {
        db.prepare_cached(write::DROP_TURN_COMMANDS)?.execute((chat, turn_id))?;
    } else {
        db.prepare_cached(write::DROP_COMMANDS)?.execute([chat])?;
    }
    Ok(())
}

fn add_command(
    db: &Connection,
    chat: i64,
    append: &Append,
    command: &AgentCommand,
) -> Result<(), NotApplied> {
    let id = int(command.id().0);
    let mut add = db.prepare_cached(write::ADD_COMMAND)?;
    match command {
        AgentCommand::Prompt { turn_id, text, .. } => {
            // The row of the turn already contains the text.
            let added = accepted(append, turn_id)
                .is_some_and(|text| prompt(append, turn_id, text) == Some(command.id()));
            let row = (chat, turn_id.as_str(), id, text, starts(append, turn_id));
            if !added && db.prepare_cached(write::PROMPT_TURN)?.execute(row)? == 0 {
                add.execute((chat, id, "prompt", turn_id.as_str(), Some(text)))?;
            }
        }
        AgentCommand::Cancel { turn_id, .. } => {
            add.execute((chat, id, "cancel", turn_id.as_str(), None::<String>))?;
        }
        AgentCommand::Answer { request_id, answer, .. } => {
            add.execute((chat, id, "answer", request_id.as_str(), Some(json(answer)?)))?;
        }
    }
    Ok(())
}

fn open_work(work: &OpenWork) -> Result<Option<String>, NotApplied> {
    if work.is_empty() { Ok(None) } else { json(work).map(Some) }
}

fn json(value: &impl serde::Serialize) -> Result<String, NotApplied> {
    serde_json::to_string(value).map_err(|_| NotApplied::Contradiction("it cannot be encoded"))
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Cancelled => "cancelled",
        Outcome::Failed => "failed",
        Outcome::Interrupted => "interrupted",
    }
}
