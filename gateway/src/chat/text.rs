//! Text from elsewhere, made safe for a terminal.

/// Drops what a terminal would obey instead of show: control characters but newline and tab, and the marks
/// that reorder text.
pub(super) fn safe(text: &str) -> String {
    text.chars().filter(|c| !is_unsafe(*c)).collect()
}

/// The same on one line, cut to so many characters.
pub(super) fn safe_line(text: &str, longest: usize) -> String {
    let mut line: String = safe(text).chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    if let Some((end, _)) = line.char_indices().nth(longest) {
        line.truncate(end);
        line.push('…');
    }
    line.trim().to_owned()
}

fn is_unsafe(c: char) -> bool {
    let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    reorders || (c.is_control() && c != '\n' && c != '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_commanded() {
        assert_eq!(safe("a\u{1b}[31mred\u{1b}[0m\r\n\tb"), "a[31mred[0m\n\tb");
        assert_eq!(safe("\u{1b}]0;title\u{7}\u{9b}2Jx\u{7f}\u{0}"), "]0;title2Jx");
        assert_eq!(safe("abc\u{202e}cba\u{2066}"), "abccba");
        assert_eq!(safe("größer ✓ 漢字"), "größer ✓ 漢字");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(safe_line("rm -rf\n/tmp/x\u{1b}", 80), "rm -rf /tmp/x");
        assert_eq!(safe_line("abcdef", 3), "abc…");
    }
}
