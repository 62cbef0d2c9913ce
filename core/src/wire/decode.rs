//! Decoding client frames with limits and precise errors.

use alloc::{
    borrow::ToOwned,
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use serde_json::{Map, Value};

use super::{
    client::{Answer, ClientEnvelope, Message},
    control::{ErrorCode, ErrorEvent},
    event::GoalState,
    frame::json_bytes,
    unserved,
};
use crate::{
    ids::{ChatId, Cursor, Epoch, InvalidId, RequestId, TurnId},
    limits::Limits,
};

/// Maximum number of object members and array items in one frame together. A parsed tree takes many times the memory of
/// its text.
const MEMBERS: usize = 1024;
/// Maximum size of a goal state, in bytes of JSON, in which escaped characters count as escaped.
const GOAL_BYTES: usize = 48 * 1024;

/// Maximum length of a title that a client gives a chat, in bytes.
const TITLE_BYTES: usize = 256;

/// Why a frame was refused. The connection stays open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The code for the `error` frame.
    pub code: ErrorCode,
    /// The sentence for the `error` frame.
    pub detail: String,
    /// The chat that the frame named, if it could be read.
    pub chat_id: Option<ChatId>,
    /// The turn that the frame named, if it could be read.
    pub turn_id: Option<TurnId>,
    /// The request that the frame named, if it could be read.
    pub request_id: Option<RequestId>,
}

impl DecodeError {
    fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), chat_id: None, turn_id: None, request_id: None }
    }

    /// Turns the error into the content of an `error` frame.
    pub fn into_event(self) -> ErrorEvent {
        ErrorEvent {
            code: self.code,
            detail: self.detail,
            retryable: self.code.is_retryable(),
            chat_id: self.chat_id,
            turn_id: self.turn_id,
            request_id: self.request_id,
            retry_after_ms: None,
            close: None,
        }
    }
}

impl From<InvalidId> for DecodeError {
    fn from(error: InvalidId) -> Self {
        Self::new(ErrorCode::InvalidField, error.0)
    }
}

/// Decodes one text frame of any transport. `Ok(None)`: a blank frame, to be ignored.
///
/// Frames are checked here only; transports pass them on unread (`docs/transports.md`, "How frames are read"). With
/// `legacy`, text
/// that does not begin with `{` or `[`, and objects without `type`, are messages for the default chat
/// (`docs/compat.md`, "Legacy frames"); without `legacy` they are errors.
///
/// # Errors
/// If the frame is over a limit, is not a JSON object, or has an unknown type or wrong fields.
pub fn decode(text: &str, limits: &Limits, legacy: bool) -> Result<Option<ClientEnvelope>, DecodeError> {
    if text.len() > limits.frame_bytes {
        return Err(too_large("frame", limits.frame_bytes, "bytes"));
    }
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with('\u{feff}') {
        return Err(DecodeError::new(ErrorCode::Malformed, "a frame has no byte order mark"));
    }
    if !text.starts_with(['{', '[']) {
        return if legacy {
            legacy_message(text, limits)
        } else {
            Err(DecodeError::new(ErrorCode::Malformed, "a frame is a JSON object"))
        };
    }
    let shape = Shape::of(text);
    if shape.depth > limits.json_depth {
        return Err(too_large("nesting", limits.json_depth, "levels"));
    }
    if shape.members > MEMBERS {
        return Err(too_large("frame", MEMBERS, "members"));
    }
    let object: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| DecodeError::new(ErrorCode::Malformed, json_error(text, &error)))?;
    Fields { object, limits }.envelope(legacy)
}

/// Decodes a binary frame as UTF-8 text, like [`decode`].
///
/// # Errors
/// If the frame is not UTF-8, and those of [`decode`].
pub fn decode_binary(
    bytes: &[u8],
    limits: &Limits,
    legacy: bool,
) -> Result<Option<ClientEnvelope>, DecodeError> {
    match core::str::from_utf8(bytes) {
        Ok(text) => decode(text, limits, legacy),
        Err(_) => Err(DecodeError::new(ErrorCode::Malformed, "a frame is UTF-8 text")),
    }
}

fn legacy_message(text: &str, limits: &Limits) -> Result<Option<ClientEnvelope>, DecodeError> {
    let content = text.trim();
    if content.is_empty() {
        return Ok(None);
    }
    check_text(content, limits)?;
    Ok(Some(ClientEnvelope::Legacy { content: content.to_owned() }))
}

/// Checks the size of a message's content, both as it is and in JSON, in which escaped characters count as escaped.
fn check_text(content: &str, limits: &Limits) -> Result<(), DecodeError> {
    if content.len() > limits.text_bytes || json_bytes(content) > limits.text_bytes {
        return Err(too_large("content", limits.text_bytes, "bytes"));
    }
    Ok(())
}

fn too_large(what: &str, limit: usize, unit: &str) -> DecodeError {
    DecodeError::new(ErrorCode::TooLarge, format!("{what} is over the limit of {limit} {unit}"))
}

/// Says where the text stops being JSON, without repeating any of the text.
fn json_error(text: &str, error: &serde_json::Error) -> String {
    if text.starts_with('[') {
        return "a frame is a JSON object, not an array".to_owned();
    }
    match error.classify() {
        serde_json::error::Category::Eof => "invalid JSON: it ends early".to_owned(),
        serde_json::error::Category::Syntax | serde_json::error::Category::Data => {
            format!("invalid JSON at line {} column {}", error.line(), error.column())
        }
        serde_json::error::Category::Io => "invalid JSON".to_owned(),
    }
}

/// The size of a frame's parsed tree, determined without building the tree.
#[derive(Default)]
struct Shape {
    /// The deepest nesting, in levels.
    depth: usize,
    /// An upper bound of the number of members and items: one for each comma, and one for each object or array.
    members: usize,
}

impl Shape {
    fn of(text: &str) -> Self {
        let mut shape = Self::default();
        let (mut now, mut in_string, mut escaped) = (0_usize, false, false);
        for byte in text.bytes() {
            if in_string {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => {
                    now += 1;
                    shape.depth = shape.depth.max(now);
                    shape.members += 1;
                }
                b',' => shape.members += 1,
                b'}' | b']' => now = now.saturating_sub(1),
                _ => {}
            }
        }
        shape
    }
}

struct Fields<'a> {
    object: Map<String, Value>,
    limits: &'a Limits,
}

impl Fields<'_> {
    fn envelope(mut self, legacy: bool) -> Result<Option<ClientEnvelope>, DecodeError> {
        match self.object.remove("type") {
            Some(Value::String(kind)) => match self.typed(&kind) {
                Ok(envelope) => Ok(Some(envelope)),
                Err(error) => Err(self.locate(error)),
            },
            Some(_) => Err(DecodeError::new(ErrorCode::InvalidField, "type is not a string")),
            None if legacy => self.untyped(),
            None => Err(DecodeError::new(ErrorCode::MissingField, "missing type")),
        }
    }

    fn untyped(&self) -> Result<Option<ClientEnvelope>, DecodeError> {
        self.unserved("message")?;
        let content = ["content", "text", "message"]
            .iter()
            .filter_map(|name| self.object.get(*name)?.as_str())
            .find(|text| !text.trim().is_empty());
        legacy_message(content.unwrap_or(""), self.limits)
    }

    fn typed(&mut self, kind: &str) -> Result<ClientEnvelope, DecodeError> {
        self.unserved(kind)?;
        Ok(match kind {
            "authenticate" => ClientEnvelope::Authenticate { token: self.required_string("token")? },
            "new_chat" => ClientEnvelope::NewChat {},
            "attach" => ClientEnvelope::Attach { chat_id: self.chat_id()?, after: self.cursor("after")? },
            "detach" => ClientEnvelope::Detach { chat_id: self.chat_id()? },
            "message" => self.message()?,
            "cancel" => ClientEnvelope::Cancel { chat_id: self.chat_id()?, turn_id: self.turn_id()? },
            "respond" => ClientEnvelope::Respond {
                chat_id: self.chat_id()?,
                request_id: RequestId::parse(&self.required_string("request_id")?)?,
                answer: self.answer()?,
            },
            "request_input" => ClientEnvelope::RequestInput {
                chat_id: self.chat_id()?,
                request_id: RequestId::parse(&self.required_string("request_id")?)?,
                offset: self.offset()?,
            },
            "set_goal_state" => {
                ClientEnvelope::SetGoalState { chat_id: self.chat_id()?, goal_state: self.goal_state()? }
            }
            "list_chats" => ClientEnvelope::ListChats {
                before: self.page_cursor("before")?,
                limit: self.small_number("limit")?,
            },
            "history" => ClientEnvelope::History {
                chat_id: self.chat_id()?,
                before: self.page_cursor("before")?,
                limit: self.small_number("limit")?,
            },
            "rename_chat" => ClientEnvelope::RenameChat { chat_id: self.chat_id()?, title: self.title()? },
            "delete_chat" => ClientEnvelope::DeleteChat { chat_id: self.chat_id()? },
            "ping" => ClientEnvelope::Ping { nonce: self.short_string("nonce", 128)? },
            kind if unserved::TYPES.contains(&kind) => return Err(unserved_error(kind)),
            kind => {
                let shown: String = kind.chars().filter(|c| !c.is_control()).take(64).collect();
                return Err(DecodeError::new(ErrorCode::UnknownType, format!("unknown type: '{shown}'")));
            }
        })
    }

    /// Adds the chat, turn and request of the refused frame to the error, so that a client can match the error.
    fn locate(&self, mut error: DecodeError) -> DecodeError {
        let text = |name: &str| self.object.get(name).and_then(Value::as_str);
        error.chat_id = text("chat_id").and_then(|id| ChatId::parse(id).ok());
        error.turn_id = text("turn_id").and_then(|id| TurnId::parse(id).ok());
        error.request_id = text("request_id").and_then(|id| RequestId::parse(id).ok());
        error
    }

    fn message(&mut self) -> Result<ClientEnvelope, DecodeError> {
        let chat_id = self.chat_id()?;
        let turn_id = self.turn_id()?;
        if turn_id.as_ref().is_some_and(TurnId::is_of_agent) {
            let detail = "turn_id must not begin with '~': the turns that an agent begins have such ids";
            return Err(DecodeError::new(ErrorCode::InvalidField, detail));
        }
        let content = match self.object.get("content") {
            Some(Value::String(content)) => content.clone(),
            Some(Value::Null) | None => return Err(missing("content")),
            Some(_) => return Err(wrong_type("content", "a string")),
        };
        if content.trim().is_empty() {
            return Err(missing("content"));
        }
        check_text(&content, self.limits)?;
        Ok(ClientEnvelope::Message(Message { chat_id, content, turn_id }))
    }

    fn unserved(&self, kind: &str) -> Result<(), DecodeError> {
        unserved::field(kind, &self.object).map_or(Ok(()), |name| Err(unserved_error(name)))
    }

    fn title(&self) -> Result<String, DecodeError> {
        let title = self.required_string("title")?;
        let title = title.trim();
        if title.is_empty() {
            return Err(missing("title"));
        }
        if title.len() > TITLE_BYTES {
            return Err(too_large("title", TITLE_BYTES, "bytes"));
        }
        if title.contains(char::is_control) {
            return Err(wrong_type("title", "one line of text without control characters"));
        }
        Ok(title.to_owned())
    }

    fn answer(&mut self) -> Result<Answer, DecodeError> {
        match self.required_string("decision")?.as_str() {
            "allow" => Ok(Answer::Allow { input_sha256: self.input_sha256()? }),
            "deny" => Ok(Answer::Deny { message: self.text("message")? }),
            "answer" => Ok(Answer::Answer { answers: self.answers()? }),
            _ => Err(DecodeError::new(
                ErrorCode::InvalidField,
                "decision is not one of 'allow', 'deny', 'answer'",
            )),
        }
    }

    fn input_sha256(&mut self) -> Result<Option<String>, DecodeError> {
        let hash = self.short_string("input_sha256", 64)?;
        match hash {
            Some(hash)
                if hash.len() != 64 || !hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) =>
            {
                Err(wrong_type("input_sha256", "64 hexadecimal digits in lower case"))
            }
            hash => Ok(hash),
        }
    }

    fn offset(&mut self) -> Result<u64, DecodeError> {
        match self.object.remove("offset") {
            None | Some(Value::Null) => Ok(0),
            Some(value) => value.as_u64().ok_or_else(|| wrong_type("offset", "a whole number from 0 up")),
        }
    }

    fn answers(&mut self) -> Result<BTreeMap<String, Vec<String>>, DecodeError> {
        let Some(Value::Object(given)) = self.object.get("answers") else {
            return Err(if self.object.contains_key("answers") {
                wrong_type("answers", "an object")
            } else {
                missing("answers")
            });
        };
        let bytes: usize = given.iter().map(|(question, answer)| question.len() + text_size(answer)).sum();
        if bytes > self.limits.text_bytes {
            return Err(too_large("answers", self.limits.text_bytes, "bytes"));
        }
        given
            .iter()
            .map(|(question, answer)| {
                let texts = match answer {
                    Value::String(text) => Some(Vec::from([text.clone()])),
                    Value::Array(items) => {
                        items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
                    }
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
                };
                texts
                    .map(|texts| (question.clone(), texts))
                    .ok_or_else(|| wrong_type("answers", "an object of strings or arrays of strings"))
            })
            .collect()
    }

    fn goal_state(&mut self) -> Result<GoalState, DecodeError> {
        let Some(Value::Object(given)) = self.object.get("goal_state") else {
            return Err(if self.object.contains_key("goal_state") {
                wrong_type("goal_state", "an object")
            } else {
                missing("goal_state")
            });
        };
        let mut fields = Fields { object: given.clone(), limits: self.limits };
        let active = match fields.object.remove("active") {
            Some(Value::Bool(active)) => active,
            Some(_) => return Err(wrong_type("goal_state.active", "true or false")),
            None => return Err(missing("goal_state.active")),
        };
        let goal_state = GoalState {
            active,
            status: fields.short_string("status", 256)?,
            ui_summary: fields.short_string("ui_summary", 1024)?,
            objective: fields.short_string("objective", 16 * 1024)?,
            recap: fields.short_string("recap", 16 * 1024)?,
        };
        // A goal state has text only, so encoding it cannot fail.
        if serde_json::to_string(&goal_state).map_or(usize::MAX, |text| text.len()) > GOAL_BYTES {
            return Err(too_large("goal_state", GOAL_BYTES, "bytes of JSON"));
        }
        Ok(goal_state)
    }

    fn chat_id(&mut self) -> Result<ChatId, DecodeError> {
        match self.object.get("chat_id") {
            Some(Value::String(id)) => Ok(ChatId::parse(id)?),
            _ => Err(DecodeError::new(ErrorCode::InvalidField, "invalid chat_id")),
        }
    }

    fn turn_id(&mut self) -> Result<Option<TurnId>, DecodeError> {
        match self.object.get("turn_id") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(id)) => Ok(Some(TurnId::parse(id)?)),
            Some(_) => Err(DecodeError::new(ErrorCode::InvalidField, "invalid turn_id")),
        }
    }

    fn cursor(&mut self, name: &str) -> Result<Option<Cursor>, DecodeError> {
        let given = match self.object.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(given)) => given,
            Some(_) => return Err(wrong_type(name, "an object of epoch and seq")),
        };
        let epoch = given.get("epoch").and_then(Value::as_str).and_then(|epoch| Epoch::parse(epoch).ok());
        let seq = given.get("seq").and_then(Value::as_u64);
        match (epoch, seq) {
            (Some(epoch), Some(seq)) => Ok(Some(Cursor { epoch, seq })),
            (None, _) => Err(DecodeError::new(ErrorCode::InvalidField, format!("invalid {name}.epoch"))),
            (_, None) => Err(DecodeError::new(ErrorCode::InvalidField, format!("invalid {name}.seq"))),
        }
    }

    fn page_cursor(&mut self, name: &str) -> Result<Option<String>, DecodeError> {
        self.short_string(name, 256)
    }

    fn short_string(&mut self, name: &str, longest: usize) -> Result<Option<String>, DecodeError> {
        match self.object.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= longest => Ok(Some(text)),
            Some(Value::String(_)) => Err(too_large(name, longest, "bytes")),
            Some(_) => Err(wrong_type(name, "a string")),
        }
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, DecodeError> {
        self.short_string(name, self.limits.text_bytes)
    }

    fn required_string(&self, name: &str) -> Result<String, DecodeError> {
        match self.object.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Null) | None => Err(missing(name)),
            Some(_) => Err(wrong_type(name, "a string")),
        }
    }

    fn small_number(&mut self, name: &str) -> Result<Option<u32>, DecodeError> {
        match self.object.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
                Some(number) if number > 0 => Ok(Some(number)),
                _ => Err(wrong_type(name, "a whole number from 1 up")),
            },
        }
    }
}

fn unserved_error(name: &str) -> DecodeError {
    DecodeError::new(ErrorCode::Unsupported, format!("'{name}' is not served here"))
}

fn missing(name: &str) -> DecodeError {
    DecodeError::new(ErrorCode::MissingField, format!("missing {name}"))
}

fn wrong_type(name: &str, expected: &str) -> DecodeError {
    DecodeError::new(ErrorCode::InvalidField, format!("{name} is not {expected}"))
}

fn text_size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string().len()
        }
    }
}
