//! Makes foreign text safe for a terminal. Characters that a person could not see are replaced by their code point,
//! such as `<U+202E>`. The Unicode data decide which characters these are.

use std::fmt::Write;

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{BidiControl, DefaultIgnorableCodePoint, GeneralCategory},
};
use unicode_security::{MixedScript, is_potential_mixed_script_confusable_char, skeleton};

/// A letter or digit may carry this many combining marks; more would cover the text around it.
const MARKS: usize = 2;

/// Makes an agent's text safe. Joiners and variation selectors stay, since emoji and some scripts need them.
pub(super) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            // A carriage return at the end of a line or piece overwrites nothing.
            '\r' if matches!(rest.peek(), None | Some('\n')) => {}
            '\n' | '\t' | '\u{200c}' | '\u{200d}' => out.push(c),
            _ if is_control(c) => push_token(&mut out, c),
            _ => out.push(c),
        }
    }
    out
}

/// Makes text safe, joins it to one line, and cuts the line to `longest` characters.
pub(super) fn safe_line(text: &str, longest: usize) -> String {
    let mut line: String = reveal(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    if let Some((end, _)) = line.char_indices().nth(longest) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// Makes one line of a request safe: no character is invisible or looks like another one. Line ends and tabs would be
/// replaced by code points, too.
pub(super) fn reveal(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let end = if first.is_alphanumeric() {
            rest.find(|c: char| !c.is_alphanumeric() && !is_mark(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(end);
        rest = after;
        let disguised = is_disguised(word);
        // How many more marks the letter before may carry. A mark without a letter changes how something else looks.
        let mut room: usize = 0;
        for c in word.chars() {
            let fits = !is_mark(c) || room > 0;
            room = if is_mark(c) { room.saturating_sub(1) } else { MARKS };
            if is_unseen(c) || !fits || (!c.is_ascii() && disguised(c)) {
                push_token(&mut out, c);
            } else {
                out.push(c);
            }
        }
    }
    out
}

/// Tells which characters of a word look like others: all of them if the whole word looks like ASCII, and those with a
/// lookalike if the word mixes scripts.
fn is_disguised(word: &str) -> impl Fn(char) -> bool {
    let whole = !word.is_ascii() && skeleton(word).all(|c| c.is_ascii());
    let mixed = !word.is_ascii() && !word.is_single_script();
    move |c| whole || (mixed && is_potential_mixed_script_confusable_char(c))
}

fn is_mark(c: char) -> bool {
    use GeneralCategory::{EnclosingMark, NonspacingMark, SpacingMark};
    matches!(category(c), NonspacingMark | SpacingMark | EnclosingMark)
}

/// Whether a terminal would act on a character instead of drawing it, or draw nothing.
fn is_control(c: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator};
    let reorders = CodePointSetData::new::<BidiControl>().contains(c);
    reorders || matches!(category(c), Control | Format | LineSeparator | ParagraphSeparator)
}

/// Whether a character is drawn as nothing, without a known glyph, or around the character before.
fn is_unseen(c: char) -> bool {
    use GeneralCategory::{EnclosingMark, PrivateUse, SpaceSeparator, Surrogate, Unassigned};
    is_control(c)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || matches!(category(c), EnclosingMark | PrivateUse | Surrogate | Unassigned)
        || (c != ' ' && category(c) == SpaceSeparator)
        // Blank symbols that no property covers: the empty Braille pattern, the place of an object, the null notehead.
        || matches!(c, '\u{2800}' | '\u{fffc}' | '\u{1d159}')
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

fn push_token(out: &mut String, c: char) {
    let _ = write!(out, "<U+{:04X}>", u32::from(c));
}

#[cfg(test)]
mod tests {
    use icu_properties::props::{NoncharacterCodePoint, VariationSelector};

    use super::*;

    #[test]
    fn a_terminal_is_not_commanded() {
        assert_eq!(safe("a\u{1b}[31mred\u{1b}[0m\r\n\tb\r"), "a<U+001B>[31mred<U+001B>[0m\n\tb");
        assert_eq!(safe("\u{9b}2Jx\u{7f}\u{0}y\rz"), "<U+009B>2Jx<U+007F><U+0000>y<U+000D>z");
        assert_eq!(safe("abc\u{202e}cba\u{2066}\u{61c}"), "abc<U+202E>cba<U+2066><U+061C>");
        assert_eq!(safe("größer ✓ 漢字 👩\u{200d}💻 don’t"), "größer ✓ 漢字 👩\u{200d}💻 don’t");
    }

    /// All characters that no person can see, by the properties that Unicode gives them.
    fn cannot_be_seen(c: char) -> bool {
        use GeneralCategory as Category;
        let unseen = [
            Category::Control,
            Category::Format,
            Category::PrivateUse,
            Category::Surrogate,
            Category::Unassigned,
            Category::LineSeparator,
            Category::ParagraphSeparator,
            Category::SpaceSeparator,
            Category::EnclosingMark,
        ];
        c != ' ' && unseen.contains(&category(c))
            || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
            || CodePointSetData::new::<BidiControl>().contains(c)
            || CodePointSetData::new::<VariationSelector>().contains(c)
            || CodePointSetData::new::<NoncharacterCodePoint>().contains(c)
            || ['\u{2800}', '\u{fffc}', '\u{1d159}'].contains(&c)
    }

    fn token(c: char) -> String {
        format!("<U+{:04X}>", u32::from(c))
    }

    #[test]
    fn every_character_that_cannot_be_seen_is_revealed_wherever_it_stands() {
        let mut count = 0;
        for c in ('\0'..=char::MAX).filter(|c| cannot_be_seen(*c)) {
            count += 1;
            let token = token(c);
            assert_eq!(reveal(c.encode_utf8(&mut [0; 4])), token);
            // Of the many characters without a glyph, a sample would find a mistake.
            if matches!(category(c), GeneralCategory::PrivateUse | GeneralCategory::Unassigned)
                && count % 61 > 0
            {
                continue;
            }
            assert_eq!(reveal(&format!("a{c}b")), format!("a{token}b"));
            for around in [" _ ", "1_", "ж_ж", "._."] {
                let revealed = reveal(&around.replace('_', &c.to_string()));
                // What stands around it may be revealed, too.
                assert!(revealed.contains(&token) && !revealed.contains(c), "{token} in {around:?}");
            }
        }
        assert!(count > 800_000, "{count}");
    }

    #[test]
    fn every_other_character_is_there_or_named_and_ascii_stays() {
        for c in ('\0'..=char::MAX).filter(|c| !cannot_be_seen(*c)) {
            let revealed = reveal(&format!("a{c}b"));
            if c.is_ascii() {
                assert_eq!(revealed, format!("a{c}b"));
            } else {
                assert!(revealed.contains(c) != revealed.contains(&token(c)), "{}: {revealed:?}", token(c));
            }
            assert!(!revealed.chars().any(cannot_be_seen), "{}", token(c));
        }
    }

    #[test]
    fn combining_marks_without_a_letter_or_in_excess_are_revealed() {
        let mut count = 0;
        for mark in ('\0'..=char::MAX).filter(|c| is_mark(*c) && !cannot_be_seen(*c)) {
            count += 1;
            let token = token(mark);
            for lone in [format!("{mark}b"), format!(" {mark}"), format!("a={mark}b"), format!("-{mark}-")] {
                assert!(!reveal(&lone).contains(mark), "{token} alone");
            }
            let long = reveal(&format!("a{}b", mark.to_string().repeat(50)));
            assert!(long.matches(mark).count() <= 2, "{token} in excess");
            assert!(long.matches(&token).count() > 47, "{token} in excess");
        }
        assert!(count > 2_000, "{count}");
        for plain in ["naïve", "e\u{301}te\u{301}", "o\u{302}\u{301}", "हिन्दी", "ไทยนี้", "שָׁלוֹם"]
        {
            assert_eq!(reveal(plain), plain);
        }
    }

    #[test]
    fn what_looks_like_something_else_is_revealed() {
        assert_eq!(reveal("p\u{430}yp\u{430}l"), "p<U+0430>yp<U+0430>l");
        assert_eq!(reveal("\u{455}\u{441}\u{440} x"), "<U+0455><U+0441><U+0440> x");
        assert_eq!(reveal("\u{ff52}\u{ff4d} -rf"), "<U+FF52><U+FF4D> -rf");
        assert_eq!(reveal("a\u{37e} b"), "a<U+037E> b");
        for plain in
            ["größer ✓ 漢字とかな", "Привет, мир", "cargo test --all", "naïve e\u{301}t", "שלום", "👍"]
        {
            assert_eq!(reveal(plain), plain);
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(safe_line("rm -rf\n/tmp/x\u{1b}", 80), "rm -rf /tmp/x<U+001B>");
        assert_eq!(safe_line("abcdef", 3), "abc…");
    }
}
