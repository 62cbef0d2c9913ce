//! Makes texts of agents fit for clients: shortens them, and removes absolute paths and control characters.

use std::path::{Component, Path};

use crate::limits::DETAIL_BYTES;

/// Cuts `text` to at most `longest` bytes, at a character boundary. Returns whether it was longer.
pub(crate) fn cut(text: &mut String, longest: usize) -> bool {
    if text.len() <= longest {
        return false;
    }
    text.truncate(text.floor_char_boundary(longest));
    true
}

/// A number of bytes, in words for people.
pub(crate) fn length(bytes: u64) -> String {
    let mib = bytes / (1024 * 1024);
    if mib > 0 { format!("{mib} MiB") } else { format!("{} KiB", bytes / 1024) }
}

/// The path as clients see it: relative to the workspace if inside it, otherwise the file name alone.
pub(crate) fn shown_path(workspace: &Path, path: &str) -> String {
    let path = Path::new(path);
    let inside = path.strip_prefix(workspace).unwrap_or(path);
    if inside.is_relative() && !inside.components().any(|part| part == Component::ParentDir) {
        return inside.to_string_lossy().into_owned();
    }
    path.file_name().map_or_else(|| "?".into(), |name| name.to_string_lossy().into_owned())
}

/// Removes escape sequences and control characters other than line breaks, and trims the text. A text of more than
/// `longest` bytes is cut and ends in an ellipsis.
pub(crate) fn lines(text: &str, longest: usize) -> String {
    let mut out = without_escapes(text.trim()).replace('\t', "    ");
    out.retain(|c| !c.is_control() || c == '\n');
    if cut(&mut out, longest) {
        out.push('…');
    }
    out
}

/// Turns `text` into one line without escape sequences and control characters. A text of more than `longest` bytes is cut and ends in an
/// ellipsis.
pub(crate) fn line(text: &str, longest: usize) -> String {
    let text = without_escapes(text);
    let mut out = String::with_capacity(text.len().min(longest));
    for (index, word) in text.split_whitespace().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        out.extend(word.chars().filter(|c| !c.is_control()));
        if out.len() > longest {
            break;
        }
    }
    if cut(&mut out, longest) {
        out.push('…');
    }
    out
}

/// The text without a terminal's control sequences (ECMA-48) and commands.
fn without_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' && c != '\u{9b}' {
            out.push(c);
        } else if c == '\u{9b}' || chars.next_if_eq(&'[').is_some() {
            while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
        } else if chars.next_if_eq(&']').is_some() {
            while chars.next().is_some_and(|c| c != '\u{7}' && c != '\u{1b}') {}
            chars.next_if_eq(&'\\');
        }
    }
    out
}

/// Turns `text` into one line of at most [`DETAIL_BYTES`], with absolute paths reduced to their last component.
pub(crate) fn sentence(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(DETAIL_BYTES));
    for (index, word) in text.split_whitespace().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        push_without_path(&mut out, word);
        if out.len() > DETAIL_BYTES {
            break;
        }
    }
    out.retain(|c| !c.is_control());
    if cut(&mut out, DETAIL_BYTES) {
        out.push('…');
    }
    out
}

/// Appends `word` to `out` with absolute paths reduced to their last component.
fn push_without_path(out: &mut String, word: &str) {
    let mut rest = word;
    while let Some(start) = path_start(rest) {
        let (before, path) = rest.split_at(start);
        let end = path.find(|c: char| "\"'`()[]{}<>,;:|".contains(c)).unwrap_or(path.len());
        out.push_str(before);
        out.push_str(path[..end].trim_end_matches('/').rsplit('/').next().unwrap_or_default());
        rest = &path[end..];
    }
    out.push_str(rest);
}

fn path_start(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (0..bytes.len()).find(|&at| {
        let opens = at == 0 || b"\"'`([{<=,;:|".contains(&bytes[at - 1]);
        bytes[at] == b'/'
            && opens
            // Not the `//` of a URL, and not a lone word such as `/login`.
            && bytes.get(at + 1).is_some_and(|next| *next != b'/')
            && bytes[at + 1..].iter().take_while(|b| !b"\"'`)]}>,;|".contains(b)).any(|b| *b == b'/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_inside_and_names_outside() {
        let workspace = Path::new("/home/agent/project");
        for (path, shown) in [
            ("/home/agent/project/src/main.rs", "src/main.rs"),
            ("src/main.rs", "src/main.rs"),
            ("/home/agent/project-two/x", "x"),
            ("/etc/passwd", "passwd"),
            ("/home/agent/project/../secret", "secret"),
            ("/", "?"),
        ] {
            assert_eq!(shown_path(workspace, path), shown, "{path}");
        }
    }

    #[test]
    fn sentences_hold_no_absolute_path_and_one_line() {
        for (text, shown) in [
            ("spawn /usr/local/bin/x ENOENT", "spawn x ENOENT"),
            ("open '/home/me/a b/c.txt': denied", "open 'a b/c.txt': denied"),
            ("see https://example.org/a/b and /login", "see https://example.org/a/b and /login"),
            ("two\nlines\x1b[31m", "two lines[31m"),
            ("path=/a/b/c,/d/e", "path=c,e"),
        ] {
            assert_eq!(sentence(text), shown, "{text}");
        }
        assert!(sentence(&"é".repeat(2000)).len() <= DETAIL_BYTES + 4);
    }
}
