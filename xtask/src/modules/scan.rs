//! Reads the paths, imports, items and child modules out of a Rust source, as far as the check of circles needs them.

/// A word, `::` or a single character of a source, with its line. Comments, literals and lifetimes are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.chars().next().is_some_and(is_word_start)
    }
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Splits a source into tokens.
pub(super) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let (mut at, mut line) = (0, 1);
    let mut tokens = Vec::new();
    while let Some(&c) = chars.get(at) {
        let end = match c {
            '/' if chars.get(at + 1) == Some(&'/') => find(&chars, at, |rest| rest[0] == '\n'),
            '/' if chars.get(at + 1) == Some(&'*') => block_comment(&chars, at),
            '"' => string(&chars, at),
            '\'' => character_or_lifetime(&chars, at),
            c if is_word_start(c) => {
                let end = find(&chars, at, |rest| !is_word_part(rest[0]));
                let word: String = chars[at..end].iter().collect();
                match raw_string(&chars, end) {
                    Some(end) if matches!(word.as_str(), "r" | "br" | "cr") => end,
                    _ if matches!(word.as_str(), "b" | "c") && chars.get(end) == Some(&'"') => {
                        string(&chars, end)
                    }
                    _ if word == "b" && chars.get(end) == Some(&'\'') => character_or_lifetime(&chars, end),
                    _ => {
                        tokens.push(Token { text: word, line });
                        end
                    }
                }
            }
            ':' if chars.get(at + 1) == Some(&':') => {
                tokens.push(Token { text: "::".to_owned(), line });
                at + 2
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token { text: c.to_string(), line });
                }
                at + 1
            }
        };
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

/// The first position from `at` on where the condition holds, or the end.
fn find(chars: &[char], at: usize, is_end: impl Fn(&[char]) -> bool) -> usize {
    (at..chars.len()).find(|&at| is_end(&chars[at..])).unwrap_or(chars.len())
}

fn block_comment(chars: &[char], at: usize) -> usize {
    let (mut at, mut depth) = (at, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The end of a string that begins at a quotation mark.
fn string(chars: &[char], at: usize) -> usize {
    let mut at = at + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// The end of a raw string whose `#`s and quotation mark begin here.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let quote = find(chars, at, |rest| rest[0] != '#');
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let closing: Vec<char> = std::iter::once('"').chain(chars[at..quote].iter().copied()).collect();
    Some((find(chars, quote + 1, |rest| rest.starts_with(&closing)) + closing.len()).min(chars.len()))
}

fn character_or_lifetime(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        return (find(chars, at + 3, |rest| rest[0] == '\'') + 1).min(chars.len());
    }
    if chars.get(at + 2) == Some(&'\'') {
        return at + 3;
    }
    find(chars, at + 1, |rest| !is_word_part(rest[0]))
}

/// A path as it is written, such as `super::log::Log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

/// A `use`: one path of its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) path: Path,
    /// The name that it has in this module; `*` for all names.
    pub(super) name: String,
    /// Whether it is passed on to other modules.
    pub(super) public: bool,
}

/// What a module contains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) imports: Vec<Import>,
    /// Paths of at least two segments outside of imports.
    pub(super) paths: Vec<Path>,
    /// Single words outside of imports, each with its first line.
    pub(super) words: Vec<(String, usize)>,
    /// The names of the items that are defined here.
    pub(super) items: Vec<String>,
    /// Modules in files of their own, each with the file of a `#[path]`.
    pub(super) children: Vec<(String, Option<String>)>,
    /// Modules in braces.
    pub(super) inline: Vec<(String, Self)>,
}

/// Words before the name of an item.
const ITEMS: [&str; 9] = ["fn", "struct", "enum", "union", "trait", "type", "const", "static", "macro_rules"];

/// Reads a source.
pub(super) fn contents(source: &str) -> Contents {
    // Literals are no tokens, so the file of a `#[path]` is looked up by its line.
    let lines: Vec<&str> = source.lines().collect();
    Reader { tokens: tokens(source), at: 0, lines }.module()
}

struct Reader<'a> {
    tokens: Vec<Token>,
    at: usize,
    lines: Vec<&'a str>,
}

impl Reader<'_> {
    fn text(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| token.text.as_str())
    }

    /// Reads until the brace that closes the module, or the end.
    fn module(&mut self) -> Contents {
        let mut contents = Contents::default();
        let (mut depth, mut file) = (0_usize, None);
        while let Some(token) = self.tokens.get(self.at).cloned() {
            match token.text.as_str() {
                "#" => {
                    let attribute = self.attribute();
                    if is_test(&attribute) {
                        self.skip_item();
                    } else if attribute.get(1).is_some_and(|token| token.text == "path") {
                        let line = self.lines.get(attribute[1].line - 1).copied().unwrap_or_default();
                        file = line.split('"').nth(1).map(str::to_owned);
                    }
                }
                "{" => (self.at, depth) = (self.at + 1, depth + 1),
                "}" if depth == 0 => {
                    self.at += 1;
                    break;
                }
                "}" => (self.at, depth) = (self.at + 1, depth - 1),
                "pub" if self.text(1) == "(" => {
                    // `pub(super)` is no path; whether an import is passed on is looked up at its `use`.
                    self.at += 1;
                    self.skip_group();
                }
                "use" => self.import(&mut contents),
                "mod" if self.text(2) == ";" => {
                    contents.children.push((self.text(1).to_owned(), file.take()));
                    self.at += 3;
                }
                "mod" if self.text(2) == "{" => {
                    let name = self.text(1).to_owned();
                    self.at += 3;
                    contents.inline.push((name, self.module()));
                }
                word if token.is_word() => {
                    if depth == 0 && ITEMS.contains(&word) {
                        let name = self.tokens[self.at + 1..].iter().find(|token| token.is_word());
                        contents.items.extend(name.map(|name| name.text.clone()));
                    }
                    self.path(&mut contents);
                }
                _ => self.at += 1,
            }
        }
        contents
    }

    /// Takes an attribute, and returns its tokens without `#`.
    fn attribute(&mut self) -> Vec<Token> {
        self.at += 1;
        if self.text(0) == "!" {
            self.at += 1;
        }
        let begin = self.at;
        self.skip_group();
        self.tokens[begin..self.at].to_vec()
    }

    /// Skips brackets of any kind and all that is in them.
    fn skip_group(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            match token.text.as_str() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }

    /// Skips an item, a statement or a field, with its attributes.
    fn skip_item(&mut self) {
        while let Some(token) = self.tokens.get(self.at) {
            match token.text.as_str() {
                "}" => break,
                ";" | "," => {
                    self.at += 1;
                    break;
                }
                "{" => {
                    self.skip_group();
                    break;
                }
                "(" | "[" => self.skip_group(),
                // The braces of an import do not end it.
                "use" => {
                    while !matches!(self.text(0), ";" | "") {
                        self.at += 1;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// Reads a `use` with all paths of its tree.
    fn import(&mut self, contents: &mut Contents) {
        let before = self.at.checked_sub(1).map_or("", |at| self.tokens[at].text.as_str());
        let public = matches!(before, "pub" | ")");
        self.at += 1;
        self.import_tree(&mut Vec::new(), public, contents);
    }

    fn import_tree(&mut self, prefix: &mut Vec<String>, public: bool, contents: &mut Contents) {
        let outer = prefix.len();
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut name = None;
        loop {
            match self.text(0).to_owned().as_str() {
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(0), "}" | "") {
                        self.import_tree(prefix, public, contents);
                    }
                    self.at += 1;
                    prefix.truncate(outer);
                    if matches!(self.text(0), "," | ";") {
                        self.at += 1;
                    }
                    return;
                }
                "::" => self.at += 1,
                "as" => {
                    name = Some(self.text(1).to_owned());
                    self.at += 2;
                }
                "," | ";" | "" => {
                    self.at += 1;
                    break;
                }
                "}" => break,
                // `{self}` is the module itself.
                "self" if !prefix.is_empty() => self.at += 1,
                segment => {
                    prefix.push(segment.to_owned());
                    self.at += 1;
                }
            }
        }
        let mut segments = prefix.clone();
        prefix.truncate(outer);
        let Some(last) = segments.last().cloned() else { return };
        if last == "*" {
            segments.pop();
        }
        contents.imports.push(Import { path: Path { segments, line }, name: name.unwrap_or(last), public });
    }

    /// Reads a path or a single word.
    fn path(&mut self, contents: &mut Contents) {
        let line = self.tokens[self.at].line;
        let mut segments = vec![self.text(0).to_owned()];
        self.at += 1;
        while self.text(0) == "::" && self.tokens.get(self.at + 1).is_some_and(Token::is_word) {
            segments.push(self.text(1).to_owned());
            self.at += 2;
        }
        if segments.len() > 1 {
            contents.paths.push(Path { segments, line });
        } else {
            contents.words.extend(segments.into_iter().map(|word| (word, line)));
        }
    }
}

/// Whether an attribute is `#[cfg(test)]`, or a condition that needs it.
fn is_test(attribute: &[Token]) -> bool {
    let words: Vec<&str> = attribute.iter().map(|token| token.text.as_str()).collect();
    matches!(
        words.as_slice(),
        ["[", "cfg", "(", "test", ")", "]"] | ["[", "cfg", "(", "all", "(", "test", ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn literals_comments_and_lifetimes_are_no_tokens() {
        assert_eq!(words("a // b\n/* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(words(r##"a "b\" c" r#"d " e"# b"f" 'g' '\'' b'h' 'i: j"##), ["a", ":", "j"]);
        assert_eq!(words("a::b<'c>"), ["a", "::", "b", "<", ">"]);
        assert_eq!(tokens("a\n\"\n\"b")[1].line, 3);
    }

    #[test]
    fn imports_are_read_one_by_one() {
        let source = "use crate::{a::{self, B}, c as d};\npub(crate) use e::*;\npub use f::G;";
        let found: Vec<(String, String, bool)> = contents(source)
            .imports
            .into_iter()
            .map(|import| (import.path.segments.join("::"), import.name, import.public))
            .collect();
        let expected = [
            ("crate::a", "a", false),
            ("crate::a::B", "B", false),
            ("crate::c", "d", false),
            ("e", "*", true),
            ("f::G", "G", true),
        ];
        assert_eq!(found, expected.map(|(path, name, public)| (path.to_owned(), name.to_owned(), public)));
    }

    #[test]
    fn items_modules_and_paths_are_read() {
        let source = "mod a;\n#[path = \"else/b.rs\"]\nmod b;\nmod c { pub fn d() {} }\n\
                      pub struct E;\npub(in crate::x) fn f() { let g = crate::h::I::new(); }\n\
                      #[cfg(test)]\nuse j::{k, l};\n#[cfg(test)]\nmod m;\n";
        let found = contents(source);
        assert_eq!(found.children, [("a".to_owned(), None), ("b".to_owned(), Some("else/b.rs".to_owned()))]);
        assert_eq!(found.items, ["E", "f"]);
        assert_eq!(found.inline[0].1.items, ["d"]);
        assert_eq!(found.paths.len(), 1);
        assert_eq!(found.paths[0].segments, ["crate", "h", "I", "new"]);
        assert!(found.imports.is_empty());
    }
}
