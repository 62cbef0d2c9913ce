//! Writes the changes of an append, each by one or a few statements.

use rusqlite::Connection;
use switchboard_core::{
    agent::{AgentCommand, CommandId},
    ids::TurnId,
    journal::{Append, Change, OpenAgentTurn, OpenWork},
    wire::Outcome,
};

use super::{column::int, sql::write};

/// The command that the change adds.
pub(super) fn command_of(change: &Change) -> Option<&AgentCommand> {
    if let Change::Command { command } = change { Some(command) } else { None }
}

/// Writes a change of a chat. `chat` is the id of the chat's row, `epoch_no` the number of its epoch.
pub(super) fn change(
    db: &Connection,
    chat: i64,
    epoch_no: i64,
    append: &Append,
    change: &Change,
) -> rusqlite::Result<()> {
    let at = int(append.at_ms);
    match change {
        Change::TurnAccepted { .. } => accept(db, chat, epoch_no, append, change)?,
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
        Change::AgentStarted { instance } => {
            db.prepare_cached(write::START_AGENT)?.execute((chat, instance.0.cast_signed()))?;
            db.prepare_cached(write::DROP_CHECKPOINT)?.execute([chat])?;
        }
        Change::AgentEnded { instance } => {
            if db.prepare_cached(write::END_AGENT)?.execute((chat, instance.0.cast_signed()))? > 0 {
                db.prepare_cached(write::DROP_CHECKPOINT)?.execute([chat])?;
            }
        }
        Change::AgentPosition { instance, position, checkpoint } => {
            let (instance, position) = (instance.0.cast_signed(), position.cast_signed());
            let moved = db.prepare_cached(write::MOVE_AGENT)?.execute((chat, instance, position))?;
            if let Some(state) = checkpoint.as_ref().filter(|_| moved > 0) {
                db.prepare_cached(write::SET_CHECKPOINT)?.execute((chat, position, &state[..]))?;
            }
        }
        Change::AgentTurn { turn } => agent_turn(db, chat, turn.as_ref())?,
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

fn accept(
    db: &Connection,
    chat: i64,
    epoch_no: i64,
    append: &Append,
    change: &Change,
) -> rusqlite::Result<()> {
    let Change::TurnAccepted { turn_id, hash, seq, text, starts_turn } = change else { return Ok(()) };
    let at = int(append.at_ms);
    let started = starts(append, turn_id).then_some(at);
    let prompt = prompt(append, turn_id, text).map(|id| int(id.0));
    let (turn_id, hash, seq) = (turn_id.as_str(), &hash[..], int(*seq));
    let row = (chat, turn_id, hash, epoch_no, seq, starts_turn, at, text, started, prompt);
    db.prepare_cached(write::ADD_TURN)?.execute(row)?;
    Ok(())
}

fn agent_turn(db: &Connection, chat: i64, turn: Option<&OpenAgentTurn>) -> rusqlite::Result<()> {
    let mut set = db.prepare_cached(write::SET_AGENT_TURN)?;
    if let Some(turn) = turn {
        set.execute((chat, json(turn)?))?;
        return Ok(());
    }
    let ended: Option<String> =
        db.prepare_cached(write::AGENT_TURN_ID)?.query_row([chat], |row| row.get(0))?;
    set.execute((chat, None::<String>))?;
    ended.map_or(Ok(()), |turn_id| drop_commands(db, chat, &turn_id))
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

fn end_turn(db: &Connection, chat: i64, at: i64, turn_id: &str, outcome: Outcome) -> rusqlite::Result<()> {
    let started: bool =
        db.prepare_cached(write::TURN_HAS_STARTED)?.query_row((chat, turn_id), |row| row.get(0))?;
    db.prepare_cached(write::END_TURN)?.execute((chat, turn_id, outcome_name(outcome), at))?;
    if started {
        drop_commands(db, chat, turn_id)?;
    }
    Ok(())
}

/// Drops the commands of a turn that has ended. Answers belong to no turn and go with the last one that runs.
fn drop_commands(db: &Connection, chat: i64, turn_id: &str) -> rusqlite::Result<()> {
    if db.prepare_cached(write::A_TURN_RUNS)?.query_row([chat], |row| row.get(0))? {
        db.prepare_cached(write::DROP_TURN_COMMANDS)?.execute((chat, turn_id))?;
    } else {
        db.prepare_cached(write::DROP_COMMANDS)?.execute([chat])?;
    }
    Ok(())
}

fn add_command(db: &Connection, chat: i64, append: &Append, command: &AgentCommand) -> rusqlite::Result<()> {
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

fn open_work(work: &OpenWork) -> rusqlite::Result<Option<String>> {
    if work.is_empty() { Ok(None) } else { json(work).map(Some) }
}

fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Cancelled => "cancelled",
        Outcome::Failed => "failed",
        Outcome::Interrupted => "interrupted",
    }
}
