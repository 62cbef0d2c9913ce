//! One turn of the demo agent: writes output at a limited pace, and stops when interrupted.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    input::{Input, Prompt},
    output::Output,
    task::Task,
};

/// The state of the demo agent's process.
#[derive(Debug)]
pub(super) struct DemoState {
    pub(super) resumed: bool,
    pub(super) turns: u64,
    pub(super) total_usd: f64,
    /// The background tasks that run.
    pub(super) tasks: Vec<Task>,
}

/// Delay per token: about 50 tokens per second.
pub(super) const PACE: Duration = Duration::from_millis(20);

/// Why a turn ends before its answer is complete.
#[derive(Debug)]
pub(super) enum Stop {
    Interrupted,
    /// The model failed, with this HTTP status and sentence.
    Failed(u64, String),
    /// The process exits with this status.
    Die(u8),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The state of the conversation and of the running turn.
#[derive(Debug)]
pub(super) struct Turn<'a, W: Write> {
    pub(super) out: &'a mut Output<W>,
    pub(super) inputs: &'a Receiver<Input>,
    pub(super) queue: &'a mut VecDeque<Prompt>,
    pub(super) pace: Duration,
    /// Number of tokens in the answer.
    pub(super) tokens: u64,
    pub(super) said: String,
    open: Option<OpenBlock>,
    next_index: u64,
    in_message: bool,
}

#[derive(Debug)]
struct OpenBlock {
    index: u64,
    thinking: bool,
    text: String,
}

impl<'a, W: Write> Turn<'a, W> {
    pub(super) fn new(
        out: &'a mut Output<W>,
        inputs: &'a Receiver<Input>,
        queue: &'a mut VecDeque<Prompt>,
    ) -> Self {
        let (said, open) = (String::new(), None);
        Self { out, inputs, queue, pace: PACE, tokens: 0, said, open, next_index: 0, in_message: false }
    }

    pub(super) fn think(&mut self, text: &str) -> Result<(), Stop> {
        self.open(true)?;
        self.pieces(text)?;
        self.close()
    }

    /// Writes a text, token by token.
    pub(super) fn say(&mut self, text: &str) -> Result<(), Stop> {
        self.open(false)?;
        self.pieces(text)?;
        self.close()
    }

    /// Writes a text at once, in a block that stays open until [`Self::close`].
    pub(super) fn piece(&mut self, text: &str) -> Result<(), Stop> {
        let Some(block) = &mut self.open else { return Ok(()) };
        let (kind, field) =
            if block.thinking { ("thinking_delta", "thinking") } else { ("text_delta", "text") };
        block.text.push_str(text);
        self.tokens += 1;
        Ok(self.out.piece(block.index, kind, field, text)?)
    }

    fn pieces(&mut self, text: &str) -> Result<(), Stop> {
        for token in tokens(text) {
            self.piece(token)?;
            self.out.flush()?;
            self.pause(self.pace)?;
        }
        Ok(())
    }

    pub(super) fn open(&mut self, thinking: bool) -> Result<(), Stop> {
        self.begin_message()?;
        let index = self.next_index;
        self.next_index += 1;
        let block = if thinking {
            json!({"type": "thinking", "thinking": ""})
        } else {
            json!({"type": "text", "text": ""})
        };
        self.out.block_start(index, block)?;
        self.open = Some(OpenBlock { index, thinking, text: String::new() });
        Ok(())
    }

    pub(super) fn close(&mut self) -> Result<(), Stop> {
        let Some(block) = self.open.take() else { return Ok(()) };
        let (kind, field) = if block.thinking { ("thinking", "thinking") } else { ("text", "text") };
        self.out.assistant(&json!({"type": kind, field: block.text}), false)?;
        self.out.block_stop(block.index)?;
        if !block.thinking {
            self.said = block.text;
        }
        Ok(self.out.flush()?)
    }

    /// Uses a tool. Returns the id of the tool use.
    pub(super) fn use_tool(&mut self, name: &str, input: &Value) -> Result<String, Stop> {
        self.begin_message()?;
        let (id, index) = (self.out.id("toolu"), self.next_index);
        self.next_index += 1;
        self.out.block_start(index, json!({"type": "tool_use", "id": id, "name": name, "input": {}}))?;
        self.out.piece(index, "input_json_delta", "partial_json", &input.to_string())?;
        self.out.assistant(&json!({"type": "tool_use", "id": id, "name": name, "input": input}), false)?;
        self.out.block_stop(index)?;
        self.end_message()?;
        Ok(id)
    }

    fn begin_message(&mut self) -> Result<(), Stop> {
        if !self.in_message {
            self.in_message = true;
            self.next_index = 0;
            self.out.message_start()?;
        }
        Ok(())
    }

    pub(super) fn end_message(&mut self) -> Result<(), Stop> {
        if std::mem::take(&mut self.in_message) {
            self.out.message_stop()?;
        }
        Ok(())
    }

    /// Gives up the current message, as after a broken connection to the model.
    pub(super) fn abandon(&mut self) -> Result<(), Stop> {
        if let Some(block) = self.open.take() {
            self.out.block_stop(block.index)?;
        }
        self.in_message = false;
        self.out.message_abandoned(0)?;
        Ok(self.out.flush()?)
    }

    /// Ends the open block and message after an interrupt; the text so far is valid.
    pub(super) fn aborted(&mut self) -> io::Result<()> {
        if let Some(block) = self.open.take() {
            let (kind, field) = if block.thinking { ("thinking", "thinking") } else { ("text", "text") };
            self.out.assistant(&json!({"type": kind, field: block.text}), true)?;
            self.out.block_stop(block.index)?;
        }
        if std::mem::take(&mut self.in_message) {
            self.out.message_abandoned(self.next_index)?;
        }
        Ok(())
    }

    /// Sends a permission request or a question and waits for the answer.
    pub(super) fn ask(&mut self, tool: &str, input: &Value, use_id: &str) -> Result<Value, Stop> {
        let id = self.out.id("req");
        let request = json!({"subtype": "can_use_tool", "tool_name": tool, "input": input, "tool_use_id": use_id,
            "description": input["description"]});
        self.out.line(&json!({"type": "control_request", "request_id": id, "request": request}))?;
        self.out.flush()?;
        loop {
            match self.inputs.recv() {
                Ok(Input::Answer { request_id, answer }) if request_id == id => return Ok(answer),
                Ok(input) => match self.receive(input) {
                    Err(Stop::Interrupted) => {
                        self.out.line(&json!({"type": "control_cancel_request", "request_id": id}))?;
                        self.out.tool_result(
                            use_id,
                            "The user doesn't want to proceed.",
                            true,
                            Value::Null,
                        )?;
                        return Err(Stop::Interrupted);
                    }
                    heard => heard?,
                },
                // The input has ended, so no answer will come.
                Err(_) => return Err(Stop::Die(1)),
            }
        }
    }

    /// Waits for `duration`, and handles input meanwhile.
    pub(super) fn pause(&mut self, duration: Duration) -> Result<(), Stop> {
        let until = Instant::now() + duration;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.inputs.recv_timeout(left) {
                Ok(input) => self.receive(input)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(left);
                    return Ok(());
                }
            }
        }
    }

    /// Waits until the turn is interrupted.
    pub(super) fn hang(&mut self) -> Result<(), Stop> {
        loop {
            match self.inputs.recv() {
                Ok(input) => self.receive(input)?,
                Err(_) => return Err(Stop::Die(1)),
            }
        }
    }

    fn receive(&mut self, input: Input) -> Result<(), Stop> {
        match input {
            Input::Interrupt { request_id } => {
                self.out.control_success(&request_id, json!({"still_queued": []}))?;
                Err(Stop::Interrupted)
            }
            Input::Control { request_id, .. } => Ok(self.out.control_success(&request_id, json!({}))?),
            Input::Prompt(prompt) => {
                self.queue.push_back(prompt);
                Ok(())
            }
            Input::Answer { .. } | Input::Due(_) => Ok(()),
            Input::Garbage => Err(Stop::Die(1)),
        }
    }
}

/// Splits a text into words with the space before them, and long words into pieces, as a model would.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut end = 0;
        let mut in_word = false;
        for (at, c) in rest.char_indices() {
            let space = c.is_whitespace();
            if (in_word && space) || at >= 8 {
                break;
            }
            in_word |= !space;
            end = at + c.len_utf8();
        }
        let (token, after) = rest.split_at(end);
        rest = after;
        (!token.is_empty()).then_some(token)
    })
}
