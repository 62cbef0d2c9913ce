//! The output of the demo agent: stream-json lines.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    io::{self, BufWriter, Write},
};

use serde_json::{Value, json};

/// Writes lines. They are buffered until [`Output::flush`] or until the buffer is full.
#[derive(Debug)]
pub(super) struct Output<W: Write> {
    writer: BufWriter<W>,
    pub(super) session: String,
    pub(super) model: String,
    /// Differs in each process, so that ids are unique within a resumed session.
    salt: u64,
    ids: u64,
    message: String,
}

impl<W: Write> Output<W> {
    pub(super) fn new(writer: W, session: Option<String>) -> Self {
        let salt = RandomState::new().build_hasher().finish();
        let session = session.unwrap_or_else(|| uuid(salt));
        let writer = BufWriter::with_capacity(64 * 1024, writer);
        Self { writer, session, model: "switchboard-demo".into(), salt, ids: 0, message: String::new() }
    }

    pub(super) fn line(&mut self, line: &Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, line)?;
        self.writer.write_all(b"\n")
    }

    /// Writes a line unchanged, JSON or not.
    pub(super) fn raw(&mut self, line: &str) -> io::Result<()> {
        self.writer.write_all(line.as_bytes())?;
        self.writer.write_all(b"\n")
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    pub(super) fn id(&mut self, kind: &str) -> String {
        self.ids += 1;
        format!("{kind}_{:08x}{:04}", self.salt as u32, self.ids)
    }

    pub(super) fn system(&mut self, subtype: &str, mut fields: Value) -> io::Result<()> {
        fields["type"] = "system".into();
        fields["subtype"] = subtype.into();
        fields["session_id"] = self.session.clone().into();
        self.line(&fields)
    }

    pub(super) fn control_success(&mut self, request_id: &str, response: Value) -> io::Result<()> {
        let response = json!({"subtype": "success", "request_id": request_id, "response": response});
        self.line(&json!({"type": "control_response", "response": response}))?;
        self.flush()
    }

    pub(super) fn event(&mut self, event: Value) -> io::Result<()> {
        let session = &self.session;
        let line = json!({"type": "stream_event", "event": event, "session_id": session, "parent_tool_use_id": null});
        // The keys have the same order as in Claude Code, on which a decoder's fast path may depend.
        serde_json::to_writer(&mut self.writer, &Event::new(&line))?;
        self.writer.write_all(b"\n")
    }

    pub(super) fn message_start(&mut self) -> io::Result<()> {
        self.message = self.id("msg");
        let message = json!({"id": self.message, "type": "message", "role": "assistant", "model": self.model, "content": []});
        self.event(json!({"type": "message_start", "message": message}))
    }

    pub(super) fn block_start(&mut self, index: u64, block: Value) -> io::Result<()> {
        self.event(json!({"type": "content_block_start", "index": index, "content_block": block}))
    }

    /// Writes one streamed piece of a block.
    pub(super) fn piece(&mut self, index: u64, kind: &str, field: &str, text: &str) -> io::Result<()> {
        write!(
            self.writer,
            r#"{{"type":"stream_event","event":{{"type":"content_block_delta","index":{index},"delta":{{"type":"{kind}","{field}":"#
        )?;
        serde_json::to_writer(&mut self.writer, text)?;
        writeln!(self.writer, r#"}}}},"session_id":"{}","parent_tool_use_id":null}}"#, self.session)
    }

    /// Writes a complete block as an `assistant` line.
    pub(super) fn assistant(&mut self, block: &Value, aborted: bool) -> io::Result<()> {
        let message = json!({"id": self.message, "type": "message", "role": "assistant", "model": self.model, "content": [block]});
        let mut line = json!({"type": "assistant", "message": message, "parent_tool_use_id": null, "session_id": self.session});
        if aborted {
            line["aborted"] = true.into();
        }
        self.line(&line)
    }

    /// Writes a complete block of a subagent, which the tool use `parent` began.
    pub(super) fn inner(&mut self, parent: &str, block: &Value) -> io::Result<()> {
        let id = self.id("msg");
        let message = json!({"id": id, "type": "message", "role": "assistant", "model": self.model, "content": [block]});
        self.line(&json!({"type": "assistant", "message": message, "parent_tool_use_id": parent,
            "session_id": self.session}))?;
        self.flush()
    }

    /// Writes the result of a subagent's tool use.
    pub(super) fn inner_result(
        &mut self,
        parent: &str,
        id: &str,
        text: &str,
        failed: bool,
    ) -> io::Result<()> {
        let block = json!({"type": "tool_result", "tool_use_id": id, "content": text, "is_error": failed});
        self.line(&json!({"type": "user", "message": {"role": "user", "content": [block]},
            "parent_tool_use_id": parent, "session_id": self.session}))?;
        self.flush()
    }

    pub(super) fn block_stop(&mut self, index: u64) -> io::Result<()> {
        self.event(json!({"type": "content_block_stop", "index": index}))
    }

    pub(super) fn message_stop(&mut self) -> io::Result<()> {
        self.event(json!({"type": "message_stop"}))?;
        self.flush()
    }

    /// Writes that the message is given up and its blocks from index `from` on are void.
    pub(super) fn message_abandoned(&mut self, from: u64) -> io::Result<()> {
        let abandoned = json!({"api_message_id": self.message, "from_block_index": from});
        let event = json!({"type": "message_stop"});
        self.line(&json!({"type": "stream_event", "event": event, "session_id": self.session,
            "parent_tool_use_id": null, "abandoned_blocks": abandoned}))
    }

    pub(super) fn tool_result(
        &mut self,
        id: &str,
        text: &str,
        failed: bool,
        detail: Value,
    ) -> io::Result<()> {
        let block = json!({"type": "tool_result", "tool_use_id": id, "content": text, "is_error": failed});
        self.line(&json!({"type": "user", "message": {"role": "user", "content": [block]},
            "parent_tool_use_id": null, "session_id": self.session, "tool_use_result": detail}))?;
        self.flush()
    }
}

/// Serializes a line with its keys in the order `type`, `event`, the rest.
#[derive(serde::Serialize)]
struct Event<'a> {
    r#type: &'a Value,
    event: &'a Value,
    session_id: &'a Value,
    parent_tool_use_id: &'a Value,
}

impl<'a> Event<'a> {
    fn new(line: &'a Value) -> Self {
        Self {
            r#type: &line["type"],
            event: &line["event"],
            session_id: &line["session_id"],
            parent_tool_use_id: &line["parent_tool_use_id"],
        }
    }
}

fn uuid(salt: u64) -> String {
    let more = RandomState::new().build_hasher().finish();
    let hex = format!("{salt:016x}{more:016x}");
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
