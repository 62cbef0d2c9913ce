//! A line that was too long to be kept: what its beginning tells.

use super::{
    lines,
    media::Content,
    records::{self, Line, Message, TurnResult, parse},
    state::ClaudeCodec,
    tools::UsedIn,
};
use crate::dialect::Decoded;

/// The beginning of a JSON object that was cut off, as whole objects.
#[derive(Debug, PartialEq, Eq)]
struct TruncatedObject {
    /// The object with those of its members that are whole.
    members: String,
    /// The object with all that is whole in it, however deep.
    parts: String,
}

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

impl TruncatedObject {
    /// Reads the beginning of an object; `None` if there is none.
    fn read(text: &str) -> Option<Self> {
        let text = &text[text.find('{')?..];
        let mut closers = Vec::new();
        // Where the object may be cut: between its own members, and between any parts.
        let (mut members, mut parts) = (1, 1);
        let (mut in_string, mut escaped) = (false, false);
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'{' | b'[' => {
                    closers.push(if byte == b'{' { '}' } else { ']' });
                    parts = at + 1;
                }
                b'}' | b']' => {
                    closers.pop();
                    parts = at + 1;
                }
                b',' => parts = at,
                _ => {}
            }
            if closers.is_empty() {
                let whole = text[..=at].to_owned();
                return Some(Self { members: whole.clone(), parts: whole });
            }
            if !in_string && byte == b',' && closers.len() == 1 {
                members = at;
            }
        }
        let closers: String = closers.into_iter().rev().collect();
        Some(Self { members: format!("{}}}", &text[..members]), parts: text[..parts].to_owned() + &closers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_of_a_cut_object_is_kept() {
        for (text, members, parts) in [
            ("{", "{}", "{}"),
            (r#"{"a"#, "{}", "{}"),
            (r#"x{"a":1,"b":"#, r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":[{"b":"}","c":"d"#, "{}", r#"{"a":[{"b":"}"}]}"#),
            (r#"{"a":[1,2],"b":{"c":[3,{"d":"\"},"#, r#"{"a":[1,2]}"#, r#"{"a":[1,2],"b":{"c":[3,{}]}}"#),
            (r#"{"a":1} x"#, r#"{"a":1}"#, r#"{"a":1}"#),
        ] {
            let expected = TruncatedObject { members: members.into(), parts: parts.into() };
            assert_eq!(TruncatedObject::read(text), Some(expected), "{text}");
        }
        assert_eq!(TruncatedObject::read("[1"), None);
    }
}
