//! The JSON of a line of output, whatever else is on the line.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::records::{Delta, Line, lenient, parse};

/// The JSON objects of a line that may also contain other text, for example from another program that writes to the
/// same output. Objects inside of an incomplete object are not searched for: the agent's model could have written them.
pub(super) fn objects(text: &str) -> Vec<&str> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(start) = next_object(text, at) {
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<&RawValue>();
        at = match values.next() {
            Some(Ok(object)) => {
                found.push(object.get());
                start + values.byte_offset()
            }
            // In an object that was cut off, the next object looks like a string that ends early: `"abc{"type"`.
            Some(Err(error)) if !error.is_eof() => start + error.column().saturating_sub(3).max(1),
            Some(Err(_)) | None => break,
        };
    }
    found
}

/// Where an object with a member begins, from `at` on.
fn next_object(text: &str, mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr(b'{', &text.as_bytes()[at..])?;
        if text[at + 1..].trim_start().starts_with('"') {
            return Some(at);
        }
        at += 1;
    }
}

/// Whether a text may contain a half of a surrogate pair.
pub(super) fn has_surrogate(text: &str) -> bool {
    [b"\\ud", b"\\uD"].iter().any(|escape| memchr::memmem::find(text.as_bytes(), *escape).is_some())
}

/// The text without halves of surrogate pairs, as [`without_halves`] gives it.
pub(super) fn whole_characters(text: &str) -> Cow<'_, str> {
    if has_surrogate(text) { without_halves(text).into() } else { text.into() }
}

/// Replaces halves of surrogate pairs that stand alone (`\ud83d`) by `\ufffd`. JavaScript writes them, and serde refuses
/// them.
pub(super) fn without_halves(text: &str) -> String {
    halves(text, |_| false).0
}

/// [`without_halves`], but a half for which `ends` is true ends the text, and is returned.
fn halves(text: &str, ends: impl Fn(usize) -> bool) -> (String, Option<u16>) {
    let unit = |at: usize| -> Option<u16> {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let (mut at, mut copied) = (0, 0);
    while let Some(found) = memchr::memchr(b'\\', &bytes[at..]) {
        let escape = at + found;
        at = match (unit(escape), unit(escape + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => escape + 12,
            (Some(half @ 0xd800..=0xdbff), None) if ends(escape + 6) => {
                out.push_str(&text[copied..escape]);
                return (out, Some(half));
            }
            (Some(0xd800..=0xdfff), _) => {
                out.push_str(&text[copied..escape]);
                out.push_str("\\ufffd");
                copied = escape + 6;
                copied
            }
            _ => escape + 2,
        }
        .min(bytes.len());
    }
    out.push_str(&text[copied..]);
    (out, None)
}

/// A piece of a content block whose text may begin or end with half a character.
#[derive(Deserialize)]
pub(super) struct HalvedPiece<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    pub(super) index: u64,
    #[serde(borrow)]
    delta: HalvedDelta<'a>,
    /// The tool use that runs the subagent, if the piece is one of a subagent.
    #[serde(skip)]
    pub(super) subagent: Option<String>,
}

#[derive(Deserialize)]
struct HalvedDelta<'a> {
    #[serde(borrow, default, deserialize_with = "lenient")]
    text: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "lenient")]
    partial_json: Option<&'a RawValue>,
}

impl<'a> HalvedPiece<'a> {
    /// The piece that a line has, if it has one.
    pub(super) fn read(line: &'a str) -> Option<Self> {
        let line: Line<'a> = serde_json::from_str(line).ok()?;
        let event = line.event.filter(|_| line.kind == "stream_event");
        let piece: Self = parse(event)?;
        let subagent = line.subagent().map(Into::into);
        (piece.kind == "content_block_delta").then_some(Self { subagent, ..piece })
    }

    /// The piece behind the half character that the piece before has left, and the half that it leaves itself.
    pub(super) fn joined(&self, before: Option<u16>) -> (Delta<'static>, Option<u16>) {
        let HalvedDelta { text, thinking, partial_json } = &self.delta;
        let mut left = None;
        let mut join = |raw: &Option<&RawValue>| -> Cow<'static, str> {
            let quoted = raw.map(RawValue::get).unwrap_or_default();
            let Some(inner) = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
                return Cow::default();
            };
            let half = before.map(|half| format!("\\u{half:04x}")).unwrap_or_default();
            let inner = format!("{half}{inner}");
            let (text, half) = halves(&inner, |end| end == inner.len());
            left = half;
            serde_json::from_str::<String>(&format!("\"{text}\"")).unwrap_or_default().into()
        };
        let delta = Delta {
            text: join(text),
            thinking: join(thinking),
            partial_json: join(partial_json),
            ..Delta::default()
        };
        (delta, left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_beside_other_text() {
        for (line, expected) in [
            (r#"{"a":1}"#, vec![r#"{"a":1}"#]),
            ("\u{feff}{\"a\":1}\r", vec![r#"{"a":1}"#]),
            ("\0\0{\"a\":1}\0", vec![r#"{"a":1}"#]),
            (r#"npm notice {x} { "a":1}"#, vec![r#"{ "a":1}"#]),
            (r#"{"a":1}{"b":2} warn: {"c":3}"#, vec![r#"{"a":1}"#, r#"{"b":2}"#, r#"{"c":3}"#]),
            (r#"{"a":"cut{"b":2}"#, vec![r#"{"b":2}"#]),
            (r#"{"a" 1} {"b":2}"#, vec![r#"{"b":2}"#]),
            // What is inside of a cut object is not one of the agent's lines.
            (r#"{"a":{"b":2},"c":"#, vec![]),
            (r#"{"a":{"b":2},"c":x} "#, vec![]),
            ("{{{{", vec![]),
        ] {
            assert_eq!(objects(line), expected, "{line}");
        }
    }
}
