//! Removes what a command writes for a terminal: control sequences, and progress that overwrites its own line.

use serde::{Deserialize, Serialize};

/// Most bytes of an overwritten line that are held back until the line ends; a longer line is passed on.
const HELD_BYTES: usize = 64 * 1024;

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// Where in a control sequence (ECMA-48) the output is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sequence {
    /// In none.
    #[default]
    None,
    /// Behind ESC, or behind its intermediate bytes.
    Escape,
    /// Behind ESC and `[`.
    Control,
    /// In a string, such as a title, which a bell or ESC and `\` end.
    String,
    /// Behind an ESC in a string.
    StringEscape,
}

/// Removes control sequences, bells and progress from output, which may arrive in parts. Of a line that is overwritten,
/// the first and the last state are passed on, as two lines.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct TerminalFilter {
    sequence: Sequence,
    /// Whether the last byte was a carriage return.
    returned: bool,
    /// Whether the line has bytes that were passed on.
    begun: bool,
    /// The present state of a line that is overwritten.
    held: Option<Vec<u8>>,
}

impl TerminalFilter {
    /// Appends what is left of `bytes` to `out`.
    pub(super) fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            match (self.sequence, byte) {
                (Sequence::None, ESCAPE) => self.sequence = Sequence::Escape,
                (Sequence::None, BELL) => {}
                (Sequence::None, _) => self.text(byte, out),
                (Sequence::Escape, b'[') => self.sequence = Sequence::Control,
                (Sequence::Escape, b']' | b'P' | b'X' | b'^' | b'_') => self.sequence = Sequence::String,
                (Sequence::Escape, 0x20..=0x2f) | (Sequence::Control, 0x20..=0x3f) => {}
                (Sequence::Escape, 0x30..=0x7e) | (Sequence::Control, 0x40..=0x7e) => {
                    self.sequence = Sequence::None;
                }
                (Sequence::Escape | Sequence::Control, ESCAPE) => self.sequence = Sequence::Escape,
                // No sequence: it ends without its last byte.
                (Sequence::Escape | Sequence::Control, _) => {
                    self.sequence = Sequence::None;
                    self.text(byte, out);
                }
                (Sequence::String, BELL) | (Sequence::StringEscape, b'\\') => self.sequence = Sequence::None,
                // A string without an end must not hide the rest of the answer.
                (Sequence::String | Sequence::StringEscape, b'\n') => {
                    self.sequence = Sequence::None;
                    self.text(byte, out);
                }
                (Sequence::String | Sequence::StringEscape, ESCAPE) => self.sequence = Sequence::StringEscape,
                (Sequence::String | Sequence::StringEscape, _) => self.sequence = Sequence::String,
            }
        }
    }

    /// Appends what was held back to `out`, at the end of the output.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        let Self { held, begun, .. } = std::mem::take(self);
        if let Some(line) = held.filter(|line| !line.is_empty()) {
            if begun {
                out.push(b'\n');
            }
            out.extend(line);
        }
    }

    fn text(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte == b'\r' {
            self.returned = true;
            return;
        }
        if byte == b'\n' {
            let (was_begun, held) = (std::mem::take(&mut self.begun), self.held.take().unwrap_or_default());
            self.returned = false;
            if was_begun && !held.is_empty() {
                out.push(b'\n');
            }
            out.extend(held);
            out.push(b'\n');
            return;
        }
        if std::mem::take(&mut self.returned) {
            self.held.get_or_insert_default().clear();
        }
        match &mut self.held {
            Some(held) if held.len() < HELD_BYTES => held.push(byte),
            Some(_) => {
                self.end(out);
                self.begun = true;
                out.push(byte);
            }
            None => {
                self.begun = true;
                out.push(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(text: &str, size: usize) -> String {
        let (mut filter, mut out) = (TerminalFilter::default(), Vec::new());
        for part in text.as_bytes().chunks(size) {
            filter.pass(part, &mut out);
            // A gateway may be restarted between two reads.
            filter = serde_json::from_str(&serde_json::to_string(&filter).unwrap()).unwrap();
        }
        filter.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_for_a_terminal_is_removed_however_it_arrives() {
        for (text, expected) in [
            ("plain é😀\n\ttext", "plain é😀\n\ttext"),
            ("\u{1b}[1;31mred\u{1b}[0m\r\nnext\u{1b}[K\n", "red\nnext\n"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;https://x\u{1b}\\b\u{1b}(Bc\u{7}", "abc"),
            ("\u{1b}]never ended\nafter", "\nafter"),
            ("\u{1b}[12\nafter", "\nafter"),
            ("\u{1b}[\u{1b}[1mbold", "bold"),
            ("10%\r50%\r100%\ndone\n", "10%\n100%\ndone\n"),
            ("\rone\rtwo", "two"),
            ("wait\r\u{1b}[K\nanswer", "wait\nanswer"),
            ("wait\r    ", "wait\n    "),
            ("a\r\r\nb", "a\nb"),
        ] {
            for size in 1..=text.len() {
                assert_eq!(passed(text, size), expected, "{text:?} with {size} bytes a read");
            }
        }
    }

    #[test]
    fn little_of_a_line_is_held_back() {
        let line = "x".repeat(3 * HELD_BYTES);
        let (mut filter, mut out) = (TerminalFilter::default(), Vec::new());
        filter.pass(format!("1%\r{line}").as_bytes(), &mut out);
        assert_eq!(filter.held, None);
        filter.end(&mut out);
        assert!(out == format!("1%\n{line}").into_bytes());
    }
}
