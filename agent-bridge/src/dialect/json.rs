//! The JSON of a line of output, whatever else is on the line, read leniently: what one member has wrong costs that member.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

/// The JSON objects of a line that may also contain other text, for example from another program that writes to the
/// same output. Objects inside of an incomplete object are not searched for: the agent's model could have written them.
pub(in crate::dialect) fn objects(text: &str) -> Vec<&str> {
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
pub(in crate::dialect) fn has_surrogate(text: &str) -> bool {
    [b"\\ud", b"\\uD"].iter().any(|escape| memchr::memmem::find(text.as_bytes(), *escape).is_some())
}

/// The text without halves of surrogate pairs, as [`without_halves`] gives it.
pub(in crate::dialect) fn whole_characters(text: &str) -> Cow<'_, str> {
    if has_surrogate(text) { without_halves(text).into() } else { text.into() }
}

/// Replaces halves of surrogate pairs that stand alone (`\ud83d`) by `\ufffd`. JavaScript writes them, and serde refuses
/// them.
pub(in crate::dialect) fn without_halves(text: &str) -> String {
    halves(text, |_| false).0
}

/// [`without_halves`], but a half for which `ends` is true ends the text, and is returned.
pub(in crate::dialect) fn halves(text: &str, ends: impl Fn(usize) -> bool) -> (String, Option<u16>) {
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

/// JSON text as a value. Text that does not fit a `Value`, for example because it is nested too deep, stays text.
pub(in crate::dialect) fn value(json: &str) -> Value {
    if json.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(json).unwrap_or_else(|_| json.into())
}

/// Reads JSON that was left unparsed. `None` if it is missing, or no `T`.
pub(in crate::dialect) fn parse<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
}

pub(in crate::dialect) fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

pub(in crate::dialect) fn lenient_text<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    lenient(deserializer).map(Option::unwrap_or_default)
}

/// The beginning of a JSON object that was cut off, as whole objects.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::dialect) struct TruncatedObject {
    /// The object with those of its members that are whole.
    pub(in crate::dialect) members: String,
    /// The object with all that is whole in it, however deep.
    pub(in crate::dialect) parts: String,
}

impl TruncatedObject {
    /// Reads the beginning of an object; `None` if there is none.
    pub(in crate::dialect) fn read(text: &str) -> Option<Self> {
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
