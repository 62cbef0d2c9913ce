//! What becomes of the journal's answers.

use super::{
    Hub,
    asked::{Asked, ReaderKey},
    chat::Chat,
    io::ChatRef,
    refusals::{Refusal, damaged, unreadable},
};
use crate::{
    ids::{ChatId, ConnId},
    journal::{AskId, Conflict, Found, HistoryPage, JournalAnswer},
    wire::{ControlEvent, ErrorCode, Frame},
};

impl Hub {
    pub(super) fn journal(&mut self, answer: JournalAnswer) {
        match answer {
            JournalAnswer::Appended(id) => {
                if let Some(chat) = self.cx.take_append(id) {
                    self.with_chat(chat, |chat, cx| chat.committed(cx, id));
                }
            }
            JournalAnswer::Conflict(id, Conflict::Fenced { .. }) => {
                if let Some(chat) = self.cx.take_append(id) {
                    self.lose(chat);
                }
            }
            JournalAnswer::Refused(id) | JournalAnswer::Conflict(id, _) => {
                if let Some(chat) = self.cx.take_append(id) {
                    self.with_chat(chat, |chat, cx| chat.refused(cx));
                }
            }
            JournalAnswer::Found(id, found) => {
                if let Some(asked) = self.cx.take_asked(id) {
                    self.found(asked, found);
                }
            }
            JournalAnswer::Failed(id) => self.failed(id, unreadable()),
            JournalAnswer::Damaged(id) => self.failed(id, damaged()),
        }
    }

    fn found(&mut self, asked: Asked, found: Found) {
        match (asked, found) {
            (Asked::Load(chat), Found::Chat(record)) => {
                self.with_chat(chat, |chat, cx| chat.loaded(cx, record));
            }
            (Asked::Resync(chat), Found::Chat(record)) => {
                self.with_chat(chat, |chat, cx| chat.resync(cx, record));
            }
            (Asked::Load(chat) | Asked::Resync(chat), Found::Fenced) => self.lose(chat),
            (Asked::Load(chat), Found::Deleted) => self.with_chat(chat, Chat::found_deleted),
            (Asked::Resync(chat), Found::Deleted) => self.with_chat(chat, Chat::resync_deleted),
            (Asked::Turn(chat), Found::Turn(record)) => {
                self.with_chat(chat, |chat, cx| chat.turn_found(cx, Ok(record)));
            }
            (Asked::Page { chat, page: asked }, Found::After(page)) => {
                self.with_chat(chat, |chat, cx| chat.page_found(cx, asked, Ok(page.as_deref())));
            }
            (Asked::Snapshot { chat, reader }, Found::Before(page)) => {
                self.snapshot_found(chat, reader, page.ok_or_else(unreadable));
            }
            (Asked::History { conn, chat_id }, Found::Before(page)) => {
                self.history_found(conn, chat_id, page);
            }
            (Asked::Chats { conn }, Found::Chats(page)) => self.chats_found(conn, page),
            // The journal answers another question. What asked cannot tell that from an answer that does not come.
            (asked, _) => self.not_found(asked, unreadable()),
        }
    }

    fn failed(&mut self, id: AskId, refusal: Refusal) {
        if let Some(asked) = self.cx.take_asked(id) {
            self.not_found(asked, refusal);
        }
    }

    /// The journal could not answer a question: the requests that need the answer get this refusal.
    fn not_found(&mut self, asked: Asked, refusal: Refusal) {
        match asked {
            Asked::Load(chat) => self.with_chat(chat, |chat, cx| chat.load_failed(cx, &refusal)),
            Asked::Resync(chat) => self.with_chat(chat, |chat, cx| chat.resync_failed(cx, &refusal)),
            Asked::Turn(chat) => self.with_chat(chat, |chat, cx| chat.turn_found(cx, Err(refusal))),
            Asked::Page { chat, page: asked } => {
                self.with_chat(chat, |chat, cx| chat.page_found(cx, asked, Err(&refusal)));
            }
            Asked::Snapshot { chat, reader } => {
                self.snapshot_found(chat, reader, Err(refusal));
            }
            Asked::History { conn, chat_id } => {
                self.cx.refuse(conn, refusal.chat(&chat_id));
                self.cx.fetched(conn);
            }
            Asked::Chats { conn } => {
                self.cx.refuse(conn, refusal);
                self.cx.fetched(conn);
            }
        }
    }

    fn snapshot_found(&mut self, chat: ChatRef, reader: ReaderKey, page: Result<HistoryPage, Refusal>) {
        let chat = self.chats.get_mut(&chat);
        let more = chat.is_some_and(|chat| chat.snapshot_found(&mut self.cx, reader, page));
        // A snapshot in several parts reports `fetched` with its last part.
        if !more {
            self.cx.fetched(reader.conn);
        }
    }

    fn history_found(&mut self, conn: ConnId, chat_id: ChatId, page: Option<HistoryPage>) {
        if let Some(page) = page {
            let events = page.events.iter().map(Frame::to_raw).collect();
            self.cx.deliver(conn, &ControlEvent::History { chat_id, events, before: page.before });
        } else {
            let refusal = Refusal::new(ErrorCode::InvalidField, "before is no cursor of this chat");
            self.cx.refuse(conn, refusal.chat(&chat_id));
        }
        self.cx.fetched(conn);
    }
}
