//! Encodes commands to lines for the agent's input, each without its newline.

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use switchboard_core::{
    agent::{AgentCommand, CommandId},
    ids::{RequestId, TurnId},
    wire::Answer,
};

use super::{
    elicitation, questions, requests,
    state::{Cancel, ClaudeCodec, Pending, PromptPhase, Prompted},
};
use crate::dialect::Decoded;

/// The id of the first request to the agent.
pub(super) const INITIALIZE: &str = "initialize";
/// First part of the ids of interrupts.
pub(super) const CANCEL: &str = "cancel-";
/// First part of the ids of requests to take a prompt back; the prompt's id follows.
pub(super) const TAKE_BACK: &str = "take-back-";

const DENIED: &str = "The person denied this.";
const TURN_ENDED: &str = "The turn ended before an answer.";
const NOT_GRANTED: &str = "This was not granted: the answer that came does not fit the request.";

#[derive(Serialize)]
struct ControlResponse<'a> {
    r#type: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
struct Response<'a> {
    subtype: &'a str,
    request_id: &'a str,
    response: Decision<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Decision<'a> {
    Allow {
        behavior: &'a str,
        /// The input that was allowed, byte for byte.
        #[serde(rename = "updatedInput")]
        updated_input: &'a RawValue,
    },
    Other(Value),
}

impl ClaudeCodec {
    /// The line for a command; `None` if there is nothing to send, for example for an answer to a request that is no
    /// longer open.
    ///
    /// The id of a prompt derives from its turn id, so that the agent recognises a repeated prompt. Its text is
    /// unchanged: text that begins with `/` is executed if the agent has such a command.
    pub(super) fn line_for(&self, command: &AgentCommand) -> Option<Vec<u8>> {
        match command {
            AgentCommand::Prompt { turn_id, text, .. } => Some(prompt(turn_id, text)),
            AgentCommand::Cancel { id, turn_id } => Some(self.cancel(*id, turn_id)),
            AgentCommand::Answer { request_id, answer, .. } => self.answer(request_id, answer),
        }
    }

    /// Notes that the prompt of this turn was written to the agent.
    pub(super) fn prompted(&mut self, turn_id: &TurnId) {
        self.state.turn = Some(Prompted::new(stable_uuid(turn_id.as_str())));
        self.state.cancel = Cancel::None;
        if self.state.agent_turn.is_none() {
            // What the agent said after its last turn is no answer to this prompt.
            let output = &mut self.state.output;
            (output.spoke, output.worked, output.synthetic) = (false, false, None);
        }
    }

    /// Notes that an answer was written to the agent; the request is no longer open.
    pub(super) fn answered(&mut self, request_id: &RequestId) {
        if let Some(id) = self.find(request_id).map(|(id, _)| id.clone()) {
            self.state.pending.remove(&id);
        }
    }

    /// An interrupt would stop the agent's own turn instead of the prompt that waits behind it, or is on its way.
    fn cancel(&self, id: CommandId, turn_id: &TurnId) -> Vec<u8> {
        let uuid = stable_uuid(turn_id.as_str());
        let has_begun = self.state.turn.as_ref().is_some_and(|turn| turn.uuid == uuid && !turn.waits());
        if turn_id.is_of_agent() || has_begun || !self.is_in_own_turn() {
            return interrupt(id);
        }
        take_back(&uuid)
    }

    /// Notes that the cancellation of the prompt's turn was written to the agent.
    pub(super) fn cancelled(&mut self) {
        let waits = self.is_in_own_turn() && self.state.turn.as_ref().is_some_and(Prompted::waits);
        self.state.cancel = if waits { Cancel::TakingBack } else { Cancel::Sent };
    }

    /// Whether the agent itself works in a turn of its own, and is known to take prompts back.
    fn is_in_own_turn(&self) -> bool {
        self.state.reports.lifecycle && self.state.agent_turn.as_ref().is_some_and(|turn| turn.main)
    }

    fn answer(&self, request_id: &RequestId, answer: &Answer) -> Option<Vec<u8>> {
        let (_, pending) = self.find(request_id)?;
        let input;
        let response = match answer {
            Answer::Answer { answers } if pending.form => {
                // The person did not decline, but answers that do not fit the form cannot be accepted.
                let accepted = elicitation::accepted(&pending.input, answers);
                Decision::Other(accepted.unwrap_or_else(|| json!({"action": "cancel"})))
            }
            _ if pending.form => Decision::Other(json!({"action": "decline"})),
            Answer::Answer { answers }
                if pending.question && questions::are_answered(&pending.input, answers) =>
            {
                input = requests::raw(&questions::with_answers(&pending.input, answers).to_string())?;
                Decision::Allow { behavior: "allow", updated_input: &input }
            }
            Answer::Allow { input_sha256 } if pending.is_allowed_by(input_sha256.as_deref()) => {
                input = requests::raw(&pending.input)?;
                Decision::Allow { behavior: "allow", updated_input: &input }
            }
            Answer::Deny { message } => {
                let said = message.as_deref().filter(|message| !message.trim().is_empty());
                Decision::Other(json!({"behavior": "deny", "message": said.unwrap_or(DENIED)}))
            }
            // An answer of the wrong kind, or consent to another input, is not consent.
            Answer::Answer { .. } | Answer::Allow { .. } => {
                Decision::Other(json!({"behavior": "deny", "message": NOT_GRANTED}))
            }
        };
        pending.response(response)
    }

    /// Sends another interrupt for a prompt that was cancelled while it was queued and now begins. Called at each sign
    /// of a beginning turn, because the agent answers an interrupt during the set-up of a turn with success, but stops
    /// nothing.
    pub(super) fn interrupt_again(&self, out: &mut Decoded) {
        if self.state.cancel == Cancel::Missed {
            out.replies.push(control_request(&format!("{CANCEL}again"), &interrupting()));
        }
    }

    /// Handles the agent's answer to an interrupt: a prompt that was to be stopped and still waits is taken back.
    pub(super) fn interrupt_answered(&mut self, still_queued: bool, out: &mut Decoded) {
        let Some(turn) = self.state.turn.as_ref().filter(|_| self.state.cancel.is_pending()) else { return };
        if still_queued || turn.phase == PromptPhase::Queued {
            self.state.cancel = Cancel::Missed;
            out.replies.push(take_back(&turn.uuid));
        } else {
            self.state.cancel = Cancel::Sent;
        }
    }

    /// Handles the agent's answer to the request to take back the prompt `uuid`. A prompt that it has begun with, or
    /// takes into its turn, is interrupted.
    pub(super) fn take_back_answered(&mut self, uuid: &str, taken_back: bool, out: &mut Decoded) {
        if self.state.turn.as_ref().is_none_or(|turn| turn.uuid != uuid) {
            return;
        }
        if taken_back {
            self.taken_back(out);
        } else {
            self.state.cancel = Cancel::Missed;
            self.interrupt_again(out);
        }
    }
}

impl Pending {
    /// The denial of a request whose turn ended.
    pub(super) fn denial_at_the_end(&self) -> Option<Vec<u8>> {
        self.response(Decision::Other(if self.form {
            json!({"action": "cancel"})
        } else {
            json!({"behavior": "deny", "message": TURN_ENDED})
        }))
    }

    fn response(&self, response: Decision<'_>) -> Option<Vec<u8>> {
        let response = Response { subtype: "success", request_id: &self.agent_id, response };
        serde_json::to_vec(&ControlResponse { r#type: "control_response", response }).ok()
    }
}

/// The first line for every process. The agent's answer to it shows that the agent has started ([`Decoded::ready`]).
pub(super) fn initialize() -> Vec<u8> {
    control_request(INITIALIZE, &json!({"subtype": "initialize"}))
}

fn prompt(turn_id: &TurnId, text: &str) -> Vec<u8> {
    let line = json!({
        "type": "user",
        "message": {"role": "user", "content": [{"type": "text", "text": text}]},
        "parent_tool_use_id": null,
        "session_id": "",
        "uuid": stable_uuid(turn_id.as_str()),
    });
    line.to_string().into_bytes()
}

fn interrupt(id: CommandId) -> Vec<u8> {
    control_request(&format!("{CANCEL}{}", id.0), &interrupting())
}

fn interrupting() -> Value {
    json!({"subtype": "interrupt"})
}

fn take_back(uuid: &str) -> Vec<u8> {
    let request = json!({"subtype": "cancel_async_message", "message_uuid": uuid});
    control_request(&format!("{TAKE_BACK}{uuid}"), &request)
}

fn control_request(request_id: &str, request: &Value) -> Vec<u8> {
    json!({"type": "control_request", "request_id": request_id, "request": request}).to_string().into_bytes()
}

/// 128 bits of FNV-1a, shaped like a UUID (version 8): a stable name for a stable input.
fn stable_uuid(text: &str) -> String {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in text.bytes() {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    let hash = (hash & !(0xf << 76) & !(0x3 << 62)) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{hash:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_uuids_look_like_uuids() {
        let uuid = stable_uuid("turn-1");
        assert_eq!(uuid, stable_uuid("turn-1"));
        assert_ne!(uuid, stable_uuid("turn-2"));
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "8"));
    }
}
