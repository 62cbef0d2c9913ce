//! Creates a journal with a long history, through the same interface through which the gateway writes.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use switchboard_core::{
    ids::{ChatId, ChatKey, Epoch, Principal, TurnId},
    journal::{Append, AppendId, Change, Durability, JournalAnswer, LogEvent, Term, Version},
    wire::{ChatBody, EventPosition, Outcome, TurnOrigin, encode_chat},
};
use switchboard_runtime::{Answers, Journal as _, OpenJournal as _, Request, Sqlite, SqliteOptions};
use tokio::{sync::mpsc, time::timeout};

use crate::token;

/// The epoch of all chats created here.
pub(crate) const EPOCH: &str = "0123456789ab";
/// Most appends at once without an answer.
const WINDOW: u64 = 256;
/// Events per append.
const PER_APPEND: u64 = 100;

/// The data directory of a history that is prepared once, below the target directory.
pub(crate) async fn prepared(chats: u64, events: u64) -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let target = program.ancestors().nth(2).ok_or_else(|| io::Error::other("no target directory"))?;
    let histories = target.join("bench");
    let whole = histories.join(format!("history-{chats}-{events}"));
    if !whole.exists() {
        println!("preparing {} events in {}, once", chats * events, whole.display());
        let part = whole.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        fill(&part, chats, events).await?;
        fs::rename(&part, &whole)?;
    }
    Ok(whole)
}

/// Creates `chats` chats, named `bench-0` and so on, in a data directory, each with one finished turn of `events`
/// events.
pub(crate) async fn fill(data: &Path, chats: u64, events: u64) -> io::Result<()> {
    fs::create_dir_all(data)?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700))?;
    let (answers, mut answered) = mpsc::unbounded_channel();
    let sqlite = Sqlite::open(data.join("journal.db"), SqliteOptions::default()).map_err(io::Error::other)?;
    let mut journal = sqlite.open(Answers::new(answers));
    let (mut sent, mut done) = (0, 0);
    for chat in 0..chats {
        for append in appends(chat, events) {
            sent += 1;
            let term = journal.claim(&append.chat).map(|grant| grant.term).unwrap_or_default();
            journal.submit(&mut vec![Request::Append(Append { id: AppendId(sent), term, ..append })]);
            while sent - done >= WINDOW {
                committed(&mut answered).await?;
                done += 1;
            }
        }
    }
    while done < sent {
        committed(&mut answered).await?;
        done += 1;
    }
    Ok(())
}

async fn committed(answered: &mut mpsc::UnboundedReceiver<JournalAnswer>) -> io::Result<()> {
    match timeout(Duration::from_secs(60), answered.recv()).await {
        Ok(Some(JournalAnswer::Appended(_))) => Ok(()),
        _ => Err(io::Error::other("the journal refused an append")),
    }
}

/// One of the events of a turn.
fn body(seq: u64, events: u64, at_ms: u64) -> ChatBody {
    match seq {
        1 => ChatBody::UserMessage {
            text: "go".into(),
            starts_turn: true,
            active_turn_id: None,
            created_at_ms: at_ms,
            client_id: None,
        },
        2 => ChatBody::TurnStarted { origin: TurnOrigin::User, reason: None, started_at_ms: at_ms },
        seq if seq == events => ChatBody::TurnEnd {
            origin: TurnOrigin::User,
            outcome: Outcome::Completed,
            latency_ms: 1,
            usage: None,
            cost: None,
            model: None,
            error: None,
            goal_state: None,
        },
        seq => {
            let mut text = Vec::new();
            token::put(&mut text, seq - 3);
            ChatBody::Delta { stream_id: "s1".into(), text: String::from_utf8_lossy(&text).into_owned() }
        }
    }
}

/// The appends of one turn: the message, the deltas and the end of the turn.
fn appends(chat: u64, events: u64) -> Vec<Append> {
    let chat_id = ChatId::parse(&format!("bench-{chat}")).expect("a chat id");
    let epoch = Epoch::parse(EPOCH).expect("an epoch");
    let turn_id = TurnId::parse("turn-1").expect("a turn id");
    let key = ChatKey { principal: Principal::owner(), chat: chat_id.clone() };
    let at_ms = 1_700_000_000_000 + chat;
    let event = |seq: u64| {
        let position = EventPosition {
            chat_id: chat_id.clone(),
            epoch: epoch.clone(),
            first_seq: None,
            seq,
            turn_id: Some(turn_id.clone()),
            parent_call_id: None,
        };
        LogEvent { first_seq: seq, seq, frame: encode_chat(&position, &body(seq, events, at_ms)) }
    };
    let hash = [0; 32];
    let accepted =
        Change::TurnAccepted { turn_id: turn_id.clone(), hash, seq: 1, text: "go".into(), starts_turn: true };
    let mut appends: Vec<Append> = Vec::new();
    let mut first = 1;
    while first <= events {
        let last = events.min(first + PER_APPEND - 1);
        let mut changes = Vec::new();
        if first == 1 {
            changes.push(accepted.clone());
            changes.push(Change::Title { title: format!("Chat {chat}") });
            changes.push(Change::TurnStarted { turn_id: turn_id.clone() });
        }
        if last == events {
            changes.push(Change::TurnEnded { turn_id: turn_id.clone(), outcome: Outcome::Completed });
        }
        appends.push(Append {
            id: AppendId(0),
            chat: key.clone(),
            term: Term::default(),
            expect: Version(appends.len() as u64),
            durability: Durability::Written,
            create: (first == 1).then(|| epoch.clone()),
            events: (first..=last).map(event).collect(),
            changes,
            at_ms,
        });
        first = last + 1;
    }
    appends
}
