//! Pieces of text that begin or end with half a character.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::records::{Delta, Line, lenient, parse};
use crate::dialect::json::halves;
pub(super) use crate::dialect::json::{has_surrogate, objects, whole_characters, without_halves};

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
