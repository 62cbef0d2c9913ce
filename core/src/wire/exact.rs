//! Whether a client that parses a JSON text into a value, as a browser does, loses nothing of the text.

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString as _},
};
use core::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest as _, Sha256};

/// Maximum nesting that counts as exact, in levels. Clients' parsers allow 128 levels, and an event adds some levels.
const DEPTH: usize = 64;

/// The SHA-256 of an input's text in hexadecimal digits, as in the field `input_sha256`.
pub fn input_sha256(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Whether parsing the text as `JSON.parse` does and printing it again loses nothing: the text is JSON, no object has a
/// key twice, a double prints every number as it is written, no string has half a surrogate pair, and the nesting is
/// not too deep.
pub fn is_exact(text: &str) -> bool {
    let mut parser = serde_json::Deserializer::from_str(text);
    Level(DEPTH).deserialize(&mut parser).is_ok()
        && parser.end().is_ok()
        && numbers(text).all(is_exact_number)
}

/// A value that may be nested this many levels deep.
struct Level(usize);

impl<'de> DeserializeSeed<'de> for Level {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value whose objects have each key once")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while items.next_element_seed(Self(inner))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        let mut keys = BTreeSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            // serde_json gives its own keys a special meaning, so a `Value` with them differs from the text.
            let is_plain = !key.starts_with("$serde_json::");
            if !keys.insert(key) || !is_plain {
                fields.next_value::<IgnoredAny>()?;
                return Err(serde::de::Error::custom("a key stands twice, or is not a plain one"));
            }
            fields.next_value_seed(Self(inner))?;
        }
        Ok(())
    }
}

impl Level {
    fn inner<E: serde::de::Error>(&self) -> Result<usize, E> {
        self.0.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))
    }
}

/// The numbers of a JSON text, as they are written.
fn numbers(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    core::iter::from_fn(move || {
        loop {
            let start = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit())?;
            rest = &rest[start..];
            if let Some(string) = rest.strip_prefix('"') {
                rest = &string[string_end(string)..];
                continue;
            }
            let end = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
            let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            return Some(number);
        }
    })
}

/// The index after a string's closing quote, in the text after its opening quote.
fn string_end(string: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in string.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    string.len()
}

/// Whether a double prints this number as it is written.
fn is_exact_number(number: &str) -> bool {
    const SAFE: u64 = (1 << 53) - 1;
    let magnitude = number.strip_prefix('-').unwrap_or(number);
    if magnitude.bytes().all(|b| b.is_ascii_digit()) {
        return magnitude.parse::<u64>().is_ok_and(|n| n <= SAFE && n.to_string() == magnitude)
            && number != "-0";
    }
    // Outside these bounds a browser prints an exponent. The number is parsed like the event's value, which may be off
    // by one in the last digit.
    serde_json::from_str::<f64>(number)
        .is_ok_and(|double| (1e-6..1e21).contains(&double.abs()) && format!("{double}") == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_a_browser_keeps_is_exact() {
        for text in [
            "null",
            r#"{"command":"ls"}"#,
            r#"{"a":{"a":1},"b":{"a":[1,-2,0.5,9007199254740991,123.25]}}"#,
            r#"{"text":"1E400 \" -0 {\"a\":1,\"a\":2}"}"#,
            r#"{"e":"\u0041\/\ud83d\ude00"}"#,
        ] {
            assert!(is_exact(text), "{text}");
        }
    }

    #[test]
    fn json_that_a_browser_would_change_is_not_exact() {
        for text in [
            "",
            "{",
            "[1,]",
            r#"{"k":1,"k":2}"#,
            r#"{"k":1,"\u006b":2}"#,
            r#"[{"x":{"k":1,"k":1}}]"#,
            "12345678901234567890123",
            "9007199254740993",
            "-0",
            "[-0.0]",
            "1E2",
            "1.0",
            "1.50",
            "0.1000000000000000055511151231257827",
            "1e400",
            "0.0000001",
            r#"{"s":"\ud800"}"#,
            r#"{"a":{"$serde_json::private::RawValue":"{\"path\":\"/tmp/x\"}"}}"#,
            r#"{"\u0024serde_json::private::RawValue":5}"#,
        ] {
            assert!(!is_exact(text), "{text}");
        }
    }

    #[test]
    fn nesting_is_exact_up_to_a_depth() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(is_exact(&nested(DEPTH)));
        assert!(!is_exact(&nested(DEPTH + 1)));
        assert!(!is_exact(&nested(100_000)), "and does not end the stack");
    }

    #[test]
    fn the_hash_is_the_usual_one() {
        let hash = input_sha256("abc");
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
