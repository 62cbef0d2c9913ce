//! The dialects `text` and `text-raw`: a process gets one prompt on its standard input, and its standard output is the
//! answer.

mod codec;
mod terminal;

use std::path::Path;

use self::codec::TextCodec;
use super::{CheckpointError, Codec, Conversation, Dialect, Framing, ProcessLifetime, ProcessStart};

/// The dialect `text`, or `text-raw`.
#[derive(Debug)]
pub(super) struct Text {
    /// Whether what the command writes for a terminal remains in the answer: `text-raw`.
    pub(super) keeps_sequences: bool,
}

impl Dialect for Text {
    fn name(&self) -> &'static str {
        if self.keeps_sequences { "text-raw" } else { "text" }
    }

    fn environment(&self) -> &'static [(&'static str, &'static str)] {
        if self.keeps_sequences { &[] } else { &[("NO_COLOR", "1"), ("TERM", "dumb")] }
    }

    fn framing(&self) -> Framing {
        Framing::Reads
    }

    fn lifetime(&self) -> ProcessLifetime {
        ProcessLifetime::Prompt
    }

    fn start(&self, _: Option<&str>) -> ProcessStart {
        ProcessStart::default()
    }

    fn codec(&self, conversation: &Conversation<'_>) -> Box<dyn Codec> {
        Box::new(TextCodec::new(
            &format!("{}{}", conversation.prefix, conversation.process),
            self.keeps_sequences,
        ))
    }

    fn restore(&self, _: &Path, checkpoint: &str) -> Result<Box<dyn Codec>, CheckpointError> {
        let codec: TextCodec = serde_json::from_str(checkpoint)?;
        Ok(Box::new(codec))
    }
}
