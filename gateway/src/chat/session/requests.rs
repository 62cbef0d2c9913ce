//! Permission requests and questions of the agent, and the agent's description.

use std::time::Instant;

use serde::Serialize;
use switchboard_core::{
    ids::{ChatId, RequestId},
    wire::{ErrorCode, ErrorEvent},
};

use super::{Effect, Session};
use crate::chat::{
    advice::explain,
    frames::Agent,
    requests::{Asker, InputPage, Reply, Request, Step},
    text::safe_line,
};

/// Longest agent, workspace or sandbox name on the screen, in characters.
const NAME_CHARACTERS: usize = 80;

/// A client envelope about a request.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum About {
    Respond {
        chat_id: ChatId,
        request_id: RequestId,
        #[serde(flatten)]
        reply: Reply,
    },
    RequestInput {
        chat_id: ChatId,
        request_id: RequestId,
        offset: u64,
    },
}

impl Session {
    /// Turns answering off, because no person would see the requests.
    pub(in crate::chat) fn answer_nothing(&mut self) {
        self.answers = false;
    }

    /// Handles the end of the arming delay after the last drawn page: the prompt can be drawn.
    pub(in crate::chat) fn handle_armed(&mut self) {
        self.effects.extend(self.requests.prompt().map(Effect::Prompt));
    }

    /// Records that the prompt is on the screen. Lines read before `now` are not taken as answers.
    pub(in crate::chat) fn handle_prompted(&mut self, now: Instant) {
        self.requests.prompted(now);
    }

    /// The prompt of the request that waits for an answer, once it was drawn.
    pub(in crate::chat) fn drawn_prompt(&self) -> Option<String> {
        self.requests.drawn_prompt()
    }

    /// `parent` is the tool use of the subagent that asks.
    pub(super) fn open_request(&mut self, mut request: Request, parent: Option<&str>) {
        if self.answers {
            let subagent = parent.map(|call_id| self.subagents.name(call_id).unwrap_or_default().to_owned());
            let by_itself = self.is_agents(request.turn_id());
            request.set_asker(Asker { by_itself, subagent });
            self.requests.opened(request);
            return self.carry_out_steps();
        }
        // Without a person, requests are neither allowed nor denied here.
        let chat = self.chat.as_ref().map(|chat| format!(", in chat {chat}")).unwrap_or_default();
        self.note(&format!(
            "The agent asks for leave or an answer, and nobody is here: answer it in another client{chat}."
        ));
    }

    pub(super) fn answer(&mut self, line: &str, read: Instant) {
        self.requests.answer(line, read);
        self.carry_out_steps();
    }

    pub(super) fn decline(&mut self, line: &str, read: Instant) {
        let why = line.trim().trim_start_matches("/decline").trim();
        self.requests.decline((!why.is_empty()).then(|| why.to_owned()), read);
        self.carry_out_steps();
    }

    pub(super) fn input_page(&mut self, page: &InputPage) {
        if self.is_here(&page.chat_id) {
            self.requests.page(page);
            self.carry_out_steps();
        }
    }

    /// Handles an error about an answer or about a page of a request's input.
    pub(super) fn answer_refused(&mut self, request_id: &RequestId, error: &ErrorEvent) {
        if error.code == ErrorCode::AlreadyResolved {
            self.requests.resolved(request_id);
        } else if error.code == ErrorCode::UnknownRequest {
            self.note(&explain(error));
            self.requests.resolved(request_id);
        } else if self.requests.is_fetching_for(request_id) {
            self.note(&explain(error));
            self.requests.fetch_failed();
        } else {
            self.requests.refused(request_id, &explain(error));
        }
        self.carry_out_steps();
    }

    /// Handles the end of the replay after a reconnect.
    pub(super) fn replayed(&mut self) {
        self.requests.replayed();
        self.carry_out_steps();
        self.stop_again();
    }

    /// Handles an error that names no request. Returns whether a page of an input was being fetched, which it is then
    /// about.
    pub(super) fn input_refused(&mut self) -> bool {
        let fetching = self.requests.is_fetching();
        self.requests.fetch_failed();
        self.carry_out_steps();
        fetching
    }

    pub(super) fn carry_out_steps(&mut self) {
        while let Some(step) = self.requests.poll_step() {
            match step {
                Step::Draw(rows) => {
                    self.keep_chat();
                    self.effects.push_back(Effect::DrawRequest(rows));
                }
                Step::Prompt(prompt) => self.effects.push_back(Effect::Prompt(prompt)),
                Step::Say(text) => self.note(&text),
                Step::Fetch(request_id, offset) => {
                    self.send_about(|chat_id| About::RequestInput { chat_id, request_id, offset });
                }
                Step::Send(request_id, reply) => {
                    self.send_about(|chat_id| About::Respond { chat_id, request_id, reply });
                }
            }
        }
    }

    fn send_about(&mut self, about: impl FnOnce(ChatId) -> About) {
        let Some(chat_id) = self.chat.clone() else { return };
        if !self.connected {
            return self.note("Not connected.");
        }
        let frame =
            serde_json::to_string(&about(chat_id)).expect("an envelope of strings and numbers is JSON");
        self.effects.push_back(Effect::Send(frame));
    }

    /// Prints the description of the agent, at first and when it changes.
    pub(super) fn introduced(&mut self, agent: &Agent) {
        if self.batch.is_some() || agent.chat_id.as_ref().is_some_and(|chat| !self.is_here(chat)) {
            return;
        }
        let mut line = format!("Agent: {}", safe_line(&agent.agent, NAME_CHARACTERS));
        for (what, name) in [("in", &agent.workspace), ("sandbox:", &agent.sandbox)] {
            if let Some(name) = name {
                line.push_str(&format!(", {what} {}", safe_line(name, NAME_CHARACTERS)));
            }
        }
        if self.agent.as_ref() != Some(&line) {
            self.note(&line);
            self.agent = Some(line);
        }
    }
}
