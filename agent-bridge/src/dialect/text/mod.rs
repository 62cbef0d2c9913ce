//! The dialect `text`: a process gets one prompt on its standard input, and its standard output is the answer.

mod codec;

use std::path::Path;

use self::codec::TextCodec;
use super::{CheckpointError, Codec, Conversation, Dialect, Framing, ProcessLifetime, ProcessStart};

/// The dialect `text`.
#[derive(Debug)]
pub(super) struct Text;

impl Dialect for Text {
    fn name(&self) -> &'static str {
        "text"
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
        Box::new(TextCodec::new(&format!("{}{}", conversation.prefix, conversation.process)))
    }

    fn restore(&self, _: &Path, checkpoint: &str) -> Result<Box<dyn Codec>, CheckpointError> {
        let codec: TextCodec = serde_json::from_str(checkpoint)?;
        Ok(Box::new(codec))
    }
}
