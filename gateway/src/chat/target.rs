//! The address of a gateway, as a person writes it on the command line.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::{
    cli::ChatArgs,
    config::{absolute, default_data_dir},
    failure::{Failure, Result},
    token,
};

/// The environment variable that may hold the token.
const VARIABLE: &str = "SWITCHBOARD_TOKEN";

/// How to reach a gateway.
#[derive(Debug)]
pub(super) enum Target {
    /// A Unix socket, which needs no token.
    Unix(PathBuf),
    /// A WebSocket endpoint.
    Web {
        /// The URL of the endpoint, with the scheme `ws`.
        url: String,
        /// The token to authenticate with.
        token: Token,
    },
}

/// The token for a gateway.
#[derive(Debug)]
pub(super) enum Token {
    Found(SecretString),
    /// No token was given, which a gateway without authentication does not mind.
    Missing {
        /// The file in the data directory that would hold the token.
        file: PathBuf,
    },
}

impl Target {
    /// The target that the arguments name, with the token from the URL, a file or the environment.
    ///
    /// # Errors
    ///
    /// The address cannot be parsed, or the token's file cannot be read.
    pub(super) fn of(args: &ChatArgs) -> Result<Self> {
        if let Some(path) = args.gateway.strip_prefix("unix:") {
            return Ok(Self::Unix(absolute(Path::new(path))?));
        }
        let (url, in_url) = web_url(&args.gateway).ok_or_else(|| {
            Failure::new(
                "The gateway's address is not one that chat understands.",
                "Give http://HOST:PORT or ws://HOST:PORT as `switchboard serve` prints it, or unix:PATH.",
            )
        })?;
        let token = match in_url {
            Some(token) => Token::Found(SecretString::from(token)),
            None => token_for(args)?,
        };
        Ok(Self::Web { url, token })
    }

    /// The address for messages on the terminal, without the token.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix:{}", path.display()),
            Self::Web { url, .. } => url.clone(),
        }
    }

    /// Where a token was looked for, if none was found, as a clause for the terminal.
    pub(super) fn missing_token(&self) -> Option<String> {
        let Self::Web { token: Token::Missing { file }, .. } = self else { return None };
        Some(format!("no token was found ({VARIABLE} is not set, and there is no file {})", file.display()))
    }
}

/// Parses an `http` or `ws` URL. Returns the WebSocket URL and the token from the fragment.
fn web_url(text: &str) -> Option<(String, Option<String>)> {
    let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
    // This client does not support TLS yet, which a proxy in front of the gateway may use.
    let ("http" | "ws", rest) = address.split_once("://")? else { return None };
    let rest = rest.split('?').next().unwrap_or_default().trim_end_matches('/');
    let rest = rest.strip_suffix("/ws").unwrap_or(rest);
    if rest.is_empty() || rest.contains('@') {
        return None;
    }
    let token = form_urlencoded::parse(fragment.as_bytes()).find(|(name, _)| name == "token");
    Some((format!("ws://{rest}/ws"), token.map(|(_, value)| value.into_owned())))
}

/// The token from `--token-file`, the environment, or the data directory of this user's gateway, in this order.
fn token_for(args: &ChatArgs) -> Result<Token> {
    if let Some(path) = &args.token_file {
        return token::read_existing(&absolute(path)?).map(Token::Found);
    }
    if let Ok(token) = std::env::var(VARIABLE)
        && !token.is_empty()
    {
        return Ok(Token::Found(SecretString::from(token)));
    }
    let dir = match &args.data_dir {
        Some(dir) => absolute(dir)?,
        None => default_data_dir()?,
    };
    let file = dir.join("token");
    // A gateway with --no-auth has no token file.
    if file.exists() { token::read_existing(&file).map(Token::Found) } else { Ok(Token::Missing { file }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood_as_they_are_printed() {
        let cases = [
            ("http://127.0.0.1:8765/#token=abc", Some(("ws://127.0.0.1:8765/ws", Some("abc")))),
            ("ws://[::1]:1/ws", Some(("ws://[::1]:1/ws", None))),
            ("http://host/sub/path/?x=1", Some(("ws://host/sub/path/ws", None))),
            ("http://user@host", None),
            ("host:8765", None),
            ("ftp://host", None),
            ("http://", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(url, token)| (url.to_owned(), token.map(str::to_owned)));
            assert_eq!(web_url(text), expected, "{text}");
        }
    }
}
