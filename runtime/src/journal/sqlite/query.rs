//! Answers questions, each in one transaction.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row};
use switchboard_core::{
    agent::{AgentCommand, AgentInstanceId, CommandId},
    ids::{ChatId, ChatKey, Cursor, Epoch, Principal, RequestId, TurnId},
    journal::{
        ChatRecord, ChatsPage, CompactedDelta, Found, HistoryPage, LogEvent, OpenRequest, OpenTurn,
        PageBuilder, PageStart, Query, RecordedAgent, TurnRecord, Version,
    },
    wire::ChatSummary,
};

use super::{
    column::{damaged, event_frame, frame, id, int, json, lengths_of, unsigned},
    sql::read,
};

/// The result of reading.
#[derive(Debug)]
pub(super) enum Read {
    /// The answer.
    Found(Found),
    /// The chat needs a new epoch first.
    Stale,
}

/// Reads the answer. A chat of an older generation than `generation`, which is the journal's, is stale.
pub(super) fn read(db: &mut Connection, generation: i64, query: &Query) -> rusqlite::Result<Read> {
    // One transaction, so that all parts of an answer are consistent.
    let db = db.transaction()?;
    let found = match query {
        Query::Chat { chat, .. } => return chat_record(&db, generation, chat),
        Query::Turn { chat, turn_id } => Found::Turn(turn(&db, chat, turn_id)?),
        Query::After { chat, after, bytes } => Found::After(after_page(&db, chat, after, *bytes)?),
        Query::Before { chat, before, events, bytes } => {
            Found::Before(before_page(&db, chat, before, *events, *bytes)?)
        }
        Query::Chats { principal, before, limit } => {
            Found::Chats(chats_page(&db, principal, before.as_deref(), *limit)?)
        }
    };
    Ok(Read::Found(found))
}

struct ChatRow {
    id: i64,
    generation: i64,
    epoch: Epoch,
    epoch_no: i64,
}

fn chat_row(row: &Row<'_>) -> rusqlite::Result<ChatRow> {
    Ok(ChatRow {
        id: row.get(0)?,
        generation: row.get(1)?,
        epoch: id(row, 2, Epoch::parse)?,
        epoch_no: row.get(3)?,
    })
}

fn find(db: &Connection, chat: &ChatKey) -> rusqlite::Result<Option<ChatRow>> {
    db.prepare_cached(read::EPOCH)?
        .query_row((chat.principal.as_str(), chat.chat.as_str()), chat_row)
        .optional()
}

fn chat_record(db: &Connection, generation: i64, chat: &ChatKey) -> rusqlite::Result<Read> {
    let found = db
        .prepare_cached(read::CHAT)?
        .query_row((chat.principal.as_str(), chat.chat.as_str()), |row| {
            Ok((chat_row(row)?, own_columns(row, chat)?))
        })
        .optional()?;
    let Some((row, mut record)) = found else {
        let deleted: bool =
            db.prepare_cached(read::IS_DELETED)?.query_row([&chat.hash()[..]], |row| row.get(0))?;
        return Ok(Read::Found(if deleted { Found::Deleted } else { Found::Chat(None) }));
    };
    if row.generation < generation {
        return Ok(Read::Stale);
    }
    add_other_rows(db, &row, &mut record)?;
    Ok(Read::Found(Found::Chat(Some(Box::new(record)))))
}

/// A chat's record without what is in rows of other tables.
fn own_columns(row: &Row<'_>, chat: &ChatKey) -> rusqlite::Result<ChatRecord> {
    let goal: Option<String> = row.get(6)?;
    let agent: Option<i64> = row.get(9)?;
    let work: Option<String> = row.get(11)?;
    let agent_turn: Option<String> = row.get(13)?;
    let tasks: Option<String> = row.get(14)?;
    Ok(ChatRecord {
        chat: chat.chat.clone(),
        version: Version(unsigned(row, 15)?),
        updated_at_ms: unsigned(row, 16)?,
        head: Cursor { epoch: id(row, 2, Epoch::parse)?, seq: unsigned(row, 4)? },
        title: row.get(5)?,
        goal_state: goal.map(|goal| json(6, &goal)).transpose()?.unwrap_or_default(),
        session: row.get(7)?,
        turns: Vec::new(),
        agent_turn: agent_turn.map(|turn| json(13, &turn)).transpose()?,
        tasks: tasks.map(|tasks| json(14, &tasks)).transpose()?.unwrap_or_default(),
        requests: Vec::new(),
        open_work: work.map(|work| json(11, &work)).transpose()?.unwrap_or_default(),
        last_command: unsigned(row, 8)?,
        last_request: unsigned(row, 12)?,
        agent: agent.map(|instance| recorded_agent(row, instance)).transpose()?,
        commands: Vec::new(),
        earlier: None,
    })
}

fn recorded_agent(row: &Row<'_>, instance: i64) -> rusqlite::Result<RecordedAgent> {
    let position: i64 = row.get(10)?;
    let (instance, position) = (AgentInstanceId(instance.cast_unsigned()), position.cast_unsigned());
    Ok(RecordedAgent { instance, position, checkpoint: None })
}

/// Adds to a chat's record what is in rows of other tables.
fn add_other_rows(db: &Connection, row: &ChatRow, record: &mut ChatRecord) -> rusqlite::Result<()> {
    if let Some(agent) = &mut record.agent {
        let state: Option<Vec<u8>> =
            db.prepare_cached(read::CHECKPOINT)?.query_row([row.id], |row| row.get(0)).optional()?;
        agent.checkpoint = state.map(Bytes::from);
    }
    let turns =
        all(db, read::OPEN_TURNS, row.id, |turn| Ok((open_turn(turn, row.epoch_no)?, prompt(turn)?)))?;
    let prompts;
    (record.turns, prompts) = turns.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
    record.requests = all(db, read::REQUESTS, row.id, open_request)?;
    record.commands = all(db, read::COMMANDS, row.id, command)?;
    record.commands.extend(prompts.into_iter().flatten());
    record.commands.sort_by_key(AgentCommand::id);
    if row.epoch_no > 1 {
        let newest = |row: &Row<'_>| Ok(Cursor { epoch: id(row, 0, Epoch::parse)?, seq: unsigned(row, 1)? });
        record.earlier =
            db.prepare_cached(read::EARLIER)?.query_row((row.id, row.epoch_no), newest).optional()?;
    }
    Ok(())
}

fn open_request(row: &Row<'_>) -> rusqlite::Result<OpenRequest> {
    let request_id = id(row, 0, RequestId::parse)?;
    let agent_request_id: Option<String> = row.get(3)?;
    Ok(OpenRequest {
        // Earlier versions used the agent's request id as the chat's request id.
        agent_request_id: match agent_request_id {
            Some(_) => id(row, 3, RequestId::parse)?,
            None => request_id.clone(),
        },
        request_id,
        question: row.get(1)?,
        input: row.get(4)?,
        frame: frame(row, 2)?,
    })
}

fn all<T>(
    db: &Connection,
    sql: &str,
    chat: i64,
    each: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare_cached(sql)?.query_map([chat], each)?.collect()
}

fn open_turn(row: &Row<'_>, present_epoch: i64) -> rusqlite::Result<OpenTurn> {
    let epoch_no: i64 = row.get(3)?;
    let started: Option<i64> = row.get(6)?;
    let reason: Option<String> = row.get(11)?;
    Ok(OpenTurn {
        turn_id: id(row, 0, TurnId::parse)?,
        text: row.get(1)?,
        hash: row.get(2)?,
        seq: if epoch_no == present_epoch { unsigned(row, 4)? } else { 0 },
        frame: event_frame(row, 8)?,
        accepted_at_ms: unsigned(row, 5)?,
        started_at_ms: started.map(i64::unsigned_abs),
        cancel_requested: row.get(7)?,
        cancel_reason: reason.map(|reason| json(11, &reason)).transpose()?,
    })
}

/// The prompt of an open turn, if one was sent.
fn prompt(row: &Row<'_>) -> rusqlite::Result<Option<AgentCommand>> {
    let Some(command): Option<i64> = row.get(10)? else { return Ok(None) };
    let (turn_id, text) = (id(row, 0, TurnId::parse)?, row.get(1)?);
    Ok(Some(AgentCommand::Prompt { id: CommandId(command.unsigned_abs()), turn_id, text }))
}

fn command(row: &Row<'_>) -> rusqlite::Result<AgentCommand> {
    let command_id = CommandId(unsigned(row, 0)?);
    let kind: String = row.get(1)?;
    Ok(match kind.as_str() {
        "prompt" => {
            AgentCommand::Prompt { id: command_id, turn_id: id(row, 2, TurnId::parse)?, text: row.get(3)? }
        }
        "cancel" => AgentCommand::Cancel { id: command_id, turn_id: id(row, 2, TurnId::parse)? },
        _ => {
            let body: String = row.get(3)?;
            let request_id = id(row, 2, RequestId::parse)?;
            AgentCommand::Answer { id: command_id, request_id, answer: json(3, &body)? }
        }
    })
}

fn turn(db: &Connection, chat: &ChatKey, turn_id: &TurnId) -> rusqlite::Result<Option<TurnRecord>> {
    let key = (chat.principal.as_str(), chat.chat.as_str(), turn_id.as_str());
    db.prepare_cached(read::TURN)?
        .query_row(key, |row| {
            Ok(TurnRecord {
                hash: row.get(0)?,
                place: Cursor { epoch: id(row, 1, Epoch::parse)?, seq: unsigned(row, 2)? },
                starts_turn: row.get(3)?,
            })
        })
        .optional()
}

fn after_page(
    db: &Connection,
    chat: &ChatKey,
    after: &Cursor,
    bytes: usize,
) -> rusqlite::Result<Option<Vec<LogEvent>>> {
    let Some(row) = find(db, chat)?.filter(|row| row.epoch == after.epoch) else { return Ok(None) };
    let mut statement = db.prepare_cached(read::AFTER)?;
    let mut rows = statement.query((row.id, row.epoch_no, int(after.seq)))?;
    let mut page = Vec::new();
    let mut size = 0;
    let mut next = after.seq + 1;
    while size < bytes
        && let Some(row) = rows.next()?
    {
        let mut event = log_event(row)?;
        if event.first_seq <= after.seq {
            event = part(row, event, |_, seq| (after.seq + 1, seq))?.0;
        }
        if event.first_seq > next {
            return Err(damaged(0));
        }
        next = event.seq + 1;
        size += event.frame.len();
        page.push(event);
    }
    if page.is_empty() && bytes > 0 {
        let head: i64 = db.prepare_cached(read::HEAD)?.query_row([row.id], |row| row.get(0))?;
        if head > int(after.seq) {
            return Err(damaged(0));
        }
    }
    Ok(Some(page))
}

/// An event as it is stored: columns 0 to 3.
fn log_event(row: &Row<'_>) -> rusqlite::Result<LogEvent> {
    Ok(LogEvent { first_seq: unsigned(row, 0)?, seq: unsigned(row, 1)?, frame: event_frame(row, 2)? })
}

/// A range of a merged record (lengths in column 4) and true, or a whole event and false.
fn part(
    row: &Row<'_>,
    event: LogEvent,
    range: impl FnOnce(u64, u64) -> (u64, u64),
) -> rusqlite::Result<(LogEvent, bool)> {
    let Some(lengths) = lengths_of(row, 4)? else { return Ok((event, false)) };
    let (from, to) = range(event.first_seq, event.seq);
    let part = CompactedDelta { event, lengths }.slice(from, to).ok_or_else(|| damaged(4))?;
    Ok((part, true))
}

fn before_page(
    db: &Connection,
    chat: &ChatKey,
    before: &PageStart,
    events: u32,
    bytes: usize,
) -> rusqlite::Result<Option<HistoryPage>> {
    let Some(chat) = find(db, chat)? else { return Ok(Some(HistoryPage::default())) };
    let Some((epoch_no, last)) = page_end(db, &chat, before)? else { return Ok(None) };
    let mut statement = db.prepare_cached(read::BEFORE)?;
    let mut rows = statement.query((chat.id, epoch_no, int(last)))?;
    let mut page = PageBuilder::new(events, bytes);
    let mut next = None;
    // A position within a merged record: the part up to the position is the newest event.
    let covering = db
        .prepare_cached(read::COVERING)?
        .query_row((chat.id, epoch_no, int(last)), |row| {
            let event = log_event(row)?;
            if event.first_seq > last {
                return Ok(None);
            }
            let (event, is_part) = part(row, event, |first, _| (first, last))?;
            Ok(is_part.then_some(event))
        })
        .optional()?
        .flatten();
    // An empty page accepts an event of any size.
    covering.iter().for_each(|event| assert!(page.takes(&event.frame), "a page takes its first event"));
    while let Some(row) = rows.next()? {
        if !page.takes(&event_frame(row, 2)?) {
            let (no, seq): (i64, i64) = (row.get(0)?, row.get(1)?);
            next = Some((no, seq));
            break;
        }
    }
    let before = match next {
        Some((no, seq)) if no == chat.epoch_no => Some(format!("{}~{seq}", chat.epoch)),
        Some((no, seq)) => {
            let epoch: String =
                db.prepare_cached(read::EPOCH_NAME)?.query_row((chat.id, no), |row| row.get(0))?;
            Some(format!("{epoch}~{seq}"))
        }
        None => None,
    };
    Ok(Some(HistoryPage { events: page.finish(), before }))
}

/// The number of the epoch and the `seq` at which a page ends: its newest event is at or before this position.
fn page_end(db: &Connection, chat: &ChatRow, before: &PageStart) -> rusqlite::Result<Option<(i64, u64)>> {
    let cursor = match before {
        PageStart::At(seq) => return Ok(Some((chat.epoch_no, *seq))),
        PageStart::Opaque(cursor) => cursor,
    };
    let parsed = cursor.split_once('~').and_then(|(epoch, seq)| Some((epoch, seq.parse().ok()?)));
    let Some((epoch, seq)) = parsed else { return Ok(None) };
    let no: Option<i64> =
        db.prepare_cached(read::EPOCH_NO)?.query_row((chat.id, epoch), |row| row.get(0)).optional()?;
    Ok(no.map(|no| (no, seq)))
}

fn chats_page(
    db: &Connection,
    principal: &Principal,
    before: Option<&str>,
    limit: u32,
) -> rusqlite::Result<Option<ChatsPage>> {
    // A bound beyond every chat: no chat has this time.
    let mut bound = (i64::MAX, String::new());
    if let Some(cursor) = before {
        let parsed = cursor
            .split_once('~')
            .and_then(|(at, chat)| Some((at.parse::<u64>().ok()?, ChatId::parse(chat).ok()?)));
        let Some((at, chat)) = parsed else { return Ok(None) };
        bound = (int(at), chat.as_str().to_owned());
    }
    let mut statement = db.prepare_cached(read::CHATS)?;
    let rows = statement.query_map((principal.as_str(), bound.0, bound.1, i64::from(limit) + 1), |row| {
        Ok(ChatSummary {
            chat_id: id(row, 0, ChatId::parse)?,
            title: row.get(1)?,
            updated_at_ms: unsigned(row, 2)?,
            running: row.get(5)?,
            waiting: row.get(6)?,
            head: Cursor { epoch: id(row, 3, Epoch::parse)?, seq: unsigned(row, 4)? },
        })
    })?;
    let mut chats: Vec<ChatSummary> = rows.collect::<rusqlite::Result<_>>()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = chats.len() > limit;
    chats.truncate(limit);
    let before = chats.last().filter(|_| more).map(|last| format!("{}~{}", last.updated_at_ms, last.chat_id));
    Ok(Some(ChatsPage { chats, before }))
}
