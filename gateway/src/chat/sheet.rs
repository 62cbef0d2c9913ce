//! The rows of a request, and which of them were drawn: a person has to see all rows before an answer counts.

use std::fmt;

use serde::{
    Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::text::reveal;

/// Rows of the first page, which fits a small terminal together with its prompt.
const PAGE_ROWS: usize = 18;
/// Each further page is twice as long as the page before, up to this many rows. A megabyte takes some dozens of pages.
const LONGEST_PAGE_ROWS: usize = 500;
/// Columns of a row after its gutter. Characters beyond ASCII count as two columns.
const ROW_COLUMNS: usize = 72;
/// This many blank lines, or spaces, in a row are replaced by their count.
const BLANK_LINES: usize = 3;
const SPACES: usize = 24;

/// Escapes around underlined text. An agent cannot imitate them, since escapes in an agent's text are replaced.
const UNDERLINED: &str = "\x1b[4m";
const PLAIN: &str = "\x1b[24m";

/// A request as rows.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    rows: Vec<Row>,
    drawn: usize,
    /// Pages that were drawn since the first row was drawn.
    pages: u32,
}

/// A row, and how many bytes of the request it stands for.
#[derive(Debug, Clone)]
struct Row {
    text: String,
    bytes: usize,
}

impl Sheet {
    /// Adds a line in this program's words.
    pub(super) fn say(&mut self, text: &str) {
        self.push(text.to_owned(), 0);
    }

    fn push(&mut self, text: String, bytes: usize) {
        self.rows.push(Row { text, bytes });
    }

    /// Adds text of the agent. Each row has a gutter, so that the text cannot pass for words of this program.
    pub(super) fn quote(&mut self, label: &str, text: &str) {
        self.text(label, text, false);
    }

    /// Adds text that is executed or chosen. Every character beyond ASCII is underlined, since it may look like another
    /// character.
    pub(super) fn code(&mut self, label: &str, text: &str) {
        self.text(label, text, true);
    }

    fn text(&mut self, label: &str, text: &str, underlines: bool) {
        if text.is_empty() {
            let of = if label.trim().is_empty() { String::new() } else { format!("{}: ", reveal(label)) };
            self.push(format!("  ~ [{of}empty]"), 0);
            return;
        }
        let lines: Vec<&str> = text.split('\n').collect();
        let mut index = 0;
        while index < lines.len() {
            let blank =
                lines[index..].iter().take_while(|line| line.trim_matches([' ', '\t']).is_empty()).count();
            if blank >= BLANK_LINES {
                let bytes = lines[index..index + blank].iter().map(|line| line.len() + 1).sum();
                self.push(format!("  ~ [{blank} blank lines]"), bytes);
                index += blank;
                continue;
            }
            let start = match (index, label) {
                (_, "") => String::new(),
                (0, _) => format!("{}: ", reveal(label)),
                _ => "    ".to_owned(),
            };
            let ends = usize::from(index + 1 < lines.len());
            self.wrap(&start, &reveal(&spaced(lines[index])), underlines, lines[index].len() + ends);
            index += 1;
        }
    }

    /// Breaks a line into rows. `left` is the number of bytes of the request that the line stands for; bytes that the
    /// line does not show literally count towards the last row.
    fn wrap(&mut self, start: &str, line: &str, underlines: bool, mut left: usize) {
        let (mut row, mut columns, mut is_underlined) = (String::from("  | "), 0, false);
        let mut bytes = 0;
        for (c, of_line) in start.chars().map(|c| (c, 0)).chain(line.chars().map(|c| (c, c.len_utf8()))) {
            let width = if c.is_ascii() { 1 } else { 2 };
            let breaks = columns + width > ROW_COLUMNS;
            if is_underlined && (breaks || c.is_ascii()) {
                row.push_str(PLAIN);
                is_underlined = false;
            }
            if breaks {
                let counted = std::mem::take(&mut bytes).min(left);
                left -= counted;
                self.push(std::mem::replace(&mut row, String::from("  \\ ")), counted);
                columns = 0;
            }
            if underlines && !c.is_ascii() && !is_underlined {
                row.push_str(UNDERLINED);
                is_underlined = true;
            }
            row.push(c);
            bytes += of_line;
            columns += width;
        }
        if is_underlined {
            row.push_str(PLAIN);
        }
        self.push(row, left);
    }

    /// Adds the input of a tool, which may not be valid JSON. Fields keep their order, duplicates included, except that
    /// `command` comes first.
    pub(super) fn input(&mut self, text: &str) {
        let Some(mut fields) = fields(text) else { return self.code("", text) };
        if fields.is_empty() {
            return self.code("", text);
        }
        fields.sort_by_key(|(name, _)| name != "command");
        for (name, value) in fields {
            match serde_json::from_str::<String>(value.get()) {
                Ok(text) => self.code(&name, &text),
                Err(_) => self.code(&name, value.get()),
            }
        }
    }

    /// Returns the next page and counts it as drawn. After the last page comes the first one again.
    pub(super) fn turn(&mut self) -> Vec<String> {
        if self.drawn == self.rows.len() {
            (self.drawn, self.pages) = (0, 0);
        }
        let start = self.drawn;
        self.drawn += self.next_page();
        self.pages += 1;
        self.rows[start..self.drawn].iter().map(|row| row.text.clone()).collect()
    }

    /// The number of rows of the next page.
    pub(super) fn next_page(&self) -> usize {
        let most = PAGE_ROWS.saturating_mul(1 << self.pages.min(16)).min(LONGEST_PAGE_ROWS);
        most.min(self.rows.len() - self.drawn)
    }

    /// The number of rows that were not drawn yet, and the number of bytes of the request in them.
    pub(super) fn hidden(&self) -> (usize, usize) {
        let hidden = &self.rows[self.drawn..];
        (hidden.len(), hidden.iter().map(|row| row.bytes).sum())
    }
}

/// Replaces tabs by spaces, and long runs of spaces by their count.
fn spaced(line: &str) -> String {
    let line = line.replace('\t', "    ");
    let (mut out, mut rest) = (String::with_capacity(line.len()), line.as_str());
    while let Some(at) = rest.find(' ') {
        let run = rest[at..].bytes().take_while(|byte| *byte == b' ').count();
        out.push_str(&rest[..at]);
        if run >= SPACES {
            out.push_str(&format!("[{run} spaces]"));
        } else {
            out.push_str(&rest[at..at + run]);
        }
        rest = &rest[at + run..];
    }
    out.push_str(rest);
    out
}

fn fields(text: &str) -> Option<Vec<(String, Box<RawValue>)>> {
    let mut from = serde_json::Deserializer::from_str(text);
    let fields = from.deserialize_map(Fields).ok()?;
    from.end().ok()?;
    Some(fields)
}

/// Deserializes an object to its fields in their original order.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(input: &str) -> Vec<String> {
        let mut sheet = Sheet::default();
        sheet.input(input);
        sheet.rows.into_iter().map(|row| row.text).collect()
    }

    #[test]
    fn fields_stand_in_the_order_of_the_text_and_the_command_first() {
        let input = r#"{"zebra":1,"a\nb":"\u202ex","command":"ls","nested":{"b":1,"a":2},"command":"rm"}"#;
        let shown = [
            "  | command: ls",
            "  | command: rm",
            "  | zebra: 1",
            "  | a<U+000A>b: <U+202E>x",
            r#"  | nested: {"b":1,"a":2}"#,
        ];
        assert_eq!(rows(input), shown);
    }

    #[test]
    fn what_is_no_object_is_shown_as_it_stands() {
        assert_eq!(rows("[1, 2]"), ["  | [1, 2]"]);
        assert_eq!(rows("{}"), ["  | {}"]);
        assert_eq!(rows("{\"a\":1} {\"b\":2}"), ["  | {\"a\":1} {\"b\":2}"]);
        assert_eq!(rows(r#"{"a":"\ud800"}"#), [r#"  | a: "\ud800""#], "text that is none stays JSON");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(60), "]".repeat(60));
        assert_eq!(rows(&deep).len(), 2);
    }

    #[test]
    fn blank_lines_and_spaces_are_counted() {
        let blank = "\\n".repeat(60);
        let shown = rows(&format!(r#"{{"command":"ls{blank}rm -rf ~"}}"#));
        assert_eq!(shown, ["  | command: ls", "  ~ [59 blank lines]", "  |     rm -rf ~"]);
        let far = " ".repeat(500);
        assert_eq!(rows(&format!(r#"{{"command":"ls{far}; rm"}}"#)), ["  | command: ls[500 spaces]; rm"]);
        let long = rows(&format!(r#"{{"command":"{}"}}"#, "a".repeat(200)));
        assert!(
            long.len() == 3 && long[1].starts_with("  \\ ") && long.iter().all(|row| row.len() <= 76),
            "{long:?}"
        );
    }

    #[test]
    fn what_is_empty_is_said_to_be() {
        let shown = rows(r#"{"path":"f","content":"","mode":null,"":""}"#);
        assert_eq!(shown, ["  | path: f", "  ~ [content: empty]", "  | mode: null", "  ~ [empty]"]);
    }

    #[test]
    fn what_is_not_ascii_is_underlined_where_it_is_executed() {
        assert_eq!(rows(r#"{"command":"rm größe x"}"#), ["  | command: rm gr\u{1b}[4möß\u{1b}[24me x"]);
        let long = rows(&format!(r#"{{"c":"{}"}}"#, "é".repeat(50)));
        assert!(long.len() == 2 && long.iter().all(|row| row.ends_with("é\u{1b}[24m")), "{long:?}");
        let mut sheet = Sheet::default();
        sheet.quote("", "größe");
        assert_eq!(sheet.turn(), ["  | größe"], "words are not");
    }

    #[test]
    fn a_value_cannot_imitate_a_field_or_a_prompt() {
        let shown = rows(r#"{"a":"x\ncommand: ls\n  ? Allow"}"#);
        assert_eq!(shown, ["  | a: x", "  |     command: ls", "  |       ? Allow"]);
    }

    #[test]
    fn pages_are_turned_to_the_end_and_grow() {
        let mut sheet = Sheet::default();
        for row in 0..2_000 {
            sheet.quote("", &row.to_string());
        }
        let mut left = 2_000;
        for expected in [18, 36, 72, 144, 288, 500, 500, 442] {
            assert_eq!(sheet.next_page(), expected);
            assert_eq!(sheet.turn().len(), expected);
            left -= expected;
            assert_eq!(sheet.hidden().0, left);
        }
        assert_eq!((sheet.turn().len(), sheet.hidden().0), (PAGE_ROWS, 2_000 - PAGE_ROWS), "from the start");
    }

    #[test]
    fn hidden_bytes_are_those_of_what_is_asked() {
        let texts = [
            "x\n".repeat(1_000),
            "a".repeat(5_000),
            "größer und größer ".repeat(90),
            format!("one{}two\tthree\u{202e}", " ".repeat(400)),
            format!("one{}two", "\n".repeat(60)),
        ];
        for text in texts {
            let mut sheet = Sheet::default();
            sheet.code("command", &text);
            assert_eq!(sheet.hidden().1, text.len(), "{:?}", &text[..3]);
        }
        let mut sheet = Sheet::default();
        sheet.say("words of this program");
        sheet.code("command", &"b\n".repeat(100));
        sheet.turn();
        assert_eq!(sheet.hidden(), (84, 200 - 34), "the empty last line has a row");
    }
}
