//! A fast path for the most frequent line, one piece of text or thinking: it is decoded without a JSON parser if it has
//! exactly the form that current versions of the agent write. All other lines go to the parser.

use std::borrow::Cow;

use super::records::Delta;

/// First part of such a line.
const BEGINNING: &str = r#"{"type":"stream_event","event":{"type":"content_block_delta","index":"#;

/// The index of the content block that the piece belongs to, and the piece. `None` if the parser must decode the line.
pub(super) fn piece(line: &str) -> Option<(u64, Delta<'_>)> {
    let rest = line.strip_prefix(BEGINNING)?;
    let (index, rest) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
    // JSON numbers have no leading zeros.
    let index = index.parse().ok().filter(|_| index == "0" || !index.starts_with('0'))?;
    let rest = rest.strip_prefix(r#","delta":{"type":""#)?;
    let (delta, rest) = if let Some(rest) = rest.strip_prefix(r#"text_delta","text":"#) {
        let (text, rest) = string(rest)?;
        (Delta { text, ..Delta::default() }, rest)
    } else {
        let (thinking, rest) = string(rest.strip_prefix(r#"thinking_delta","thinking":"#)?)?;
        (Delta { thinking, ..Delta::default() }, rest)
    };
    is_of_the_answer(rest.strip_prefix("}}")?).then_some((index, delta))
}

/// Whether `rest` is the end of a line, after further members that do not change its meaning.
fn is_of_the_answer(mut rest: &str) -> bool {
    let mut parent_seen = false;
    while let Some(member) = rest.strip_prefix(',') {
        let Some((key, value)) = string(member).and_then(|(key, rest)| Some((key, rest.strip_prefix(':')?)))
        else {
            return false;
        };
        rest = match (&*key, value.strip_prefix("null")) {
            // Only lines of a subagent have a parent.
            ("parent_tool_use_id", Some(rest)) if !parent_seen => {
                parent_seen = true;
                rest
            }
            ("session_id" | "uuid" | "api_message_id", Some(rest)) => rest,
            ("session_id" | "uuid" | "api_message_id", None) => match string(value) {
                Some((_, rest)) => rest,
                None => return false,
            },
            _ => return false,
        };
    }
    rest == "}"
}

/// Splits a JSON string off the front of a text. Returns the string and the rest.
fn string(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let inner = text.strip_prefix('"')?;
    let end = inner.bytes().position(ends_plain)?;
    match inner.as_bytes()[end] {
        b'"' => Some((inner[..end].into(), &inner[end + 1..])),
        b'\\' => escaped(text),
        _ => None,
    }
}

/// Whether a byte ends the run of unescaped characters of a string.
fn ends_plain(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// [`string`] for a string with escapes, which the JSON parser decodes.
fn escaped(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let string = strings.next()?.ok()?;
    Some((string.into(), &text[strings.byte_offset()..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const TAIL: &str =
        r#"}},"session_id":"s-1","parent_tool_use_id":null,"uuid":"u-1","api_message_id":"msg_1"}"#;

    fn line(index: &str, delta: &str) -> String {
        format!(r#"{BEGINNING}{index},"delta":{{"type":{delta}{TAIL}"#)
    }

    /// Decodes a line with the JSON parser.
    fn by_the_parser(line: &str) -> (u64, String, String) {
        let line: Value = serde_json::from_str(line).expect("what is recognised is JSON");
        assert_eq!(line["type"], "stream_event");
        assert!(line["parent_tool_use_id"].is_null());
        let event = &line["event"];
        assert_eq!(event["type"], "content_block_delta");
        let text = |key: &str| event["delta"][key].as_str().unwrap_or_default().to_owned();
        (event["index"].as_u64().unwrap(), text("text"), text("thinking"))
    }

    fn recognised(line: &str) -> Option<(u64, String, String)> {
        piece(line).map(|(index, delta)| (index, delta.text.into_owned(), delta.thinking.into_owned()))
    }

    #[test]
    fn pieces_as_they_are_written_are_recognised() {
        let text = line("0", r#""text_delta","text":"hé \"llo\"\n""#);
        assert_eq!(recognised(&text), Some((0, "hé \"llo\"\n".into(), String::new())));
        let thinking = line("12", r#""thinking_delta","thinking":"hm""#);
        assert_eq!(recognised(&thinking), Some((12, String::new(), "hm".into())));
        assert!(recognised(&text.replace(r#","api_message_id":"msg_1""#, "")).is_some());
    }

    #[test]
    fn unusual_lines_are_left_to_the_parser() {
        let good = line("0", r#""text_delta","text":"x""#);
        for (from, to) in [
            ("index\":0", "index\":00"),
            ("index\":0", "index\":-1"),
            ("index\":0", "index\":99999999999999999999"),
            ("text_delta", "citations_delta"),
            ("\"x\"", "\"x"),
            ("\"x\"", "\"\u{1}\""),
            ("\"x\"", "\"\\ud83d\""),
            ("\"x\"", "\"x\",\"text\":\"y\""),
            ("null", "\"toolu_1\""),
            ("null", "null,\"parent_tool_use_id\":null"),
            ("uuid", "event"),
            ("\"u-1\"", "7"),
            ("\"msg_1\"}", "\"msg_1\"}}"),
            ("\"msg_1\"}", "\"msg_1\""),
        ] {
            let changed = good.replacen(from, to, 1);
            assert_ne!(changed, good);
            assert_eq!(recognised(&changed), None, "{changed}");
        }
    }

    proptest! {
        #[test]
        fn a_recognised_line_gives_what_the_parser_reads(
            text in ".{0,20}", index in 0..300_u64, thinking: bool,
            cut in any::<prop::sample::Index>(), insert in "[\"\\\\,:{}0-9a-z \u{0}-\u{1f}]{0,2}", mutate: bool,
        ) {
            let (kind, key) = if thinking { ("thinking_delta", "thinking") } else { ("text_delta", "text") };
            let delta = format!("\"{kind}\",\"{key}\":{}", json!(text));
            let mut line = line(&index.to_string(), &delta);
            if mutate {
                let at = (0..=cut.index(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap();
                line.insert_str(at, &insert);
            }
            if let Some(found) = recognised(&line) {
                prop_assert_eq!(found, by_the_parser(&line));
            } else {
                prop_assert!(mutate, "{}", line);
            }
        }
    }
}
