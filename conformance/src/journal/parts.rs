//! The parts of the suite.

use switchboard_core::{
    ids::{ChatKey, Cursor, TurnId},
    journal::{
        Append, AppendId, Change, ChatRecord, Conflict, Found, JournalAnswer, LogEvent, PageStart, Query,
        Version,
    },
    wire::{ChatSummary, Outcome},
};

use super::{
    author::{Author, Draft, event, key, notice},
    bench::{Bench, Checked, Expected, same},
    part::Part,
    under_test::JournalUnderTest,
};
use crate::journal_model::Request;

/// How many random appends a chat gets.
const APPENDS: usize = 150;

pub(super) fn check<J: JournalUnderTest>(part: Part, bench: &mut Bench<J>) -> Checked {
    match part {
        Part::Fold => fold(bench),
        Part::Versions => versions(bench),
        Part::Fences => fences(bench),
        Part::Contradictions => contradictions(bench),
        Part::TurnIds => turn_ids(bench),
        Part::Deletion => deletion(bench),
        Part::Order => order(bench),
        Part::Pages => pages(bench),
        Part::Lists => lists(bench),
        Part::Principals => principals(bench),
        Part::Reopening => reopening(bench),
    }
}

fn fold<J: JournalUnderTest>(bench: &mut Bench<J>) -> Checked {
    let mut chats = [bench.create(&key("owner", "one"))?, bench.create(&key("owner", "two"))?];
    for _ in 0..APPENDS {
        let chat = &mut chats[bench.author.below(2) as usize];
        bench.write_some(chat, 1)?;
        bench.has(chat)?;
    }
    chats.iter().try_for_each(|chat| bench.has(chat))
}

fn versions<J: JournalUnderTest>(bench: &mut Bench<J>) -> Checked {
    let unknown = key("owner", "unknown");
    let nothing =
        ChatRecord::new(unknown.chat.clone(), bench.author.create(&unknown).create.expect("an epoch"));
    let astray = bench.author.empty(&unknown, &nothing);
    bench.conflicts(&astray, Conflict::Version { stored: Version(0) })?;

    let mut chat = bench.create(&key("owner", "chat"))?;
    let again = bench.author.create(&chat.key);
    bench.conflicts(&again, Conflict::Version { stored: Version(1) })?;
    for _ in 0..10 {
        let stored = chat.record.version;
        let missing = bench.author.append(&chat.key, &chat.record);
        let mut with = chat.record.clone();
        with.apply(&missing).expect("it fits");
        let early = bench.author.append(&chat.key, &with);
        bench.conflicts(&early, Conflict::Version { stored })?;
        bench.has(&chat)?;
        bench.commits(&missing)?;
        chat.apply(&missing);
        bench.conflicts(&missing, Conflict::Version { stored: chat.record.version })?;
        bench.has(&chat)?;
        bench.commits(&early)?;
        chat.apply(&early);
        bench.has(&chat)?;
    }
    Ok(())
}

fn fences<J: JournalUnderTest>(bench: &mut Bench<J>) -> Checked {
    let (mut chat, unknown) = (bench.create(&key("owner", "chat"))?, key("owner", "unknown"));
    for _ in 0..5 {
        bench.write_some(&mut chat, 3)?;
        let earlier = bench.claim(&chat.key);
        let earlier_of_unknown = bench.claim(&unknown);
        bench.write_some(&mut chat, 1)?;
        bench.journal.reopen();
        let newest = bench.claim(&chat.key);
        if newest <= earlier {
            return Err(format!("the next owner has {newest:?} after {earlier:?}"));
        }
        let with_events = bench.author.append(&chat.key, &chat.record);
        let without = bench.author.empty(&chat.key, &chat.record);
        let deletes = Append { changes: vec![Change::Deleted], ..without.clone() };
        for append in [with_events, without, deletes] {
            let append = Append { term: earlier, ..append };
            bench.conflicts_as(&append, Conflict::Fenced { newest })?;
            bench.has(&chat)?;
        }
        let newest_of_unknown = bench.claim(&unknown);
        let creates = Append { term: earlier_of_unknown, ..bench.author.create(&unknown) };
        bench.conflicts_as(&creates, Conflict::Fenced { newest: newest_of_unknown })?;
        let found = bench.ask(Query::Chat { chat: unknown.clone(), term: None })?;
        if !matches!(found, Found::Chat(None)) {
            return Err(format!("a fenced append creates a chat: {found:?}"));
        }
        let of_earlier = bench.ask(Query::Chat { chat: chat.key.clone(), term: Some(earlier) })?;
        let of_newest = bench.ask(Query::Chat { chat: chat.key.clone(), term: Some(newest) })?;
        if !matches!((&of_earlier, &of_newest), (Found::Fenced, Found::Chat(Some(_)))) {
            return Err(format!("the earlier owner finds {of_earlier:?}, the newest one {of_newest:?}"));
        }
        bench.write_some(&mut chat, 1)?;
        bench.has(&chat)?;
    }
    Ok(())
}

fn contradictions<J: JournalUnderTest>(bench: &mut Bench<J>) -> Checked {
    let mut chat = bench.create(&key("owner", "chat"))?;
    bench.write_some(&mut chat, 5)?;
    let head = chat.record.head.seq;
    for seqs in [vec![head + 2], vec![head], vec![head + 1, head + 3]] {
        let mut append = bench.author.empty(&chat.key, &chat.record);
        append.events = seqs.into_iter().map(|seq| event(&chat.record, seq, None, &notice("n"))).collect();
        bench.conflicts(&append, Conflict::Sequence)?;
    }
    let unknown = TurnId::parse("unknown").expect("a turn id");
    let outcome = Outcome::Completed;
    for change in [
        Change::TurnStarted { turn_id: unknown.clone() },
        Change::CancelRequested { turn_id: unknown.clone(), reason: None },
        Change::TurnEnded { turn_id: unknown, outcome },
    ] {
        let mut append = bench.author.empty(&chat.key, &chat.record);
        append.changes = vec![Change::Title { title: "not this one".into() }, change];
        bench.conflicts(&append, Conflict::TurnNotOpen)?;
    }
    bench.has(&chat)?;
    bench.write_some(&mut chat, 5)?;
    bench.has(&chat)
}

fn turn_ids<J: JournalUnderTest>(bench: &mut Bench<J>) -> Checked {
    let mut chat = bench.create(&key("owner", "chat"))?;
    let message = |author: &mut Author, key: &ChatKey, record: &ChatRecord| {
        let mut draft = Draft::new(author.empty(key, record), record.clone());
        author.message(&mut draft);
        draft.append
    };
    let first = bench.write(&mut chat, message)?;
    for is_open in [true, false] {
        if !is_open {
            end_all(bench, &mut chat)?;
        }
        let mut again = Append { id: AppendId(u64::MAX), expect: chat.record.version, ..first.clone() };
        again.changes.truncate(1);
        again.events = vec![event(&chat.record, chat.record.head.seq + 1, None, &notice("a message"))];
        if let Change::TurnAccepted { seq, .. } = &mut again.changes[0] {
            *seq = chat.record.head.seq + 1;
        }
        bench.conflicts(&again, Conflict::TurnExists)?;
        bench.has(&chat)?;
    }
    Ok(())
}

fn end_all<J: JournalUnderTest>(bench: &mut Bench<J>, chat: &mut Expected) -> Checked {
    let outcome = Outcome::Completed;
    let open: Vec<_> = chat.record.turns.iter().map(|turn| turn.turn_id.clone()).collect();
    bench.write(chat, |author, key, record| {
        let changes = open.into_iter().map(|turn_id| Change::TurnEnded { turn_id, outcome }).collect();
        Append { changes, ..author.empty(key, record) }
    })?;
    Ok(())
}

fn deletion<J: JournalUnderTest>(bench: &mut Bench<J>) -> Checked {
    let mut chat = bench.create(&key("owner", "chat"))?;
    let mut kept = bench.create(&key("ann", "chat"))?;
    bench.write_some(&mut chat, 20)?;
    bench.write_some(&mut kept, 5)?;
    let head = chat.record.head.clone();
    bench.write(&mut chat, |author, key, record| Append {
        changes: vec![Change::Deleted],
        ..author.empty(key, record)
    })?;
    let found = bench.ask(Query::Chat { chat: chat.key.clone(), term: None })?;
    if !matches!(found, Found::Deleted) {
        return Err(format!("the deleted chat is answered with {found:?}"));
    }
    let after = Cursor { seq: 0, ..head };
    let found = bench.ask(Query::After { chat: chat.key.clone(), after, bytes: 1 << 20 })?;
    if !matches!(found, Found::After(None)) {
        return Err(format!("the log of the deleted chat is answered with {found:?}"));
    }
    same("the list", &bench.chats(&chat.key, None, 10)?.chats, &Vec::new())?;
    let again = bench.author.create(&chat.key);
    bench.conflicts(&again, Conflict::Deleted)?;
    let late = bench.author.empty(&chat.key, &chat.record);
    bench.conflicts(&late, Conflict::Deleted)?;
    bench.has(&kept)
}

fn order<J: JournalUnderTest>(bench: &mut Bench<J>) -> Checked {
    let mut chats = [bench.create(&key("owner", "one"))?, bench.create(&key("ann", "two"))?];
    for _ in 0..20 {
        let mut sent: [Vec<AppendId>; 2] = [Vec::new(), Vec::new()];
        let mut batch = Vec::new();
        for _ in 0..bench.author.below(20) {
            let which = bench.author.below(2) as usize;
            let append = bench.author.append(&chats[which].key, &chats[which].record);
            chats[which].apply(&append);
            sent[which].push(append.id);
            batch.push(Request::Append(bench.owned(&append)));
        }
        let answers = bench.journal.submit(batch);
        for ids in sent {
            let committed = answers
                .iter()
                .filter_map(|answer| if let JournalAnswer::Appended(id) = answer { Some(*id) } else { None });
            let of_chat = committed.filter(|id| ids.contains(id));
            same("the answers to a chat's appends", &of_chat.collect(), &ids)?;
        }
    }
    chats.iter().try_for_each(|chat| bench.has(chat))
}

fn pages<J: JournalUnderTest>(bench: &mut Bench<J>) -> Checked {
    let mut chat = bench.create(&key("owner", "chat"))?;
    for n in 0..40 {
        bench.write(&mut chat, |author, key, record| {
            let mut draft = Draft::new(author.empty(key, record), record.clone());
            draft.event(None, &notice(&format!("notice {n} {}", "x".repeat(author.below(300) as usize))));
            draft.append
        })?;
    }
    for bytes in [1, 500, 5_000] {
        let (mut all, mut seq) = (Vec::new(), 0);
        while seq < chat.record.head.seq {
            let after = Cursor { seq, ..chat.record.head.clone() };
            let page = bench.page_after(&chat.key, after, bytes)?;
            let size = |events: &[_]| events.iter().map(|event: &LogEvent| event.frame.len()).sum::<usize>();
            let Some((last, rest)) = page.split_last() else {
                return Err(format!("an empty page after {seq}"));
            };
            if size(rest) >= bytes {
                return Err(format!("a page of {} bytes goes on after {bytes} bytes", size(&page)));
            }
            seq = last.seq;
            all.extend(page);
        }
        same("the log in pages", &all, &chat.events)?;
    }
    for limit in [1, 7, 100] {
        let (mut all, mut before) = (Vec::new(), PageStart::At(u64::MAX));
        loop {
            let page = bench.page_before(&chat.key, before, limit)?;
            if page.events.len() > limit as usize {
                return Err(format!("a page of {limit} events has {}", page.events.len()));
            }
            all.extend(page.events.into_iter().rev());
            let Some(next) = page.before else { break };
            before = PageStart::Opaque(next);
        }
        let frames: Vec<_> = chat.events.iter().rev().map(|event| event.frame.clone()).collect();
        same("the history in pages, newest first", &all, &frames)?;
    }
    Ok(())
}

fn lists<J: JournalUnderTest>(bench: &mut Bench<J>) -> Checked {
    let names = ["a", "b", "c", "d", "e"];
    let mut chats = Vec::new();
    for name in names {
        chats.push(bench.create(&key("owner", name))?);
    }
    for _ in 0..40 {
        let which = bench.author.below(names.len() as u64) as usize;
        bench.write_some(&mut chats[which], 1)?;
        let mut expected: Vec<ChatSummary> = chats.iter().map(|chat| chat.record.summary()).collect();
        let newest_first = |chat: &ChatSummary| (chat.updated_at_ms, chat.chat_id.as_str().to_owned());
        expected.sort_by_key(newest_first);
        expected.reverse();
        for limit in [2, 10] {
            let (mut all, mut before) = (Vec::new(), None);
            loop {
                let page = bench.chats(&chats[0].key, before, limit)?;
                all.extend(page.chats);
                before = page.before;
                if before.is_none() {
                    break;
                }
            }
            same("the list", &all, &expected)?;
        }
    }
    Ok(())
}

fn principals<J: JournalUnderTest>(bench: &mut Bench<J>) -> Checked {
    let mut chats = [bench.create(&key("owner", "chat"))?, bench.create(&key("ann", "chat"))?];
    for _ in 0..30 {
        let which = bench.author.below(2) as usize;
        bench.write_some(&mut chats[which], 1)?;
        for chat in &chats {
            bench.has(chat)?;
            same("the list", &bench.chats(&chat.key, None, 10)?.chats, &vec![chat.record.summary()])?;
        }
    }
    same("the list of a stranger", &bench.chats(&key("eve", "chat"), None, 10)?.chats, &Vec::new())
}

fn reopening<J: JournalUnderTest>(bench: &mut Bench<J>) -> Checked {
    let mut chats = [bench.create(&key("owner", "one"))?, bench.create(&key("owner", "two"))?];
    for _ in 0..6 {
        for chat in &mut chats {
            bench.write_some(chat, 10)?;
        }
        bench.journal.reopen();
        for chat in &chats {
            bench.claim(&chat.key);
        }
        chats.iter().try_for_each(|chat| bench.has(chat))?;
    }
    Ok(())
}
