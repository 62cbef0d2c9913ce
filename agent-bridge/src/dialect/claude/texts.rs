//! The texts that were sent as events. Pieces, whole messages and results repeat each other, in an order and with ids
//! that depend on the agent's version; each text is sent once.

use serde::{Deserialize, Serialize};

use crate::limits::{HELD_TEXT_BYTES, TEXTS};

/// Most bytes of a text's beginning that are stored, to see early that another text begins differently.
const HEAD_BYTES: usize = 32;

/// Length and hash of a text, to recognise the text when it is repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TextDigest {
    /// Number of bytes.
    #[serde(rename = "streamed")]
    pub(super) bytes: u64,
    /// FNV-1a hash of the bytes.
    #[serde(default)]
    hash: u64,
}

impl TextDigest {
    pub(super) fn of(text: &str) -> Self {
        let mut digest = Self::default();
        digest.add(text);
        digest
    }

    pub(super) fn add(&mut self, text: &str) {
        self.bytes += text.len() as u64;
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The rest of `text`, if this is the digest of its beginning.
    pub(super) fn rest_of(self, text: &str) -> Option<&str> {
        let (beginning, rest) = text.split_at_checked(usize::try_from(self.bytes).ok()?)?;
        (Self::of(beginning) == self).then_some(rest)
    }
}

/// A message of the model. 0 is a message whose id is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MessageKey(u64);

impl MessageKey {
    pub(super) fn of(id: &str) -> Self {
        Self(TextDigest::of(id).hash)
    }

    fn is_known(self) -> bool {
        self != Self::default()
    }
}

/// A block of an `assistant` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WholeBlock {
    pub(super) message: MessageKey,
    /// Identifies the block among all blocks of all lines. 0 if the line has no id.
    block: u64,
    /// Whether the message is cut into a block for each citation, so that it may have a text several times.
    #[serde(default)]
    cites: bool,
}

impl WholeBlock {
    /// The block with this number on the line `uuid`.
    pub(super) fn new(message: MessageKey, uuid: Option<&str>, number: usize, cites: bool) -> Self {
        let block = uuid.map_or(0, |uuid| TextDigest::of(&format!("{uuid} {number}")).hash);
        Self { message, block, cites }
    }

    /// Whether this block with the same text is `other`, which came again.
    fn repeats(self, other: Self) -> bool {
        let same = if self.block == 0 || other.block == 0 { !self.cites } else { self.block == other.block };
        same && self.message.is_known() && self.message == other.message
    }
}

/// A text that was sent as an event.
#[derive(Debug, Serialize, Deserialize)]
struct KnownText {
    #[serde(flatten)]
    text: TextDigest,
    /// The beginning of the text, while it may come as a stream.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    head: String,
    /// The message that streamed the text, if it was streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream: Option<MessageKey>,
    /// The block that had the text as a whole, if it came as a whole. A result has a text without a block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole: Option<WholeBlock>,
    /// Whether the agent has gone on since, so that only the same message repeats the text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    passed: bool,
}

/// The last texts of the agent or of a subagent that were sent as events.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct KnownTexts(Vec<KnownText>);

impl KnownTexts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a text that was streamed, and has come as a whole too if there is a `whole`.
    pub(super) fn streamed(&mut self, text: TextDigest, message: MessageKey, whole: Option<WholeBlock>) {
        self.note(KnownText { text, head: String::new(), stream: Some(message), whole, passed: false });
    }

    /// Notes a text that came as a whole only: in this block, or in a result.
    pub(super) fn came_whole(&mut self, text: &str, whole: Option<WholeBlock>) {
        let end = text.floor_char_boundary(HEAD_BYTES);
        let head = text[..end].into();
        self.note(KnownText { text: TextDigest::of(text), head, stream: None, whole, passed: false });
    }

    fn note(&mut self, text: KnownText) {
        if self.0.len() >= TEXTS {
            self.0.remove(0);
        }
        self.0.push(text);
    }

    /// Whether the text of this block was sent. Notes that the text has come as a whole.
    pub(super) fn take_whole(&mut self, text: TextDigest, block: WholeBlock) -> bool {
        let same = |known: &KnownText| known.stream == Some(block.message) && block.message.is_known();
        let mut texts: Vec<&mut KnownText> = self.0.iter_mut().filter(|known| known.text == text).collect();
        if let Some(known) = texts.iter_mut().find(|known| known.whole.is_none() && same(known)) {
            known.whole = Some(block);
            return true;
        }
        if texts.iter().any(|known| same(known) || known.whole.is_some_and(|whole| block.repeats(whole))) {
            return true;
        }
        // Some agents give the whole message another id than its stream.
        let other = texts.iter_mut().find(|known| known.whole.is_none() && !known.passed);
        other.map(|known| known.whole = Some(block)).is_some()
    }

    /// Whether a text of this message that begins with `beginning` may be one that was sent.
    pub(super) fn may_stream(&self, message: MessageKey, beginning: &str) -> bool {
        self.awaited(message).any(|known| known.may_begin_with(beginning))
    }

    /// Whether the text with this beginning, which was cut off, is one of this message that was sent.
    pub(super) fn has_begun_with(&self, message: MessageKey, beginning: &str) -> bool {
        let is_sent = |known: &KnownText| known.head.starts_with(beginning) || known.is_of(message);
        self.awaited(message).any(|known| known.may_begin_with(beginning) && is_sent(known))
    }

    /// Whether this text of this message was sent. Notes that the text was streamed.
    pub(super) fn take_stream(&mut self, text: TextDigest, message: MessageKey) -> bool {
        let is_this = |known: &&mut KnownText| known.text == text && known.may_be_streamed_by(message);
        let Some(known) = self.0.iter_mut().find(is_this) else { return false };
        known.stream = Some(message);
        known.head.clear();
        true
    }

    /// Forgets a streamed text that is void.
    pub(super) fn revoke(&mut self, text: TextDigest, message: MessageKey) {
        let at = self.0.iter().rposition(|known| known.text == text && known.stream == Some(message));
        at.map(|at| self.0.remove(at));
    }

    /// Whether this text was sent.
    pub(super) fn has(&self, text: &str) -> bool {
        let text = TextDigest::of(text);
        self.0.iter().any(|known| known.text == text)
    }

    /// Whether what comes of this message may have been sent.
    pub(super) fn may_repeat(&self, message: MessageKey) -> bool {
        let awaits = |known: &KnownText| !known.passed && (known.stream.is_none() || known.whole.is_none());
        self.0.iter().any(|known| known.is_of(message) || awaits(known))
    }

    /// Notes that the agent goes on: what another message says is new, even if it is the same.
    pub(super) fn pass(&mut self) {
        self.0.retain(|known| known.stream.is_some() || known.whole.is_some());
        self.0.iter_mut().for_each(|known| known.passed = true);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn awaited(&self, message: MessageKey) -> impl Iterator<Item = &KnownText> {
        self.0.iter().filter(move |known| known.may_be_streamed_by(message))
    }
}

impl KnownText {
    fn is_of(&self, message: MessageKey) -> bool {
        let whole = self.whole.map(|whole| whole.message);
        message.is_known() && [self.stream, whole].contains(&Some(message))
    }

    fn may_be_streamed_by(&self, message: MessageKey) -> bool {
        let is_short = self.text.bytes <= HELD_TEXT_BYTES;
        is_short && self.stream.is_none() && (!self.passed || self.is_of(message))
    }

    fn may_begin_with(&self, beginning: &str) -> bool {
        let fits = beginning.len() as u64 <= self.text.bytes;
        fits && (self.head.starts_with(beginning) || beginning.starts_with(&self.head))
    }
}
