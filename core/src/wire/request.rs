//! What an agent asks of a person: permissions and questions, as their events show them.

use alloc::{collections::BTreeSet, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::absent::is_false;
use crate::ids::RequestId;

#[cfg(feature = "schema")]
use {schemars::JsonSchema, ts_rs::TS};

/// A request for permission to use a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct PermissionRequest {
    /// The id that `respond` names.
    pub request_id: RequestId,
    /// The tool, as the agent names it.
    pub tool: String,
    /// The input that the agent wants to pass to the tool, such as a command or a change. With `raw`, a string with the
    /// input's text.
    #[cfg_attr(feature = "schema", ts(type = "unknown"))]
    pub input: serde_json::Value,
    /// Length of the whole input's text in bytes. Absent in requests that an earlier version logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(type = "number", optional))]
    pub input_bytes: Option<u64>,
    /// SHA-256 of the whole input's text, in hexadecimal digits. Absent in requests that an earlier version logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub input_sha256: Option<String>,
    /// The agent's description of the tool use's purpose, at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub description: Option<String>,
    /// Whether `description` was cut to the limit.
    #[serde(default, skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
    pub description_truncated: bool,
    /// The id of the tool use that waits for the permission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub call_id: Option<String>,
    /// Whether `input` was cut to the limit: `request_input` gives the whole, and only an answer with
    /// `input_sha256` allows it.
    #[serde(default, skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
    pub truncated: bool,
    /// Whether a JSON value cannot hold the input exactly (a repeated key, a number beyond a double, half a surrogate
    /// pair, more than 64 levels), so that `input` is its text. Only an answer with `input_sha256` allows it.
    #[serde(default, skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
    pub raw: bool,
}

impl PermissionRequest {
    /// Whether an answer that allows the request needs the hash of the whole input, because the event shows less.
    pub fn needs_hash(&self) -> bool {
        self.truncated || self.raw
    }
}

/// Questions of the agent to the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct Question {
    /// The id that `respond` names.
    pub request_id: RequestId,
    /// One or more questions.
    pub questions: Vec<QuestionItem>,
}

/// A question of a `question` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct QuestionItem {
    /// The text of the question; also the key of its answer in `respond`.
    pub question: String,
    /// A title of one or two words for the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub header: Option<String>,
    /// Whether more than one option may be chosen.
    #[serde(default, skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
    pub multi_select: bool,
    /// The options to choose from. Without `format`, a free text is possible too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", ts(as = "Option<Vec<QuestionOption>>", optional))]
    pub options: Vec<QuestionOption>,
    /// Whether the question may stay unanswered.
    #[serde(default, skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", ts(as = "Option<bool>", optional))]
    pub optional: bool,
    /// The form that an answer must have; if absent, any text is an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub format: Option<AnswerFormat>,
    /// The least value of a number, number of characters of a text, or number of choices with `multi_select`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(type = "number", optional))]
    pub min: Option<serde_json::Number>,
    /// The greatest value of a number, number of characters of a text, or number of choices with `multi_select`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(type = "number", optional))]
    pub max: Option<serde_json::Number>,
}

impl QuestionItem {
    /// Whether this text is an answer to the question.
    pub fn accepts(&self, text: &str) -> bool {
        match self.format {
            None => !text.trim().is_empty(),
            Some(AnswerFormat::Option) => self.options.iter().any(|option| option.label == text),
            Some(AnswerFormat::Boolean) => matches!(text, "true" | "false"),
            Some(AnswerFormat::Integer) => text.parse::<i64>().is_ok(),
            Some(AnswerFormat::Number) => text.parse::<f64>().is_ok_and(f64::is_finite),
        }
    }

    /// Whether these answers to the question, of which there is at least one, are within `min` and `max`.
    pub fn bounds(&self, answers: &[String]) -> bool {
        let [min, max] =
            [&self.min, &self.max].map(|bound| bound.as_ref().and_then(serde_json::Number::as_f64));
        let within = |size: f64| min.is_none_or(|min| size >= min) && max.is_none_or(|max| size <= max);
        #[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^53")]
        let count = |many: usize| within(many as f64);
        if self.multi_select {
            return count(answers.iter().collect::<BTreeSet<_>>().len());
        }
        answers.iter().all(|text| match self.format {
            None => count(text.chars().count()),
            Some(AnswerFormat::Integer | AnswerFormat::Number) => text.parse().is_ok_and(within),
            Some(AnswerFormat::Option | AnswerFormat::Boolean) => true,
        })
    }
}

/// The form that the answer to a question must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum AnswerFormat {
    /// The label of one of the question's options.
    Option,
    /// `true` or `false`.
    Boolean,
    /// A whole number of 64 bits, such as `-3`.
    Integer,
    /// A number, such as `2.5`.
    Number,
}

/// An option of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub struct QuestionOption {
    /// The text of the option, which is also the answer.
    pub label: String,
    /// An explanation of the option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", ts(optional))]
    pub description: Option<String>,
}

/// How a request was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(JsonSchema, TS))]
pub enum Resolution {
    /// A person allowed the tool use.
    Allowed,
    /// A person denied the permission or declined the question.
    Denied,
    /// A person answered the questions.
    Answered,
    /// The agent withdrew the request, or has ended.
    Withdrawn,
    /// The agent ended the turn first.
    TurnEnded,
}
