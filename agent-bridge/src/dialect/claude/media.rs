//! What the result of a tool contains: text, media and sources.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use switchboard_core::wire::{Source, ToolMedia};

use super::{
    records::{ToolReport, lenient, lenient_text, parse},
    sources::Sources,
};
use crate::dialect::sanitize::length;

/// Most media of one result that are listed.
const MEDIA: usize = 16;

/// The content of a tool's result.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The text, with a placeholder for each other part.
    pub(super) text: String,
    /// Whether the result had more than the text says.
    pub(super) truncated: bool,
    pub(super) media: Vec<ToolMedia>,
    pub(super) sources: Vec<Source>,
}

/// A part of a result, as the Messages API or a tool server writes it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Part<'a> {
    #[serde(borrow, rename = "type", deserialize_with = "lenient_text")]
    kind: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "lenient")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    source: Option<Medium<'a>>,
    #[serde(borrow, rename = "mimeType", deserialize_with = "lenient")]
    mime_type: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    data: Option<Cow<'a, str>>,
}

/// A medium in base64.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Medium<'a> {
    #[serde(borrow, deserialize_with = "lenient")]
    media_type: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    data: Option<Cow<'a, str>>,
}

/// The result of a tool that the model's server runs.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ServerResult {
    #[serde(deserialize_with = "lenient")]
    error_code: Option<String>,
    #[serde(deserialize_with = "lenient")]
    stdout: Option<String>,
    #[serde(deserialize_with = "lenient")]
    stderr: Option<String>,
}

impl Content {
    /// Reads the `content` of a result and, where the line has one, the agent's report on the result.
    pub(super) fn read(content: Option<&RawValue>, report: Option<&ToolReport<'_>>) -> Self {
        let mut read = Self::default();
        let mut sources = Sources::default();
        let json = content.map(RawValue::get).unwrap_or_default();
        if let Ok(text) = serde_json::from_str(json) {
            read.text = text;
        } else if let Ok(parts) = serde_json::from_str::<Vec<&RawValue>>(json) {
            let texts: Vec<Cow<'_, str>> =
                parts.into_iter().map(|part| read.part(part.get(), &mut sources)).collect();
            read.text = texts.join("\n");
        } else if json != "null" {
            read.text = json.into();
        }
        if let Some(report) = report {
            sources.add_results(report.results.as_deref().unwrap_or_default());
            if read.media.is_empty() {
                read.media.extend(reported(report));
            }
        }
        read.sources = sources.into();
        read
    }

    /// Reads the result of a tool that the model's server runs: a list of pages, a page, an output or an error. Returns
    /// whether it is an error.
    pub(super) fn of_server(content: Option<&RawValue>) -> (Self, bool) {
        let json = content.map(RawValue::get).unwrap_or_default();
        let ServerResult { error_code, stdout, stderr } = serde_json::from_str(json).unwrap_or_default();
        let mut sources = Sources::default();
        sources.add_list(content);
        sources.add_json(json);
        let failed = error_code.is_some();
        let said: Vec<String> = [error_code, stdout, stderr].into_iter().flatten().collect();
        let text = if said.is_empty() { sources.listed() } else { said.join("\n") };
        (Self { text, sources: sources.into(), ..Self::default() }, failed)
    }

    /// The content of a result that is too long to be kept: its line has `bytes` bytes, and `content` is what is known of
    /// it.
    pub(super) fn too_long(content: Option<&RawValue>, bytes: u64) -> Self {
        let parts = parse::<Vec<Part<'_>>>(content).unwrap_or_default();
        let medium = parts.into_iter().find_map(|part| {
            let (_, unnamed) = medium(&part.kind)?;
            let named = part.source.and_then(|source| source.media_type).or(part.mime_type);
            let media_type = named.as_deref().unwrap_or(unnamed).into();
            // The line has the medium twice, in base64.
            Some(ToolMedia { media_type, bytes: bytes / 8 * 3 })
        });
        let text = format!("The output of {} was too long to be kept.", length(bytes));
        Self { text, truncated: true, media: medium.into_iter().collect(), sources: Vec::new() }
    }

    /// Reads a part, and returns the text for it.
    fn part<'a>(&mut self, json: &'a str, sources: &mut Sources) -> Cow<'a, str> {
        let part: Part<'a> = serde_json::from_str(json).unwrap_or_default();
        let Part { kind, text, source, mime_type, data } = part;
        if let Some(text) = text {
            return text;
        }
        let Some((name, unnamed)) = medium(&kind) else {
            sources.add_json(json);
            return "[other content]".into();
        };
        let Medium { media_type, data } = source.unwrap_or(Medium { media_type: mime_type, data });
        if let Some(data) = data
            && self.media.len() < MEDIA
        {
            let media_type = media_type.as_deref().unwrap_or(unnamed).into();
            self.media.push(ToolMedia { media_type, bytes: decoded_bytes(&data) });
        }
        name.into()
    }
}

/// What stands for a medium in the text, and its type if it has no other name.
fn medium(kind: &str) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        "image" => ("[image]", "image/*"),
        "document" => ("[document]", "application/octet-stream"),
        "audio" => ("[audio]", "audio/*"),
        _ => return None,
    })
}

/// The medium that the agent read, by its report.
fn reported(report: &ToolReport<'_>) -> Option<ToolMedia> {
    let file = report.file.as_ref()?;
    let media_type = match &*report.kind {
        "pdf" => "application/pdf",
        "image" => file.media_type.as_deref()?,
        _ => return None,
    };
    Some(ToolMedia { media_type: media_type.into(), bytes: file.original_size? })
}

/// The number of bytes that a base64 text stands for.
fn decoded_bytes(base64: &str) -> u64 {
    let digits = base64.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=').count();
    digits as u64 * 3 / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_decoded_bytes() {
        for (base64, bytes) in [("", 0), ("TQ==", 1), ("TWE=", 2), ("TWFu", 3), ("TWFu\nTWE", 5)] {
            assert_eq!(decoded_bytes(base64), bytes, "{base64}");
        }
    }
}
