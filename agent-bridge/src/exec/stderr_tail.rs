//! The last lines of a failed agent's standard error, without secrets and control characters.

use super::environment;

/// Most bytes of the last lines that are part of a turn's error.
const SHOWN_BYTES: usize = 2 * 1024;
/// Shortest value, in bytes, that counts as a secret. Shorter values could be ordinary words.
const SECRET_BYTES: usize = 8;
/// A word with at least this many letters and digits, and with both of them, is taken for a key.
const LONGEST_WORD: usize = 40;
/// Replaces each secret.
const REMOVED: &str = "[removed]";

/// Prefixes of the keys of well-known services.
const KEYS: &[&str] = &[
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xox",
    "AKIA",
    "AIza",
    "eyJ",
];
/// Parts of names that announce a secret value.
const NAMES: &[&str] = &[
    "token",
    "secret",
    "password",
    "passwd",
    "api_key",
    "api-key",
    "apikey",
    "authorization",
    "bearer",
    "credential",
];

/// The agent's name for the log, and the secrets to remove from its output.
#[derive(Clone, Default)]
pub(crate) struct LastWords {
    agent: String,
    secrets: Vec<String>,
}

impl std::fmt::Debug for LastWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LastWords").field("agent", &self.agent).finish_non_exhaustive()
    }
}

impl LastWords {
    /// For an agent with this name and these further environment variables.
    pub(crate) fn new(agent: &str, env: &[(String, String)]) -> Self {
        Self { agent: agent.into(), secrets: secrets(env) }
    }

    /// Logs the last lines of a failed agent, and returns [`Self::sentence`].
    pub(crate) fn report(&self, lines: &[String]) -> String {
        let words = self.clean(lines);
        if !words.is_empty() {
            tracing::warn!(agent = self.agent, stderr = words, "an agent's last words");
        }
        as_sentence(&words)
    }

    /// The end of the last lines as a sentence that can follow the description of a failure, with a space in front.
    /// Empty if there are no lines.
    pub(crate) fn sentence(&self, lines: &[String]) -> String {
        as_sentence(&self.clean(lines))
    }

    fn clean(&self, lines: &[String]) -> String {
        let cleaned = lines.iter().map(|line| clean(line, &self.secrets));
        let words: Vec<String> = cleaned.filter(|line| !line.is_empty()).collect();
        words.join(" | ")
    }
}

fn as_sentence(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(" Its last words: {}", end_of(words)) }
}

/// Values of environment variables of the agent whose names announce a secret.
fn secrets(env: &[(String, String)]) -> Vec<String> {
    let inherited = environment::inherited();
    let inherited = inherited.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
    let configured = env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let is_secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.ends_with("key") || NAMES.iter().any(|part| name.contains(part))
    };
    let mut secrets: Vec<String> = inherited
        .chain(configured)
        .filter(|(name, value)| value.len() >= SECRET_BYTES && is_secret(name))
        .map(|(_, value)| value.to_owned())
        .collect();
    // Longer values first, because one secret may contain another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

/// Removes control characters, escape sequences and secrets from a line.
fn clean(line: &str, secrets: &[String]) -> String {
    let mut line = without_escapes(line);
    for secret in secrets {
        line = line.replace(secret, REMOVED);
    }
    let mut out = String::with_capacity(line.len());
    let mut named = false;
    let mut rest = line.as_str();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_of_word(c) != is_of_word(first)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        if !is_of_word(first) {
            // A name announces the next word only, and only across separators such as `: ` and `=`.
            named &= piece.len() <= 5 && piece.chars().all(|c| matches!(c, ' ' | ':' | '=' | '"' | '\''));
            out.push_str(piece);
            continue;
        }
        let lower = piece.to_ascii_lowercase();
        let is_name = NAMES.iter().any(|name| lower.contains(name));
        let is_key = KEYS.iter().any(|key| piece.starts_with(key)) && piece.len() >= 2 * SECRET_BYTES;
        let is_value =
            named && !is_name && piece.len() >= SECRET_BYTES && piece.chars().any(|c| c.is_ascii_digit());
        out.push_str(if is_key || is_value || is_random(piece) { REMOVED } else { piece });
        named = is_name;
    }
    out.trim().to_owned()
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.' | '~')
}

fn is_random(word: &str) -> bool {
    let alphanumeric = word.chars().filter(char::is_ascii_alphanumeric).count();
    let has = |f: fn(&char) -> bool| word.chars().any(|c| f(&c));
    alphanumeric >= LONGEST_WORD && has(char::is_ascii_digit) && has(char::is_ascii_alphabetic)
}

/// Removes escape sequences such as colours, and replaces each other control character by a space.
fn without_escapes(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.next();
                while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The last [`SHOWN_BYTES`] of `text`, at a character boundary.
fn end_of(text: &str) -> String {
    if text.len() <= SHOWN_BYTES {
        return text.to_owned();
    }
    let begin = (text.len() - SHOWN_BYTES..).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    format!("…{}", &text[begin..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(line: &str) -> String {
        clean(line, &["hunter2hunter2".to_owned()])
    }

    #[test]
    fn useful_error_lines_are_not_redacted() {
        for line in [
            "Error: Cannot find module '/usr/lib/agent/cli.js'",
            "API Error: 401 invalid x-api-key",
            "token expired, please run /login",
            "No conversation found with session ID: 0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f",
            "the secret of the agent: patience",
        ] {
            assert_eq!(cleaned(line), line);
        }
    }

    #[test]
    fn secrets_and_control_characters_go() {
        for (line, expected) in [
            ("password is hunter2hunter2!", "password is [removed]!"),
            ("key sk-ant-api03-AbCd1234efgh", "key [removed]"),
            ("Authorization: Bearer abc12345.def", "Authorization: Bearer [removed]"),
            ("API_KEY=0123456789", "API_KEY=[removed]"),
            ("{\"token\": \"a1b2c3d4e5\"}", "{\"token\": \"[removed]\"}"),
            ("got eyJhbGciOi.eyJzdWIi.c2ln", "got [removed]"),
            ("\u{1b}[31mred\u{1b}[0m\u{7} and \u{9b}2J", "red  and  2J"),
            ("  \t", ""),
        ] {
            assert_eq!(cleaned(line), expected, "{line:?}");
        }
        let random = format!("digest {}", "0a".repeat(32));
        assert_eq!(cleaned(&random), "digest [removed]");
    }

    #[test]
    fn of_a_long_output_the_end_is_shown() {
        let much = format!("{}é the end", "é".repeat(SHOWN_BYTES));
        let shown = end_of(&much);
        assert!(shown.starts_with("…é") && shown.ends_with("the end"));
        assert!(shown.len() <= SHOWN_BYTES + '…'.len_utf8());
        assert_eq!(end_of("short"), "short");
    }
}
