//! How the agent's requests are logged, answered and withdrawn.

use alloc::{format, string::String};

use super::state::Declined;
use crate::{
    agent::AgentCommand,
    hub::{
        chat::{Chat, log::Draft},
        context::Context,
        refusals::Refusal,
    },
    ids::{ConnId, RequestId, TurnId},
    wire::{Answer, ChatBody, NoticeLevel, Resolution},
};

impl Chat {
    /// Logs a request of the agent, or denies it without asking a person.
    pub(in crate::hub::chat) fn open_request(
        &mut self,
        draft: &mut Draft,
        asked: Result<ChatBody, Declined>,
    ) {
        match asked {
            Ok(request) => draft.push(self.turns.prompted(), request),
            Err(Declined { denial, reason }) => {
                if let Some((request_id, message)) = denial {
                    let (id, answer) =
                        (self.agent.next_command(), Answer::Deny { message: Some(message.into()) });
                    draft.command(AgentCommand::Answer { id, request_id, answer });
                }
                let text = format!("{reason}; it was refused, and what it wanted is not done");
                let (level, code) = (NoticeLevel::Warning, "request_refused".into());
                draft.push(self.turns.prompted(), ChatBody::Notice { level, code, text, data: None });
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
        let mut draft = Draft::new();
        let turn_id = self.turns.started().cloned();
        let client_id = cx.conns.get(&conn).map(|conn| conn.client_id().clone());
        self.close_request(cx, &mut draft, turn_id.as_ref(), request_id, (resolved.resolution, client_id));
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
            let turn_id = self.turns.started().cloned();
            self.close_request(cx, draft, turn_id.as_ref(), &open, (Resolution::Withdrawn, None));
        }
    }

    /// Closes an open request within a draft: with this resolution, by the answer of this client. The turn's clock of
    /// silence starts again.
    fn close_request(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        turn_id: Option<&TurnId>,
        request_id: &RequestId,
        (resolution, client_id): (Resolution, Option<String>),
    ) {
        if self.requests.close(request_id) {
            self.turns.progress(cx.now.ticks_ms);
            let request_id = request_id.clone();
            draft.push(turn_id, ChatBody::RequestResolved { request_id, resolution, client_id });
        }
    }

    /// Closes all open requests within a draft.
    pub(in crate::hub::chat) fn close_requests(
        &mut self,
        cx: &Context,
        draft: &mut Draft,
        turn_id: Option<&TurnId>,
        resolution: Resolution,
    ) {
        for request_id in self.requests.open_ids() {
            self.close_request(cx, draft, turn_id, &request_id, (resolution, None));
        }
    }

    /// Closes all open requests as withdrawn: the agent is gone or stopping and takes no answer any more.
    pub(in crate::hub::chat) fn withdraw_requests(&mut self, cx: &mut Context) {
        let mut draft = Draft::new();
        let turn_id = self.turns.started().cloned();
        self.close_requests(cx, &mut draft, turn_id.as_ref(), Resolution::Withdrawn);
        self.stage(cx, draft);
    }
}
