//! The JSON of a line of output, whatever else is on the line.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// The line as text that the JSON parser accepts.
pub(super) fn readable(text: Cow<'_, str>) -> Cow<'_, str> {
    if has_surrogate(&text) { replace_lone_surrogates(&text).into() } else { text }
}

/// The JSON objects of a line that may also contain other text, for example from another program that writes to the
/// same output. Objects inside of an incomplete object are not searched for.
pub(super) fn objects(text: &str) -> Vec<&str> {
    if serde_json::from_str::<&RawValue>(text).is_ok() {
        return vec![text];
    }
    let start = memchr::memmem::find(text.as_bytes(), b"{\"");
    let values =
        serde_json::Deserializer::from_str(&text[start.unwrap_or(text.len())..]).into_iter::<&RawValue>();
    values.map_while(Result::ok).map(RawValue::get).collect()
}

fn has_surrogate(text: &str) -> bool {
    [b"\\ud", b"\\uD"].iter().any(|escape| memchr::memmem::find(text.as_bytes(), *escape).is_some())
}

/// Replaces unpaired surrogate escapes (`\ud83d`) by `\ufffd`. JavaScript writes them, and serde refuses them.
fn replace_lone_surrogates(text: &str) -> String {
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
    out
}
