//! Streams the output as it arrives.

use serde::{Deserialize, Serialize};
use switchboard_core::{
    agent::{AgentCommand, AgentEvent, StreamId},
    wire::{Outcome, TurnError},
};

use super::terminal::TerminalFilter;
use crate::dialect::{Codec, Decoded, Delivered, Encoded, ProcessExit};

/// Decodes the output of one command. A command answers one prompt.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TextCodec {
    stream: StreamId,
    /// The first bytes of a UTF-8 character whose remaining bytes have not arrived yet.
    partial: Vec<u8>,
    spoke: bool,
    /// Removes terminal sequences, unless they are wanted.
    #[serde(default)]
    filter: Option<TerminalFilter>,
}

impl TextCodec {
    /// Makes a codec for one answer. `stream` is the id of the answer's text stream; `keeps_sequences` says whether
    /// terminal sequences remain in the text.
    pub(super) fn new(stream: &str, keeps_sequences: bool) -> Self {
        let filter = (!keeps_sequences).then(TerminalFilter::default);
        Self { stream: stream.into(), partial: Vec::new(), spoke: false, filter }
    }

    /// Ends the answer, when the output is complete.
    fn end(&mut self, out: &mut Decoded) {
        let mut rest = std::mem::take(&mut self.partial);
        if let Some(filter) = &mut self.filter {
            filter.end(&mut rest);
        }
        self.say(&rest, out);
        if std::mem::take(&mut self.spoke) {
            out.events.push(AgentEvent::TextEnd {
                stream: self.stream.clone(),
                text: None,
                void: false,
                sources: Vec::new(),
            });
        }
    }

    fn say(&mut self, bytes: &[u8], out: &mut Decoded) {
        if !bytes.is_empty() {
            self.spoke = true;
            let text = String::from_utf8_lossy(bytes).into_owned();
            out.events.push(AgentEvent::Text { stream: self.stream.clone(), text });
        }
    }
}

impl Codec for TextCodec {
    /// A character may be split over reads; bytes that are not UTF-8 become U+FFFD.
    fn decode(&mut self, _: u64, read: &[u8], out: &mut Decoded) {
        let mut bytes = std::mem::take(&mut self.partial);
        match &mut self.filter {
            Some(filter) => filter.pass(read, &mut bytes),
            None => bytes.extend_from_slice(read),
        }
        let whole = bytes.len() - unfinished(&bytes);
        self.partial = bytes.split_off(whole);
        self.say(&bytes, out);
    }

    fn encode(&self, command: &AgentCommand) -> Encoded {
        match command {
            AgentCommand::Prompt { text, .. } => Encoded::Write(text.clone().into_bytes()),
            AgentCommand::Cancel { .. } => Encoded::Terminate,
            AgentCommand::Answer { .. } => Encoded::Nothing,
        }
    }

    fn delivered(&mut self, _: Delivered<'_>) {}

    fn exited(&mut self, exit: &ProcessExit<'_>, out: &mut Decoded) {
        self.end(out);
        let (outcome, error) = match (exit.cancelled, exit.code) {
            (true, _) => (Outcome::Cancelled, None),
            (false, Some(0)) => (Outcome::Completed, None),
            (false, _) => {
                let detail = format!("The command {}.{}", exit.description, exit.last_words);
                (Outcome::Failed, Some(TurnError { code: "agent_exited".into(), detail }))
            }
        };
        out.end_turn(outcome, error);
    }

    fn set_published(&mut self, _: u64) {}

    fn checkpoint(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Number of bytes at the end of `bytes` that begin an incomplete UTF-8 character.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if length > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(reads: &[&[u8]]) -> String {
        let mut codec = TextCodec::new("s", false);
        let mut out = Decoded::default();
        for read in reads {
            codec.decode(0, read, &mut out);
        }
        codec.end(&mut out);
        out.events
            .iter()
            .filter_map(
                |event| if let AgentEvent::Text { text, .. } = event { Some(text.as_str()) } else { None },
            )
            .collect()
    }

    #[test]
    fn a_character_may_be_split_anywhere() {
        let text = "aé€😀z";
        for size in 1..text.len() {
            let reads: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(said(&reads), text, "{size} bytes a read");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(said(&[b"a\xffb", b"\xe2\x82"]), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn silence_makes_no_event() {
        let mut out = Decoded::default();
        let mut codec = TextCodec::new("s", false);
        codec.decode(0, b"", &mut out);
        codec.end(&mut out);
        assert!(out.events.is_empty());
    }
}
