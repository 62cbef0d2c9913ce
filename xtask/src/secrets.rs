//! Looks for secrets in the repository's files: known shapes of keys and tokens in all files, and random characters in
//! hand-written files.

use crate::git::{Tree, is_fixture};
use crate::report::Verdict;
use crate::runner::Session;
use crate::workspace::{Failure, Result};

/// Exceptions: the path of a file and the beginning of the allowed token, with the reason beside it.
const ALLOWED: &[(&str, &str)] = &[];

/// Shapes of tokens with a known prefix. The prefixes are in two parts, so that this file contains none.
const SHAPES: [Shape; 16] = [
    Shape { what: "an AWS access key", prefix: ["AK", "IA"], rest: 16, digits: false },
    Shape { what: "a temporary AWS access key", prefix: ["AS", "IA"], rest: 16, digits: false },
    Shape { what: "a GitHub token", prefix: ["gh", "p_"], rest: 36, digits: true },
    Shape { what: "a GitHub OAuth token", prefix: ["gh", "o_"], rest: 36, digits: true },
    Shape { what: "a GitHub user token", prefix: ["gh", "u_"], rest: 36, digits: true },
    Shape { what: "a GitHub server token", prefix: ["gh", "s_"], rest: 36, digits: true },
    Shape { what: "a GitHub refresh token", prefix: ["gh", "r_"], rest: 36, digits: true },
    Shape { what: "a fine-grained GitHub token", prefix: ["github", "_pat_"], rest: 22, digits: true },
    Shape { what: "a GitLab token", prefix: ["gl", "pat-"], rest: 20, digits: true },
    Shape { what: "an Anthropic key", prefix: ["sk-", "ant-"], rest: 20, digits: true },
    Shape { what: "an OpenAI key", prefix: ["sk-", "proj-"], rest: 20, digits: true },
    Shape { what: "an API key", prefix: ["s", "k-"], rest: 32, digits: true },
    Shape { what: "a Slack token", prefix: ["xo", "xb-"], rest: 20, digits: true },
    Shape { what: "an npm token", prefix: ["np", "m_"], rest: 36, digits: true },
    Shape { what: "a PyPI token", prefix: ["py", "pi-"], rest: 50, digits: true },
    Shape { what: "a Google key", prefix: ["AI", "za"], rest: 35, digits: true },
];

/// The words after `-----BEGIN` in private keys of all kinds.
const PRIVATE_KEY: [&str; 2] = ["PRIVATE", "KEY-----"];

/// Least length at which random characters count as a secret: 24 random bytes in base64.
const RANDOM_LENGTH: usize = 32;

/// The shape of a token: a prefix and at least `rest` further characters, including a digit if `digits`.
struct Shape {
    what: &'static str,
    prefix: [&'static str; 2],
    rest: usize,
    digits: bool,
}

/// Scans all files of the repository.
pub(crate) fn step(session: &Session) -> Result<Verdict> {
    let found = scan(&Tree::read(session)?, ALLOWED);
    if found.is_empty() { Ok(Verdict::Passed) } else { Err(Failure::new(found.join("\n"))) }
}

/// One message per suspected secret, with the beginning of the token only, since the output of CI is public.
fn scan(tree: &Tree, allowed: &[(&str, &str)]) -> Vec<String> {
    let mut used = vec![false; allowed.len()];
    let mut found = Vec::new();
    for file in &tree.files {
        let may_hold_noise =
            tree.is_generated(&file.path) || is_fixture(&file.path) || file.path.ends_with(".svg");
        for (number, line) in (1..).zip(file.text.lines()) {
            for (what, token) in secrets(line, may_hold_noise) {
                let is_allowed =
                    |(path, start): &(&str, &str)| *path == file.path && token.starts_with(start);
                if let Some(index) = allowed.iter().position(is_allowed) {
                    used[index] = true;
                } else {
                    let start: String = token.chars().take(6).collect();
                    found.push(format!("{}:{number}: {what}: {start}...", file.path));
                }
            }
        }
    }
    let stale = allowed.iter().zip(used).filter(|(_, used)| !used);
    found.extend(
        stale.map(|((path, _), _)| format!("{path}: nothing there needs the exception in xtask any more")),
    );
    found
}

/// The suspected secrets in one line: the kind and the text of each.
fn secrets(line: &str, may_hold_noise: bool) -> Vec<(&'static str, &str)> {
    let mut found = Vec::new();
    let [private, key] = PRIVATE_KEY;
    if line.contains("-----BEGIN ") && line.contains(&format!("{private} {key}")) {
        found.push(("a private key", line.trim()));
    }
    for token in line.split(|c: char| !is_token_char(c)) {
        let shape = SHAPES.iter().find(|shape| shape.fits(token));
        if let Some(shape) = shape {
            found.push((shape.what, token));
        } else if is_web_token(token) {
            found.push(("a JSON web token", token));
        } else if !may_hold_noise {
            found.extend(
                token.split('.').filter(|part| looks_random(part)).map(|part| ("random characters", part)),
            );
        }
    }
    found
}

impl Shape {
    fn fits(&self, token: &str) -> bool {
        let [first, second] = self.prefix;
        let Some(rest) = token.strip_prefix(first).and_then(|token| token.strip_prefix(second)) else {
            return false;
        };
        let has_digits = rest.bytes().any(|byte| byte.is_ascii_digit());
        rest.len() >= self.rest
            && (has_digits || !self.digits)
            && rest.bytes().any(|byte| byte.is_ascii_uppercase())
    }
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+')
}

/// Whether a token has the shape of a JSON Web Token: three parts of base64, the first two of which are JSON objects.
fn is_web_token(token: &str) -> bool {
    let parts: Vec<&str> = token.split('.').collect();
    matches!(parts[..], [header, claims, signature]
        if header.starts_with("eyJ") && claims.starts_with("eyJ") && signature.len() >= RANDOM_LENGTH)
}

/// Whether letters of both cases and digits alternate more often than in any word, name or alphabet.
fn looks_random(token: &str) -> bool {
    // Characters that join the words of a name do not count.
    let classes: Vec<u8> = token.bytes().map(class).filter(|class| *class < 3).collect();
    let switches = classes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    token.len() >= RANDOM_LENGTH
        && (0..3).all(|class| classes.contains(&class))
        && switches * 5 >= classes.len() * 2
}

/// The class of a character. In base64, two of three neighbouring characters are of different classes.
fn class(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 43 characters as random as a fixed text can be; joined here so that this file has none.
    fn random() -> String {
        ["q7RzV0mXk2", "Lw9TbYc4Hn", "J8sDfGe1Pu", "A5iKoQ3xZv", "6Mr"].concat()
    }

    fn found(line: &str) -> Vec<String> {
        scan(&Tree::new([("a.rs", line)]), &[])
    }

    #[test]
    fn every_shape_is_found() {
        for Shape { what, prefix, rest, .. } in &SHAPES {
            let body: String = random().to_uppercase().repeat(2).chars().take(*rest).collect();
            let line = format!("let key = \"{}{body}\";", prefix.concat());
            let found = found(&line);
            assert_eq!(found.len(), 1, "{what}: {found:?}");
            assert!(!found[0].contains(&body), "the whole token is shown: {found:?}");
        }
    }

    #[test]
    fn keys_web_tokens_and_noise_are_found() {
        let [private, key] = PRIVATE_KEY;
        assert_eq!(found(&format!("-----BEGIN RSA {private} {key}")).len(), 1);
        assert_eq!(found(&format!("eyJhbGciOi.eyJzdWIiOi.{}", random())).len(), 1);
        assert_eq!(found(&format!("token={}", random())).len(), 1);
        assert_eq!(found(&format!("http://127.0.0.1:1/#token={}", random())).len(), 1);
    }

    #[test]
    fn names_hashes_and_alphabets_are_no_secrets() {
        for line in [
            "fn a_client_that_sends_2_messages_gets_2_turns_in_Order() {}",
            "switchboard_transport_ws::tests::HandshakeRefusedWithStatus401Unauthorized",
            "sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "0192f0c1-2b3c-7d4e-8f90-a1b2c3d4e5f6",
        ] {
            assert!(found(line).is_empty(), "{line}");
        }
    }

    #[test]
    fn recorded_noise_is_no_secret_but_a_key_is() {
        let key = format!("{}{}", SHAPES[9].prefix.concat(), random());
        let tree = Tree::new([("fixtures/a.jsonl", format!("{}\n{key}\n", random()))]);
        let found = scan(&tree, &[]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("fixtures/a.jsonl:2"), "{found:?}");
    }

    #[test]
    fn an_exception_covers_its_token_and_must_be_needed() {
        let token = random();
        let allowed = [("a.rs", &token[..8])];
        assert!(scan(&Tree::new([("a.rs", token.as_str())]), &allowed).is_empty());
        assert_eq!(scan(&Tree::new([("b.rs", token.as_str())]), &allowed).len(), 2);
        assert_eq!(scan(&Tree::new([("a.rs", "clean")]), &allowed).len(), 1);
    }
}
