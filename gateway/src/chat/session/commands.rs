//! What a person orders with a slash, and what becomes of the chat and the list of chats.

use std::time::Instant;

use switchboard_core::{
    ids::{ChatId, TurnId},
    wire::ClientEnvelope,
};

use super::{Effect, Session};
use crate::chat::{frames::Summary, requests::Requests, text::safe_line};

/// Longest title that is shown, in characters.
const TITLE_CHARACTERS: usize = 80;

const SURE: &str = "This removes the chat with everything in it, for everybody and for ever. Write /delete yes if you mean it.";

const HELP: &str = "\
Write a message and press Enter. Ctrl-C stops the turn; twice, or when nothing runs, it ends the program.
  /new           begins another chat
  /chats         lists the chats; /chats more goes on
  /attach ID     goes to another chat
  /rename TITLE  gives this chat a title
  /delete        deletes this chat, after a question
  /stop          stops the running turn
  /allow ID      gives the leave that is asked, once all of it was shown
  /decline WHY   gives no answer to what is asked; WHY may be left out
  /quit          ends the program; turns go on";

impl Session {
    /// Carries out a command, or sends the line.
    pub(super) fn obey(&mut self, line: &str, read: Instant, turn_id: TurnId) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] if self.requests.is_open() => self.answer(line, read),
            [] if self.is_busy() => {}
            [] => self.idle(),
            ["/help"] => self.note(HELP),
            ["/quit" | "/exit"] => self.quit(),
            ["/stop"] => self.cancel(),
            ["/chats"] => self.send_now(&ClientEnvelope::ListChats { before: None, limit: None }),
            ["/chats", "more"] => match self.more_chats.take() {
                Some(before) => {
                    self.send_now(&ClientEnvelope::ListChats { before: Some(before), limit: None });
                }
                None => self.note("There are no more; /chats begins with the newest."),
            },
            ["/rename", ..] => self.rename(line),
            ["/delete"] => self.note(SURE),
            ["/delete", "yes"] => self.in_chat(|chat_id| ClientEnvelope::DeleteChat { chat_id }),
            ["/new"] => self.begin_chat(),
            ["/attach", id] => match ChatId::parse(id) {
                Ok(chat) => self.change_chat(chat),
                Err(_) => self.note("That is not the id of a chat; /chats lists them."),
            },
            ["/decline", ..] => self.decline(line, read),
            ["/allow", id] => self.allow(id, read),
            _ if self.requests.is_open() => self.answer(line, read),
            _ => self.submit(line.to_owned(), turn_id),
        }
    }

    pub(super) fn listed(&mut self, chats: Vec<Summary>, before: Option<String>) {
        let more = before.is_some();
        self.more_chats = before;
        self.effects.push_back(Effect::List(chats));
        if more {
            self.note("There are older ones: /chats more");
        }
    }

    /// Sends what is about this chat.
    fn in_chat(&mut self, envelope: impl FnOnce(ChatId) -> ClientEnvelope) {
        match self.chat.clone() {
            Some(chat) => self.send_now(&envelope(chat)),
            None => self.note("There is no chat yet; the first message begins it."),
        }
    }

    fn rename(&mut self, line: &str) {
        let title = line.trim().trim_start_matches("/rename").trim().to_owned();
        if title.is_empty() {
            return self.note("Write the title behind it: /rename Sea and sky");
        }
        self.in_chat(|chat_id| ClientEnvelope::RenameChat { chat_id, title });
    }

    /// The chat has a title. The first one, made of the first message, is no news.
    pub(super) fn titled(&mut self, title: Option<String>) {
        let Some(title) = title else { return };
        let known = self.title.as_ref();
        if known.is_some_and(|known| *known != title) || (known.is_none() && !self.is_busy()) {
            self.note(&format!("This chat is now called: {}", safe_line(&title, TITLE_CHARACTERS)));
        }
        self.title = Some(title);
    }

    /// Somebody deleted the chat.
    pub(super) fn deleted(&mut self) {
        self.lost_chat("This chat was deleted.");
    }

    /// There is no way to go on in the chat.
    pub(super) fn lost_chat(&mut self, why: &str) {
        self.chat = None;
        while !self.outbox.is_empty() {
            self.give_up(0);
        }
        self.forget_chat();
        if self.batch.is_some() {
            self.note(why);
            self.effects.push_back(Effect::Quit(1));
            return;
        }
        self.note(&format!("{why} The next message begins a new chat; /chats lists the others."));
        self.idle();
    }

    pub(super) fn cancel(&mut self) {
        let Some(chat_id) = self.chat.clone() else { return };
        // What was not accepted is not sent again. What was sent meanwhile is cancelled by its id.
        let unsent: Vec<TurnId> = self.outbox.drain(..).map(|message| message.turn_id).collect();
        self.effects.extend(unsent.iter().cloned().map(Effect::Forget));
        let turns: Vec<TurnId> = unsent.into_iter().chain(self.open.iter().cloned()).collect();
        if turns.is_empty() && self.running.is_none() {
            self.note("No turn runs.");
            return;
        }
        self.cancelling = true;
        if turns.is_empty() {
            self.send_now(&ClientEnvelope::Cancel { chat_id, turn_id: None });
            return;
        }
        // The last first, so that none begins in between.
        for turn_id in turns.into_iter().rev() {
            self.send_now(&ClientEnvelope::Cancel { chat_id: chat_id.clone(), turn_id: Some(turn_id) });
        }
    }

    fn begin_chat(&mut self) {
        self.leave_chat();
        self.awaits_new = true;
        self.send_now(&ClientEnvelope::NewChat {});
    }

    fn change_chat(&mut self, chat_id: ChatId) {
        self.leave_chat();
        self.chat = Some(chat_id.clone());
        self.send_now(&ClientEnvelope::Attach { chat_id, after: None });
    }

    fn leave_chat(&mut self) {
        self.send_from_elsewhere();
        if let Some(chat_id) = self.chat.take() {
            self.send_now(&ClientEnvelope::Detach { chat_id });
        }
        self.forget_chat();
    }

    fn forget_chat(&mut self) {
        self.cursor = None;
        self.title = None;
        self.running = None;
        self.open.clear();
        self.outbox.clear();
        self.requests = Requests::default();
        self.cancelling = false;
    }
}
