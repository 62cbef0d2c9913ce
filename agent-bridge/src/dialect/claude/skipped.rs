//! A line that was too long to be kept: what its beginning tells.

use super::{
    lines,
    media::Content,
    records::{self, Line, Message, TurnResult, parse},
    state::ClaudeCodec,
    tools::UsedIn,
};
use crate::dialect::{Decoded, json::TruncatedObject};

impl ClaudeCodec {
    /// Handles a line of `bytes` bytes, of which only the first ones are known: a result ends its turn, and the result
    /// of a tool use ends the use.
    pub(super) fn skipped_line(&mut self, position: u64, prefix: &[u8], bytes: u64, out: &mut Decoded) {
        let text = lines::without_halves(&String::from_utf8_lossy(prefix));
        let Some(TruncatedObject { members, parts }) = TruncatedObject::read(&text) else {
            return out.skipped(bytes);
        };
        let (Ok(whole), Ok(part)) =
            (serde_json::from_str::<Line<'_>>(&members), serde_json::from_str::<Line<'_>>(&parts))
        else {
            return out.skipped(bytes);
        };
        let result: TurnResult = serde_json::from_str(&members).unwrap_or_default();
        // The agent writes the type of a result behind its text, and only a result has a cost.
        let is_result = whole.kind.is_empty() && result.total_cost_usd.is_some();
        match &*whole.kind {
            "user" if is_of_tools(&whole) => self.line(position, 0, &members, &whole, out),
            "user" => self.result_too_long(&part, bytes, out),
            kind if kind == "result" || is_result => {
                self.listed_work_begins(None, out);
                let lost = result.result.is_none().then_some(bytes);
                self.turn_result(&result, lost, out);
            }
            _ => out.skipped(bytes),
        }
    }

    /// Ends the tool uses whose results are on a line that was cut off within its message.
    fn result_too_long(&mut self, line: &Line<'_>, bytes: u64, out: &mut Decoded) {
        let message = parse::<Message<'_>>(line.message);
        let mut any_ended = false;
        for block in message.into_iter().flat_map(|message| records::blocks(message.content)) {
            let Some(id) = block.tool_use_id else { continue };
            let place = UsedIn { parent: line.parent_tool_use_id.as_deref(), message: "" };
            let content = Content::too_long(block.content, bytes);
            any_ended |= self.tool_ended(place, &id, content, block.is_error == Some(true), out).is_some();
        }
        if !any_ended {
            out.skipped(bytes);
        }
    }
}

/// Whether the line has a result of a tool use, and its whole message.
fn is_of_tools(line: &Line<'_>) -> bool {
    let message = parse::<Message<'_>>(line.message);
    let mut blocks = message.into_iter().flat_map(|message| records::blocks(message.content));
    blocks.any(|block| block.tool_use_id.is_some())
}
