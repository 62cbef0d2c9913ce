//! Slash commands, and changes of the chat: create, attach, rename, delete, stop.

use std::time::Instant;

use switchboard_core::{
    ids::{ChatId, TurnId},
    wire::ClientEnvelope,
};

use super::{Effect, Session};
use crate::chat::{
    frames::Summary, permissions::Permissions, requests::Requests, subagents::Subagents, text::safe_line,
};

/// Longest title on the screen, in characters.
const TITLE_CHARACTERS: usize = 80;

const SURE: &str = "This removes the chat with everything in it, for everybody and for ever. Write yes to delete it; any other line keeps it.";

/// Characters of an unknown command that the error message repeats.
const COMMAND_CHARACTERS: usize = 40;

const HELP: &str = "\
Write a message and press Enter; while a turn runs it is queued. Ctrl-C stops the running turn, as /stop does; twice,
or when nothing runs, it ends the program.
  /new           begins another chat
  /chats         lists the chats; /chats more goes on
  /attach ID     goes to another chat
  /rename TITLE  gives this chat a title
  /delete        deletes this chat, if you answer yes
  /stop          stops the running turn, also one that the agent began; what is queued runs then;
                 if nothing runs, stops the agent's background work
  /decline WHY   gives no answer to what is asked; WHY may be left out
  /quit          ends the program; turns go on
Any other line is a message, also one that begins with a slash: agents may have commands of their own.";

impl Session {
    /// Carries out a command, takes the line as an answer to an open request, or sends it as a message.
    pub(super) fn obey(&mut self, line: &str, read: Instant, turn_id: TurnId) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if std::mem::take(&mut self.confirms_deletion) {
            if matches!(words.as_slice(), [word] if word.eq_ignore_ascii_case("yes")) {
                return self.in_chat(|chat_id| ClientEnvelope::DeleteChat { chat_id });
            }
            self.note("The chat is kept, and nothing was sent: the answer was not yes.");
            self.requests.interrupted();
            return self.carry_out_steps();
        }
        match words.as_slice() {
            [] if self.requests.is_open() => self.answer(line, read),
            [] => {}
            ["/help"] => self.note(HELP),
            ["/quit" | "/exit"] => self.quit(),
            ["/stop"] => self.stop(),
            ["/chats"] => self.send_now(&ClientEnvelope::ListChats { before: None, limit: None }),
            ["/chats", "more"] => match self.more_chats.take() {
                Some(before) => {
                    self.send_now(&ClientEnvelope::ListChats { before: Some(before), limit: None });
                }
                None => self.note("There are no more; /chats begins with the newest."),
            },
            ["/rename", ..] => self.rename(line),
            ["/delete"] if self.chat.is_some() => {
                self.confirms_deletion = true;
                self.note(SURE);
            }
            ["/delete", "yes"] => self.in_chat(|chat_id| ClientEnvelope::DeleteChat { chat_id }),
            ["/new"] => self.begin_chat(),
            ["/attach", id] => match ChatId::parse(id) {
                Ok(chat) => self.change_chat(chat),
                Err(_) => self.note("That is not the id of a chat; /chats lists them."),
            },
            ["/decline", ..] => self.decline(line, read),
            [first, ..] if misused(first).is_some() => self.note(misused(first).unwrap_or_default()),
            [first, ..] if is_command(first) && self.requests.asks_permission() => {
                let first = safe_line(first, COMMAND_CHARACTERS);
                self.note(&format!(
                    "Not taken as an answer: {first} is no command of this program. Write y, n, or why not."
                ));
                self.requests.interrupted();
                self.carry_out_steps();
            }
            _ if self.requests.is_open() => self.answer(line, read),
            _ => {
                if let Some(first) = words.first().filter(|first| is_command(first)) {
                    let first = safe_line(first, COMMAND_CHARACTERS);
                    self.note(&format!("{first} is no command of this program, so it goes to the agent as a message; /help lists the commands."));
                }
                self.submit(line.to_owned(), turn_id);
            }
        }
    }

    /// Cancels the confirmation of a deletion, because a request of the agent has replaced it on the screen.
    pub(super) fn keep_chat(&mut self) {
        if std::mem::take(&mut self.confirms_deletion) {
            self.note("The chat is kept: the agent asks something.");
        }
    }

    pub(super) fn listed(&mut self, chats: Vec<Summary>, before: Option<String>) {
        let more = before.is_some();
        self.more_chats = before;
        self.effects.push_back(Effect::List { chats, open: self.chat.clone() });
        if more {
            self.note("There are older ones: /chats more");
        }
    }

    /// Sends an envelope about the current chat.
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

    /// Handles a new title of the chat. The title that the gateway derives from the first message is not announced.
    pub(super) fn titled(&mut self, title: Option<String>) {
        let Some(title) = title else { return };
        let known = self.title.as_ref();
        if known.is_some_and(|known| *known != title) || (known.is_none() && !self.is_busy()) {
            self.note(&format!("This chat is now called: {}", safe_line(&title, TITLE_CHARACTERS)));
        }
        self.title = Some(title);
    }

    /// Handles the deletion of the chat, by this or another client.
    pub(super) fn deleted(&mut self) {
        self.lost_chat("This chat was deleted.");
    }

    /// Leaves a chat that was deleted or is damaged. `why` says which.
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
    }

    /// Stops the turn in which the agent works, or this client's next turn if none runs, or background work if no turn is
    /// open. Other turns go on.
    pub(super) fn stop(&mut self) {
        if !self.connected {
            return self.note("Not connected.");
        }
        if let Some(turn_id) = self.turn_to_stop() {
            self.requests.turn_stopped(&turn_id);
            self.note("Stopping…");
            self.carry_out_steps();
            return self.cancel(turn_id);
        }
        // Sent but not accepted: the gateway may have received the message.
        let Some(turn_id) = self.outbox.front().map(|message| message.turn_id.clone()) else {
            return self.stop_background_work();
        };
        self.give_up(0);
        self.note("Stopping…");
        self.cancel(turn_id);
    }

    /// Stops the agent with its background tasks; a notice of the gateway then says so. A program that waits for its
    /// answers stops no background work.
    fn stop_background_work(&mut self) {
        if self.tasks.is_empty() || self.batch.is_some() {
            return self.note("No turn runs.");
        }
        self.note("No turn runs. Stopping the background work…");
        self.in_chat(|chat_id| ClientEnvelope::Cancel { chat_id, turn_id: None });
    }

    fn cancel(&mut self, turn_id: TurnId) {
        if !self.stopping.contains(&turn_id) {
            self.stopping.push(turn_id.clone());
        }
        self.in_chat(|chat_id| ClientEnvelope::Cancel { chat_id, turn_id: Some(turn_id) });
    }

    /// Sends the cancellation again after a reconnect, of turns that have not ended: the first one may be lost.
    pub(super) fn stop_again(&mut self) {
        for turn_id in self.stopping.clone() {
            self.cancel(turn_id);
        }
    }

    /// The gateway refused to stop the turn, so its requests are asked again.
    pub(super) fn stop_refused(&mut self, turn_id: Option<&TurnId>) {
        self.stopping.retain(|stopping| Some(stopping) != turn_id);
        self.requests.stop_refused(turn_id);
        self.carry_out_steps();
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
        (self.running, self.agent_turn) = (None, None);
        self.subagents = Subagents::default();
        self.permissions = Permissions::default();
        self.open.clear();
        self.outbox.clear();
        self.requests = Requests::default();
        self.stopping.clear();
        self.tasks.clear();
        self.confirms_deletion = false;
        self.effects.push_back(Effect::LeftChat);
    }
}

/// How to write a command of this program whose arguments are wrong.
fn misused(first: &str) -> Option<&'static str> {
    Some(match first {
        "/help" | "/quit" | "/exit" | "/stop" | "/new" => {
            "Nothing was sent: this command stands alone on its line."
        }
        "/chats" => "Nothing was sent. /chats lists the chats; /chats more goes on.",
        "/attach" => "Write the id of a chat behind it: /attach ID. /chats lists them.",
        "/delete" => "Nothing was deleted. /delete, alone on its line, asks before it deletes this chat.",
        "/allow" => "Nothing was sent: where the agent asks for leave, y gives it once all of it was shown.",
        _ => return None,
    })
}

/// Whether a word looks like a command, and not like a path.
fn is_command(word: &str) -> bool {
    word.strip_prefix('/').is_some_and(|name| !name.is_empty() && !name.contains('/'))
}
