//! How the agent's requests are logged, answered and withdrawn.

use alloc::{format, string::String};

use super::state::Declined;
use crate::{
    agent::{AgentCommand, PermissionAsk},
    hub::{
        chat::{Chat, log::Draft},
        context::Context,
        refusals::Refusal,
    },
    ids::{ConnId, RequestId, TurnId},
    wire::{Answer, ChatBody, NoticeLevel, Question, Resolution},
};

impl Chat {
    /// The agent asks for a permission.
    pub(in crate::hub::chat) fn ask_permission(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        ask: PermissionAsk,
    ) {
        let asked = self.requests.ask_permission(&cx.limits, self.log.epoch(), self.turns.current(), ask);
        self.open_request(draft, asked);
    }

    /// The agent asks a question.
    pub(in crate::hub::chat) fn ask_question(&mut self, cx: &Context, draft: &mut Draft, question: Question) {
        let asked = self.requests.ask_question(&cx.limits, self.log.epoch(), self.turns.current(), question);
        self.open_request(draft, asked);
    }

    /// Logs a request of the agent, or denies it without asking a person.
    fn open_request(&mut self, draft: &mut Draft, asked: Result<ChatBody, Declined>) {
        match asked {
            Ok(request) => draft.push(self.turns.current(), request),
            Err(Declined { denial, reason }) => {
                if let Some((request_id, message)) = denial {
                    let (id, answer) =
                        (self.agent.next_command(), Answer::Deny { message: Some(message.into()) });
                    draft.command(AgentCommand::Answer { id, request_id, answer });
                }
                let text = format!("{reason}; it was refused, and what it wanted is not done");
                let (level, code) = (NoticeLevel::Warning, "request_refused".into());
                draft.push(self.turns.current(), ChatBody::Notice { level, code, text, data: None });
            }
        }
    }

    /// A client answers a request of the agent.
    pub(in crate::hub::chat) fn respond(
        &mut self,
        cx: &mut Context,
        conn: ConnId,
        request_id: &RequestId,
        answer: Answer,
    ) -> Result<(), Refusal> {
        let resolved = self.requests.resolve(request_id, answer)?;
        self.log.writable()?;
        self.agent.person_acted(cx.now.ticks_ms);
        let mut draft = Draft::new();
        let client_id = cx.conns.get(&conn).map(|conn| conn.client_id().clone());
        self.close_request(cx, &mut draft, request_id, (resolved.resolution, client_id));
        let (request_id, answer) = (resolved.agent_id, resolved.answer);
        draft.command(AgentCommand::Answer { id: self.agent.next_command(), request_id, answer });
        self.stage(cx, draft);
        Ok(())
    }

    /// The agent withdraws its request.
    pub(in crate::hub::chat) fn withdraw_request(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        agent_id: &RequestId,
    ) {
        if let Some(open) = self.requests.of_agent(agent_id) {
            self.close_request(cx, draft, &open, (Resolution::Withdrawn, None));
        }
    }

    /// Closes an open request within a draft: with this resolution, by the answer of this client. The turn's clock of
    /// silence starts again.
    fn close_request(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        request_id: &RequestId,
        (resolution, client_id): (Resolution, Option<String>),
    ) {
        let turn_id = self.requests.turn_of(request_id).cloned();
        if self.requests.close(request_id) {
            self.turns.progress(cx.now.ticks_ms);
            let request_id = request_id.clone();
            draft.push(turn_id.as_ref(), ChatBody::RequestResolved { request_id, resolution, client_id });
        }
    }

    /// Denies what the agent asked in its own turn, because a person sent a message in place of an answer.
    pub(in crate::hub::chat) fn deny_requests_of_agent_turn(&mut self, draft: &mut Draft) {
        let asked = self.turns.agent_turn().map(|turn_id| self.requests.agent_ids_in(turn_id));
        for request_id in asked.unwrap_or_default() {
            let message = Some("The person sent a message instead of an answer.".into());
            let id = self.agent.next_command();
            draft.command(AgentCommand::Answer { id, request_id, answer: Answer::Deny { message } });
        }
    }

    /// Closes the open requests of a turn that ends, within a draft.
    pub(in crate::hub::chat) fn close_requests_of(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        turn_id: &TurnId,
    ) {
        for request_id in self.requests.open_ids() {
            if self.requests.turn_of(&request_id).is_none_or(|of| of == turn_id) {
                self.close_request(cx, draft, &request_id, (Resolution::TurnEnded, None));
            }
        }
    }

    /// Closes all open requests as withdrawn, within a draft: the agent is gone or stopping and takes no answer any more.
    pub(in crate::hub::chat) fn withdraw_requests(&mut self, cx: &Context, draft: &mut Draft) {
        for request_id in self.requests.open_ids() {
            self.close_request(cx, draft, &request_id, (Resolution::Withdrawn, None));
        }
    }
}
