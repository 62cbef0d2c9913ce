//! The beginning of a tool's input while the model still writes it: when it is shown, and as which value.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{lines, records};
use crate::limits::{TOOL_UPDATE_FIRST_BYTES, TOOL_UPDATE_LONGEST_BYTES};

/// How much of a growing input was shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Shown {
    bytes: usize,
}

impl Shown {
    /// What is to be shown of the input, if it has grown by half since it was shown. The longest beginning is shown once,
    /// so that all beginnings together are at most four times as long.
    pub(super) fn grown(&mut self, input: &str) -> Option<Value> {
        let due = (self.bytes + self.bytes / 2).max(TOOL_UPDATE_FIRST_BYTES);
        if self.bytes >= TOOL_UPDATE_LONGEST_BYTES || input.len() < due {
            return None;
        }
        self.bytes = input.len();
        Some(value_of_beginning(&input[..input.floor_char_boundary(TOOL_UPDATE_LONGEST_BYTES)]))
    }
}

/// The value of JSON that ends anywhere: its texts, lists and objects end there, too. A member without a value, and a
/// number or a word that may go on, are left out. JSON of which no start can be completed stays text.
fn value_of_beginning(json: &str) -> Value {
    let mut scan = Scan::default();
    for (at, byte) in json.bytes().enumerate() {
        scan.byte(at, byte);
    }
    let Completable { end, depth, in_text } = scan.completable;
    let mut completed = json[..end].to_owned();
    if completed.is_empty() {
        return json.into();
    }
    if in_text {
        completed.push('"');
    }
    completed.extend(scan.closers[..depth].iter().rev());
    records::value(&lines::whole_characters(&completed))
}

/// Follows JSON byte by byte.
#[derive(Debug, Default)]
struct Scan {
    /// The brackets that close the open lists and objects, the innermost last.
    closers: Vec<char>,
    text: Option<Text>,
    /// Bytes that are left of an escape.
    escape: u8,
    /// Whether the next text is the name of a member.
    expects_name: bool,
    completable: Completable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Name,
    Value,
}

/// The longest start of the JSON that a quote and brackets complete.
#[derive(Debug, Default, Clone, Copy)]
struct Completable {
    end: usize,
    /// How many lists and objects are open there.
    depth: usize,
    /// Whether it ends in a text.
    in_text: bool,
}

impl Scan {
    fn byte(&mut self, at: usize, byte: u8) {
        if let Some(text) = self.text {
            return self.byte_of_text(at, byte, text);
        }
        match byte {
            b'"' if self.expects_name => self.text = Some(Text::Name),
            b'"' => {
                self.text = Some(Text::Value);
                self.completable_up_to(at + 1);
            }
            b'{' | b'[' => {
                self.closers.push(if byte == b'{' { '}' } else { ']' });
                self.expects_name = byte == b'{';
                self.completable_up_to(at + 1);
            }
            b'}' | b']' => {
                self.closers.pop();
                self.completable_up_to(at + 1);
            }
            b',' => {
                self.completable_up_to(at);
                self.expects_name = self.closers.last() == Some(&'}');
            }
            b':' => self.expects_name = false,
            _ => {}
        }
    }

    fn byte_of_text(&mut self, at: usize, byte: u8, text: Text) {
        match byte {
            b'u' if self.escape > 0 => self.escape = 4,
            _ if self.escape > 0 => self.escape -= 1,
            b'\\' => self.escape = 1,
            b'"' => self.text = None,
            _ => {}
        }
        if text == Text::Value && self.escape == 0 {
            self.completable_up_to(at + 1);
        }
    }

    fn completable_up_to(&mut self, end: usize) {
        self.completable = Completable { end, depth: self.closers.len(), in_text: self.text.is_some() };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn json_that_ends_anywhere_has_a_value() {
        for (beginning, expected) in [
            ("", json!("")),
            ("7", json!("7")),
            ("{", json!({})),
            (r#"{"file_path"#, json!({})),
            (r#"{"file_path""#, json!({})),
            (r#"{"file_path": "#, json!({})),
            (r#"{"file_path": ""#, json!({"file_path": ""})),
            (r#"{"file_path": "/a/b"#, json!({"file_path": "/a/b"})),
            (r#"{"file_path": "/a/b.rs", "con"#, json!({"file_path": "/a/b.rs"})),
            (r#"{"content": "a\"b\"#, json!({"content": "a\"b"})),
            (r#"{"content": "a\\"#, json!({"content": "a\\"})),
            (r#"{"content": "a\u00e"#, json!({"content": "a"})),
            (r#"{"content": "a\u00e9"#, json!({"content": "aé"})),
            (r#"{"content": "a\ud83d"#, json!({"content": "a\u{fffd}"})),
            (r#"{"content": "{[,:\"}"#, json!({"content": "{[,:\"}"})),
            (r#"{"limit": 12"#, json!({})),
            (r#"{"limit": 12, "all": tr"#, json!({"limit": 12})),
            (
                r#"{"edits": [{"old": "a", "new": "b"}, {"old": "c"#,
                json!({"edits": [{"old": "a", "new": "b"}, {"old": "c"}]}),
            ),
            (r#"{"edits": [[1, 2"#, json!({"edits": [[1]]})),
            ("}}{", json!("}}{}")),
        ] {
            assert_eq!(value_of_beginning(beginning), expected, "{beginning}");
        }
    }

    #[test]
    fn json_that_is_nested_too_deep_stays_text() {
        let deep = "[".repeat(1000);
        assert_eq!(value_of_beginning(&deep), json!(deep + &"]".repeat(1000)));
    }

    /// Whether a value is a beginning of another one.
    fn is_beginning(beginning: &Value, whole: &Value) -> bool {
        match (beginning, whole) {
            (Value::String(beginning), Value::String(whole)) => {
                whole.starts_with(beginning.trim_end_matches('\u{fffd}'))
            }
            (Value::Array(beginning), Value::Array(whole)) => {
                beginning.len() <= whole.len()
                    && beginning.iter().zip(whole).all(|(item, of)| is_beginning(item, of))
            }
            (Value::Object(beginning), Value::Object(whole)) => beginning
                .iter()
                .all(|(name, value)| whole.get(name).is_some_and(|of| is_beginning(value, of))),
            (Value::Null | Value::Bool(_) | Value::Number(_), _) => beginning == whole,
            (Value::String(_) | Value::Array(_) | Value::Object(_), _) => false,
        }
    }

    /// A character as JavaScript may write it.
    fn escaped(c: char) -> String {
        if c.is_ascii() {
            return c.into();
        }
        c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a\"\\\\{}:, \u{1}é\u{1f600}]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            let members = prop::collection::btree_map("[a-c\"\\\\]{0,2}", inner.clone(), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                members.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn each_beginning_has_a_beginning_of_the_value(value in any_value(), ascii: bool) {
            let whole = json!({"input": value});
            let mut json = whole.to_string();
            if ascii {
                json = json.chars().map(escaped).collect();
            }
            for end in (1..=json.len()).filter(|end| json.is_char_boundary(*end)) {
                let beginning = value_of_beginning(&json[..end]);
                prop_assert!(is_beginning(&beginning, &whole), "{} of {}", beginning, whole);
            }
            prop_assert_eq!(value_of_beginning(&json), whole);
        }
    }

    #[test]
    fn all_beginnings_of_an_input_are_bounded() {
        for piece in [1, 7, 100, 5_000, 400_000] {
            let (mut shown, mut input) = (Shown::default(), String::from(r#"{"content":""#));
            let (mut count, mut bytes) = (0, 0);
            while input.len() < 1024 * 1024 {
                input.push_str(&"x".repeat(piece));
                if let Some(value) = shown.grown(&input) {
                    count += 1;
                    bytes += value.to_string().len();
                }
            }
            assert!((1..=12).contains(&count), "{count} of pieces of {piece}");
            assert!(bytes <= 4 * TOOL_UPDATE_LONGEST_BYTES + count * 16, "{bytes} of pieces of {piece}");
        }
    }
}
