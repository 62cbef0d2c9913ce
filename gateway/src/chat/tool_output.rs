//! What tools print while they run, as lines for the screen: whole, cleaned, and a bounded number for each tool use.

use std::collections::VecDeque;

use super::text::safe;

/// Lines of one tool use that are printed.
const LINES: usize = 100;
/// Characters of a line that are printed.
const LINE_CHARACTERS: usize = 200;
/// Tool uses whose output is followed: the newest ones.
const USES: usize = 64;

/// The output of the running tool uses.
#[derive(Debug, Default)]
pub(super) struct ToolOutputs {
    uses: VecDeque<ToolOutput>,
    /// The tool use that the screen showed last.
    newest: Option<String>,
}

#[derive(Debug)]
struct ToolOutput {
    call_id: String,
    /// The beginning of the line that has not ended, at most one character longer than what is printed of it.
    line: String,
    /// Lines that were printed.
    lines: usize,
}

impl ToolOutputs {
    /// A tool use begins, and the screen shows it.
    pub(super) fn begin(&mut self, call_id: &str) {
        self.uses.retain(|known| known.call_id != call_id);
        self.newest = Some(call_id.to_owned());
    }

    /// Whether the screen showed this tool use last.
    pub(super) fn is_newest(&self, call_id: &str) -> bool {
        self.newest.as_deref() == Some(call_id)
    }

    /// Takes a piece of a tool's output. Returns the lines that it ends, safe to print.
    pub(super) fn piece(&mut self, call_id: &str, text: &str) -> Vec<String> {
        let known = self.uses.iter_mut().position(|known| known.call_id == call_id);
        let place = known.unwrap_or_else(|| {
            if self.uses.len() == USES {
                self.uses.pop_front();
            }
            self.uses.push_back(ToolOutput { call_id: call_id.to_owned(), line: String::new(), lines: 0 });
            self.uses.len() - 1
        });
        let lines = self.uses[place].piece(text);
        self.note_printed(call_id, lines)
    }

    /// A tool use ends. Returns its last line, if that did not end before.
    pub(super) fn end(&mut self, call_id: &str) -> Vec<String> {
        let Some(place) = self.uses.iter().position(|known| known.call_id == call_id) else {
            return Vec::new();
        };
        let mut ended = self.uses.remove(place).expect("the place of an element");
        let last = if ended.line.is_empty() { Vec::new() } else { ended.piece("\n") };
        self.note_printed(call_id, last)
    }

    fn note_printed(&mut self, call_id: &str, lines: Vec<String>) -> Vec<String> {
        if !lines.is_empty() {
            self.newest = Some(call_id.to_owned());
        }
        lines
    }
}

impl ToolOutput {
    fn piece(&mut self, text: &str) -> Vec<String> {
        let mut printed = Vec::new();
        for part in text.split_inclusive('\n') {
            if self.lines > LINES {
                return printed;
            }
            let room = (LINE_CHARACTERS + 1).saturating_sub(self.line.chars().count());
            self.line.extend(part.trim_end_matches('\n').chars().take(room));
            if part.ends_with('\n') {
                let line = std::mem::take(&mut self.line);
                self.lines += 1;
                printed.push(if self.lines > LINES {
                    "(What follows is not shown.)".to_owned()
                } else {
                    cut(&line)
                });
            }
        }
        printed
    }
}

/// Cuts a line, and makes it safe. Cleaned, it may be longer.
fn cut(line: &str) -> String {
    match line.char_indices().nth(LINE_CHARACTERS) {
        Some((end, _)) => format!("{}…", safe(&line[..end])),
        None => safe(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_whole_and_harmless_lines() {
        let mut outputs = ToolOutputs::default();
        assert_eq!(outputs.piece("a", "one\ntw"), ["one"]);
        assert_eq!(outputs.piece("b", "beside\n"), ["beside"]);
        assert_eq!(
            outputs.piece("a", "o\r\n\u{1b}[31mred\u{202e}\nrest"),
            ["two", "<U+001B>[31mred<U+202E>"]
        );
        assert_eq!(outputs.end("a"), ["rest"]);
        assert_eq!(outputs.end("a"), [""; 0]);
        assert_eq!(outputs.end("b"), [""; 0]);
    }

    #[test]
    fn what_is_printed_and_held_is_bounded() {
        let mut outputs = ToolOutputs::default();
        for _ in 0..100 {
            assert_eq!(outputs.piece("a", &"x".repeat(10_000)), [""; 0]);
        }
        assert!(outputs.uses[0].line.len() <= LINE_CHARACTERS + 1);
        assert_eq!(outputs.piece("a", "\n"), [format!("{}…", "x".repeat(LINE_CHARACTERS))]);
        let lines = outputs.piece("a", &"y\n".repeat(10_000));
        assert_eq!((lines.len(), &*lines[LINES - 1]), (LINES, "(What follows is not shown.)"));
        assert_eq!(outputs.piece("a", "z\n"), [""; 0]);
        assert_eq!(outputs.end("a"), [""; 0]);
        for use_ in 0..1_000 {
            outputs.piece(&format!("{use_}"), "x");
        }
        assert_eq!(outputs.uses.len(), USES);
    }

    #[test]
    fn the_use_whose_lines_come_is_known() {
        let mut outputs = ToolOutputs::default();
        outputs.begin("a");
        outputs.begin("b");
        assert!(outputs.is_newest("b"));
        outputs.piece("a", "half a line");
        assert!(outputs.is_newest("b"), "nothing was printed of it");
        outputs.piece("a", "\n");
        assert!(outputs.is_newest("a"));
    }
}
