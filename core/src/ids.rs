//! Identifiers. Those of the wire are checked when they are parsed, so a value of their type is always valid.

use alloc::{string::String, sync::Arc};
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// A string is not a valid identifier. The text can be sent in an `error` frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidId(pub(crate) &'static str);

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for InvalidId {}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $error:literal, $pattern:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "schema", derive(ts_rs::TS))]
        pub struct $name(#[cfg_attr(feature = "schema", ts(type = "string"))] Arc<str>);

        impl $name {
            /// Parses an identifier.
            ///
            /// # Errors
            /// If the text does not have the identifier's form. The error names the kind of identifier.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(InvalidId($error)) }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(de::Error::custom)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> alloc::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

fn is_token(text: &str, longest: usize, extra: &[u8]) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || extra.contains(&b))
}

string_id! {
    /// A chat as the wire names it: `^[A-Za-z0-9_:-]{1,64}$`.
    ChatId, "invalid chat_id", r"^[A-Za-z0-9_:-]{1,64}$", |text| is_token(text, 64, b":")
}

string_id! {
    /// One message and everything that answers it. Made by the client so that a repeat is recognised:
    /// 1 to 128 bytes, no white space and no control characters.
    TurnId, "invalid turn_id", r"^[^\s\x00-\x1f\x7f-\x9f]{1,128}$", |text| {
        (1..=128).contains(&text.len()) && !text.chars().any(|c| c.is_whitespace() || c.is_control())
    }
}

/// The first character of the ids of turns that an agent begins by itself.
const OF_AGENT: char = '~';

impl TurnId {
    /// The id for a turn that an agent begins by itself, from an id that no other turn has.
    ///
    /// # Panics
    /// If `unique` has 128 bytes: the id for the agent's turn is one byte longer.
    pub(crate) fn of_agent(unique: &Self) -> Self {
        let id = alloc::format!("{OF_AGENT}{unique}");
        Self::parse(&id).expect("the gateway's ids are shorter than the longest")
    }

    /// Whether the turn is one that an agent began by itself. No turn of a person has such an id.
    pub fn is_of_agent(&self) -> bool {
        self.0.starts_with(OF_AGENT)
    }
}

string_id! {
    /// A permission request or question: `^[A-Za-z0-9_:.-]{1,128}$`, never used again in its chat.
    RequestId, "invalid request_id", r"^[A-Za-z0-9_:.-]{1,128}$", |text| is_token(text, 128, b":.")
}

string_id! {
    /// One unbroken numbering of a chat's events: `[A-Za-z0-9_-]{1,16}`, opaque to clients.
    Epoch, "invalid epoch", r"^[A-Za-z0-9_-]{1,16}$", |text| is_token(text, 16, b"")
}

string_id! {
    /// The account behind a connection. Made by the authentication that verified a credential, never from a client's
    /// frame.
    Principal, "invalid principal", r"^[A-Za-z0-9_:.@-]{1,64}$", |text| is_token(text, 64, b":.@")
}

impl Principal {
    /// The principal of the first-run token, of `--no-auth` and of Unix peers with the gateway's own uid.
    pub fn owner() -> Self {
        Self("owner".into())
    }
}

/// Where a client stands in a chat: it has every event up to and including `seq` of `epoch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, ts_rs::TS))]
pub struct Cursor {
    /// The numbering that `seq` belongs to.
    pub epoch: Epoch,
    /// The last event that the client has; 0 before the first.
    #[cfg_attr(feature = "schema", ts(type = "number"))]
    pub seq: u64,
}

/// A chat's key. Chat ids are per principal, so the chat of another principal is an unknown chat.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChatKey {
    /// The owner of the chat.
    pub principal: Principal,
    /// The chat's id on the wire.
    pub chat: ChatId,
}

impl ChatKey {
    /// The hash that a journal stores of a deleted chat: the SHA-256 of the principal, a zero byte and the chat's id.
    pub fn hash(&self) -> [u8; 32] {
        let parts = [self.principal.as_str().as_bytes(), &[0], self.chat.as_str().as_bytes()];
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().into()
    }
}

/// Identifies a connection. Made by the shell and never used again after the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn-{}", self.0)
    }
}
