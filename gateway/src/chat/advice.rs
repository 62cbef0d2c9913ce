//! Advice on errors from the gateway: a sentence for each error code of the wire.

use switchboard_core::wire::{ErrorCode, ErrorEvent};

/// The gateway's error text, followed by what a person can do about the error.
pub(super) fn explain(error: &ErrorEvent) -> String {
    if error.code == ErrorCode::Damaged {
        // The gateway's own text names the chat, which is clear to the person here.
        return format!("What the gateway has stored of this chat is damaged. {}", advice(error.code));
    }
    let detail = error.detail.trim().trim_end_matches('.');
    let mut letters = detail.chars();
    let said: String =
        letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default();
    let said = if said.is_empty() { "The gateway refused this".to_owned() } else { said };
    format!("{said}. {}", advice(error.code))
}

fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Malformed | ErrorCode::UnknownType | ErrorCode::MissingField => {
            "This program and the gateway seem to be of different versions: update the older one."
        }
        ErrorCode::Unsupported => "This gateway does not serve it.",
        ErrorCode::InvalidField => "Correct it, then send it again.",
        ErrorCode::TooLarge => "Shorten it, or put the text into a file of the workspace.",
        ErrorCode::UnknownChat => "/chats lists the chats.",
        ErrorCode::UnknownTurn => "There is nothing left to stop.",
        ErrorCode::UnknownRequest | ErrorCode::AlreadyResolved => "There is nothing left to answer.",
        ErrorCode::InputUnseen => "Look at it to its end, then answer.",
        ErrorCode::TurnConflict => "Write it again: it then gets an id of its own.",
        ErrorCode::QueueFull => "There is room again once the running turn has ended.",
        ErrorCode::RateLimited | ErrorCode::Unavailable => "Try again in a moment.",
        ErrorCode::LimitReached => "Close another page or program that is connected, then try again.",
        ErrorCode::Unauthorized => "Start this program again with the gateway's present token.",
        ErrorCode::Damaged => {
            "Trying again does not help. Other chats are not affected: /new begins one. `switchboard doctor` says what is damaged."
        }
        ErrorCode::TooSlow => "The connection comes back by itself, with what was missed.",
        ErrorCode::ShuttingDown => "The connection comes back by itself; try again then.",
        ErrorCode::Internal => "The gateway's log says more.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_words_become_a_sentence_and_what_to_do_follows() {
        let error = |code, detail: &str| ErrorEvent {
            code,
            detail: detail.into(),
            retryable: false,
            chat_id: None,
            turn_id: None,
            request_id: None,
            retry_after_ms: None,
            close: None,
        };
        let said = explain(&error(ErrorCode::QueueFull, "too many messages wait in this chat"));
        assert_eq!(
            said,
            "Too many messages wait in this chat. There is room again once the running turn has ended."
        );
        assert_eq!(
            explain(&error(ErrorCode::Internal, "")),
            "The gateway refused this. The gateway's log says more."
        );
        let damaged = explain(&error(ErrorCode::Damaged, "it is damaged."));
        assert!(
            damaged.starts_with(
                "What the gateway has stored of this chat is damaged. Trying again does not help."
            ) && damaged.contains("/new")
                && damaged.contains("doctor")
        );
    }
}
