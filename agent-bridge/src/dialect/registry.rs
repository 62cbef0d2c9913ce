//! The dialects that the configuration can name.

use std::fmt;

use super::{Dialect, claude::Claude, text::Text};

/// Claude Code's stream-json; one process serves many turns.
pub const CLAUDE: &dyn Dialect = &Claude;
/// Plain text: the prompt on standard input, the answer on standard output; one process per prompt.
pub const TEXT: &dyn Dialect = &Text { keeps_sequences: false };
/// As [`TEXT`], but what the command writes for a terminal, such as colours, remains in the answer.
pub const TEXT_RAW: &dyn Dialect = &Text { keeps_sequences: true };

/// Every dialect that the configuration can name.
pub const ALL: &[&dyn Dialect] = &[CLAUDE, TEXT, TEXT_RAW];

/// The dialect with this [`Dialect::name`].
///
/// # Errors
/// If there is no such dialect in [`ALL`].
pub fn by_name(name: &str) -> Result<&'static dyn Dialect, UnknownDialect> {
    ALL.iter().copied().find(|dialect| dialect.name() == name).ok_or_else(|| UnknownDialect(name.into()))
}

/// The error for a dialect name that is not in [`ALL`]; contains the unknown name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownDialect(pub String);

impl fmt::Display for UnknownDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<&str> = ALL.iter().map(|dialect| dialect.name()).collect();
        write!(f, "unknown dialect {:?}; known are: {}", self.0, known.join(", "))
    }
}

impl std::error::Error for UnknownDialect {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialects_are_found_by_name() {
        for dialect in ALL {
            assert_eq!(by_name(dialect.name()), Ok(*dialect));
        }
        assert!(by_name("Claude").is_err());
    }
}
