//! Ids of default chats. A default chat is stored only from its first message on, but a client may attach to it on a
//! later connection. So its id has check digits, by which any gateway process recognises that a `ready` named it.

use alloc::string::String;
use core::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::ids::{ChatId, ChatKey, Principal};

/// Random bytes of an id, so that it cannot be guessed.
pub(super) const RANDOM_BYTES: usize = 12;
/// Hexadecimal check digits after the random part, derived from it and from the principal. One of 2^32 other ids passes
/// the check.
const CHECK_DIGITS: usize = 8;

/// Makes the id with this random part, which is in hexadecimal digits.
pub(super) fn id(principal: &Principal, mut random: String) -> ChatId {
    let check = check(principal, &random);
    random.push_str(&check);
    ChatId::parse(&random).expect("hex is a chat id")
}

/// Whether this is the id of a default chat of its principal.
pub(super) fn is_default(key: &ChatKey) -> bool {
    let id = key.chat.as_str();
    id.len() == 2 * RANDOM_BYTES + CHECK_DIGITS
        && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && id[2 * RANDOM_BYTES..] == check(&key.principal, &id[..2 * RANDOM_BYTES])
}

fn check(principal: &Principal, random: &str) -> String {
    let hash = Sha256::new()
        .chain_update("default chat\0")
        .chain_update(random)
        .chain_update(principal.as_str())
        .finalize();
    let mut digits = String::with_capacity(CHECK_DIGITS);
    for byte in &hash[..CHECK_DIGITS / 2] {
        write!(digits, "{byte:02x}").expect("a String takes any text");
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(principal: &str, chat: &str) -> ChatKey {
        ChatKey { principal: Principal::parse(principal).unwrap(), chat: ChatId::parse(chat).unwrap() }
    }

    #[test]
    fn an_id_of_a_default_chat_is_known_to_be_one_of_its_principal_only() {
        let random = "0123456789abcdef01234567";
        let id = id(&Principal::parse("ann").unwrap(), random.into());
        let id = id.as_str();
        assert_eq!(id.len(), 32);
        assert!(is_default(&key("ann", id)));
        assert!(!is_default(&key("bob", id)));
        assert!(!is_default(&key("ann", &id.to_uppercase())));
        assert!(!is_default(&key("ann", &id[..31])));
        assert!(!is_default(&key("ann", random)));
        for at in 0..32 {
            let mut other = String::from(id);
            let digit = if id.as_bytes()[at] == b'0' { "1" } else { "0" };
            other.replace_range(at..=at, digit);
            assert!(!is_default(&key("ann", &other)), "{other}");
        }
    }
}
