//! Cutting texts to the size that they may have in an event.

use alloc::string::String;

use serde::Serialize;
use serde_json::Value;

use crate::wire::json_length;

/// Splits a text at character boundaries into pieces of at most `limit` bytes of JSON.
pub(super) fn pieces(text: &str, limit: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, tail) = rest.split_at(boundary(rest, limit));
        rest = tail;
        Some(piece)
    })
}

/// The length in bytes of the longest start of `text` that takes at most `limit` bytes of JSON, but of one character at
/// least.
pub(super) fn boundary(text: &str, limit: usize) -> usize {
    // JSON takes at most six times a character's bytes.
    if text.len() <= limit / 6 {
        return text.len();
    }
    let mut json = 0;
    for (at, letter) in text.char_indices() {
        json += json_length(letter);
        if json > limit {
            return if at == 0 { letter.len_utf8() } else { at };
        }
    }
    text.len()
}

/// Whether a text has at most `limit` bytes in JSON.
pub(super) fn is_short(text: &str, limit: usize) -> bool {
    boundary(text, limit) == text.len()
}

/// The size of a value in JSON, in bytes.
pub(super) fn json_size(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}

pub(super) fn cut(mut text: String, limit: usize) -> (String, bool) {
    let end = boundary(&text, limit);
    let was_cut = end < text.len();
    text.truncate(end);
    (text, was_cut)
}

/// Truncates the strings of a value so that it fits. If that is not enough, the result is the start of the value's JSON
/// text, as a string.
pub(super) fn cut_value(value: Value, limit: usize) -> (Value, bool) {
    if json_size(&value) <= limit {
        return (value, false);
    }
    let mut value = value;
    cut_strings(&mut value, limit / 8);
    if json_size(&value) <= limit {
        return (value, true);
    }
    let text = serde_json::to_string(&value).unwrap_or_default();
    (Value::String(cut(text, limit).0), true)
}

fn cut_strings(value: &mut Value, limit: usize) {
    match value {
        Value::String(text) => *text = cut(core::mem::take(text), limit).0,
        Value::Array(items) => items.iter_mut().for_each(|item| cut_strings(item, limit)),
        Value::Object(fields) => fields.values_mut().for_each(|field| cut_strings(field, limit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;

    #[test]
    fn texts_are_measured_as_they_stand_in_a_frame() {
        assert_eq!(boundary("plain", 5), 5);
        assert_eq!(boundary("plain", 4), 4);
        assert_eq!(boundary("\"quoted\"", 9), 7, "a quote takes two");
        assert_eq!(boundary("a\nb", 3), 2);
        assert_eq!(boundary("\u{1b}[1m", 8), 3, "an escape takes six");
        assert_eq!(boundary("aé", 2), 1, "a character is not cut");
        assert_eq!(boundary("é", 1), 2, "there is always progress");
        assert_eq!(boundary("", 0), 0);
        assert_eq!(pieces("abécd", 3).collect::<Vec<_>>(), vec!["ab", "éc", "d"]);
        let json = |text: &str| serde_json::to_string(text).expect("a text").len() - 2;
        let text: String = (0..4000_u32).filter_map(|n| char::from_u32(n % 300)).collect();
        assert!(pieces(&text, 100).all(|piece| json(piece) <= 100));
    }
}
