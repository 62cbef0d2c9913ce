//! The refusal of every sort of malformed frame: its code and its detail.

use switchboard_core::{
    Limits,
    wire::{ClientEnvelope, DecodeError, ErrorCode, decode, decode_binary},
};

fn limits() -> Limits {
    Limits { frame_bytes: 2000, text_bytes: 100, json_depth: 8, ..Limits::default() }
}

fn strict(text: &str) -> Result<Option<ClientEnvelope>, DecodeError> {
    decode(text, &limits(), false)
}

fn legacy(text: &str) -> Result<Option<ClientEnvelope>, DecodeError> {
    decode(text, &limits(), true)
}

/// Checks that each frame is refused with this code and detail.
#[track_caller]
fn check(cases: &[(&str, ErrorCode, &str)]) {
    for (frame, code, detail) in cases {
        let Err(error) = strict(frame) else { panic!("{frame} was taken") };
        assert_eq!((error.code, &*error.detail), (*code, *detail), "{frame}");
        // A frame with a type is decoded in the same way whether or not legacy frames are accepted.
        if frame.starts_with('[') || frame.contains("\"type\"") {
            assert_eq!(legacy(frame).as_ref(), Err(&error), "{frame} on a legacy transport");
        }
    }
}

use ErrorCode::{InvalidField, Malformed, MissingField, TooLarge, UnknownType, Unsupported};

#[test]
fn what_is_not_an_object_is_malformed() {
    check(&[
        ("\u{b}", Malformed, "a frame is a JSON object"),
        ("\u{feff}", Malformed, "a frame has no byte order mark"),
        (" \u{feff}{\"type\":\"ping\"}", Malformed, "a frame has no byte order mark"),
        ("{}\u{feff}", Malformed, "invalid JSON at line 1 column 3"),
        ("hello", Malformed, "a frame is a JSON object"),
        ("null", Malformed, "a frame is a JSON object"),
        ("7", Malformed, "a frame is a JSON object"),
        ("\"{}\"", Malformed, "a frame is a JSON object"),
        ("[]", Malformed, "a frame is a JSON object, not an array"),
        ("[{\"type\":\"ping\"}]", Malformed, "a frame is a JSON object, not an array"),
        ("[secret", Malformed, "a frame is a JSON object, not an array"),
        ("{", Malformed, "invalid JSON: it ends early"),
        ("{\"type\":\"pi", Malformed, "invalid JSON: it ends early"),
        ("{\"type\" \"ping\"}", Malformed, "invalid JSON at line 1 column 9"),
        ("{\"type\":\"ping\"} {}", Malformed, "invalid JSON at line 1 column 17"),
        ("{\"type\":\"ping\",}", Malformed, "invalid JSON at line 1 column 16"),
        ("{'type':'ping'}", Malformed, "invalid JSON at line 1 column 2"),
        ("{\"type\":\"ping\",\n\"nonce\":secret}", Malformed, "invalid JSON at line 2 column 9"),
        ("{\"type\":\"ping\",\"nonce\":\"\u{1}\"}", Malformed, "invalid JSON at line 1 column 25"),
        ("{\"type\":\"ping\",\"nonce\":\"\\ud800\"}", Malformed, "invalid JSON at line 1 column 31"),
        ("{\"type\":\"ping\",\"nonce\":1e999}", Malformed, "invalid JSON at line 1 column 28"),
        ("{\"type\":\"ping\",\"nonce\":NaN}", Malformed, "invalid JSON at line 1 column 24"),
        ("{\"type\":\"ping\",\"nonce\":01}", Malformed, "invalid JSON at line 1 column 25"),
    ]);
}

#[test]
fn a_blank_frame_is_ignored() {
    for blank in ["", " ", "\r", "\n", " \t\r\n "] {
        assert_eq!((strict(blank), legacy(blank)), (Ok(None), Ok(None)), "{blank:?}");
        assert_eq!(decode_binary(blank.as_bytes(), &limits(), false), Ok(None));
    }
}

#[test]
fn a_missing_or_wrong_type_is_named() {
    check(&[
        ("{}", MissingField, "missing type"),
        ("{\"content\":\"hi\"}", MissingField, "missing type"),
        ("{\"type\":null}", InvalidField, "type is not a string"),
        ("{\"type\":7}", InvalidField, "type is not a string"),
        ("{\"type\":[\"ping\"]}", InvalidField, "type is not a string"),
        ("{\"type\":\"\"}", UnknownType, "unknown type: ''"),
        ("{\"type\":\"Ping\"}", UnknownType, "unknown type: 'Ping'"),
        ("{\"type\":\"legacy\",\"content\":\"x\"}", UnknownType, "unknown type: 'legacy'"),
        ("{\"type\":\"a\\u0000\\nb\"}", UnknownType, "unknown type: 'ab'"),
    ]);
    let long = format!("{{\"type\":\"{}\"}}", "é".repeat(100));
    assert_eq!(strict(&long).unwrap_err().detail, format!("unknown type: '{}'", "é".repeat(64)));
}

#[test]
fn what_is_not_served_says_so() {
    for kind in [
        "set_workspace_scope",
        "set_agent_option",
        "fork_chat",
        "edit_message",
        "tool_result",
        "register_tools",
        "new_temporary_chat",
        "discard_temporary_chat",
        "transcribe_audio",
        "set_sidebar_state",
        "webui_request",
        "ticket",
    ] {
        let frame = format!("{{\"type\":\"{kind}\",\"chat_id\":\"c\"}}");
        let error = strict(&frame).unwrap_err();
        assert_eq!((error.code, error.detail), (Unsupported, format!("'{kind}' is not served here")));
        assert_eq!(error.chat_id.unwrap().as_str(), "c");
    }
    check(&[(
        r#"{"type":"message","chat_id":"c","content":"x","media":[{"data_url":"data:"}]}"#,
        Unsupported,
        "'media' is not served here",
    )]);
    let empty = r#"{"type":"message","chat_id":"c","content":"x","media":[]}"#;
    assert!(matches!(strict(empty), Ok(Some(ClientEnvelope::Message(_)))));
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn a_field_that_changes_what_an_agent_may_do_is_served_or_refused() {
    let message = r#""type":"message","chat_id":"c","content":"x","turn_id":"t""#;
    let new_chat = r#""type":"new_chat""#;
    let attach = r#""type":"attach","chat_id":"c""#;
    let untyped = r#""content":"x""#;
    let respond = r#""type":"respond","chat_id":"c","request_id":"r","decision":"allow""#;
    let of_messages = [
        "media",
        "workspace_scope",
        "workspace",
        "access_mode",
        "cli_apps",
        "mcp_presets",
        "session_mentions",
        "quoted_context",
        "user_shell",
        "image_generation",
        "agent",
        "machine",
        "model",
        "model_preset",
        "mode",
        "permission_mode",
        "permissionMode",
        "PermissionMode",
        "permission-mode",
        "permissions",
        "rules",
        "sandbox",
        "temporary",
        "cwd",
        "env",
        "tools",
        "allowedTools",
        "disallowed_tools",
        "mcpServers",
        "system_prompt",
        "appendSystemPrompt",
        "images",
        "attachments",
        "files",
    ];
    let of_answers = [
        "option_id",
        "updated_input",
        "updatedInput",
        "updated_permissions",
        "updatedPermissions",
        "permission_suggestions",
        "permissionMode",
        "always",
        "alwaysAllow",
        "always_allow",
        "remember",
        "scope",
    ];
    let frames =
        of_messages.iter().flat_map(|field| [message, new_chat, attach, untyped].map(|frame| (frame, field)));
    for (frame, field) in frames.chain(of_answers.iter().map(|field| (respond, field))) {
        let decode =
            |value: &str| decode(&format!(r#"{{{frame},"{field}":{value}}}"#), &Limits::default(), true);
        for value in ["true", "7", r#""x""#, r#"["x"]"#, r#"{"project_path":"/","access_mode":"full"}"#] {
            let error = decode(value).unwrap_err();
            let expected = (Unsupported, format!("'{field}' is not served here"));
            assert_eq!((error.code, error.detail), expected, "{frame} {value}");
            assert_eq!(error.turn_id.is_some(), frame == message, "a client can match it");
            assert_eq!(error.request_id.is_some(), frame == respond, "a client can match it");
        }
        for value in ["null", "false", r#""""#, r#"" ""#, "[]", "{}", r#"{"enabled":false,"ratio":null}"#] {
            assert!(matches!(decode(value), Ok(Some(_))), "{frame} {field} {value}");
        }
    }
    // Fields that only describe the client are ignored.
    assert!(strict(r#"{"type":"new_chat","webui":true,"language":"en"}"#).is_ok());
    assert!(strict(r#"{"type":"message","chat_id":"c","content":"x","webui":true,"_":1}"#).is_ok());
}

#[test]
fn a_title_is_one_line_of_bounded_length() {
    let rename = |title: &str| {
        let title = serde_json::to_string(title).unwrap();
        strict(&format!("{{\"type\":\"rename_chat\",\"chat_id\":\"c\",\"title\":{title}}}"))
    };
    let longest = "ü".repeat(128);
    for (given, expected) in [(" Sea and sky\n", "Sea and sky"), (&longest, &longest)] {
        let Ok(Some(ClientEnvelope::RenameChat { title, .. })) = rename(given) else { panic!("{given}") };
        assert_eq!(title, expected);
    }
    for (given, code) in [
        ("", MissingField),
        (" \t ", MissingField),
        (&*format!("{longest}x"), TooLarge),
        ("two\nlines", InvalidField),
        ("a\u{1b}[31mb", InvalidField),
    ] {
        assert_eq!(rename(given).unwrap_err().code, code, "{given:?}");
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn fields_are_checked_one_by_one() {
    check(&[
        (r#"{"type":"authenticate"}"#, MissingField, "missing token"),
        (r#"{"type":"authenticate","token":null}"#, MissingField, "missing token"),
        (r#"{"type":"authenticate","token":{"secret":1}}"#, InvalidField, "token is not a string"),
        (r#"{"type":"attach"}"#, InvalidField, "invalid chat_id"),
        (r#"{"type":"attach","chat_id":null}"#, InvalidField, "invalid chat_id"),
        (r#"{"type":"attach","chat_id":7}"#, InvalidField, "invalid chat_id"),
        (r#"{"type":"attach","chat_id":""}"#, InvalidField, "invalid chat_id"),
        (r#"{"type":"attach","chat_id":"a/b"}"#, InvalidField, "invalid chat_id"),
        (r#"{"type":"attach","chat_id":"é"}"#, InvalidField, "invalid chat_id"),
        (
            r#"{"type":"attach","chat_id":"c","after":7}"#,
            InvalidField,
            "after is not an object of epoch and seq",
        ),
        (r#"{"type":"attach","chat_id":"c","after":{}}"#, InvalidField, "invalid after.epoch"),
        (
            r#"{"type":"attach","chat_id":"c","after":{"epoch":"a b","seq":1}}"#,
            InvalidField,
            "invalid after.epoch",
        ),
        (r#"{"type":"attach","chat_id":"c","after":{"epoch":"e"}}"#, InvalidField, "invalid after.seq"),
        (
            r#"{"type":"attach","chat_id":"c","after":{"epoch":"e","seq":-1}}"#,
            InvalidField,
            "invalid after.seq",
        ),
        (
            r#"{"type":"attach","chat_id":"c","after":{"epoch":"e","seq":1.5}}"#,
            InvalidField,
            "invalid after.seq",
        ),
        (
            r#"{"type":"attach","chat_id":"c","after":{"epoch":"e","seq":18446744073709551616}}"#,
            InvalidField,
            "invalid after.seq",
        ),
        (r#"{"type":"detach","chat_id":[]}"#, InvalidField, "invalid chat_id"),
        (r#"{"type":"message","content":"x"}"#, InvalidField, "invalid chat_id"),
        (r#"{"type":"message","chat_id":"c"}"#, MissingField, "missing content"),
        (r#"{"type":"message","chat_id":"c","content":null}"#, MissingField, "missing content"),
        (r#"{"type":"message","chat_id":"c","content":" \n\t"}"#, MissingField, "missing content"),
        (r#"{"type":"message","chat_id":"c","content":["secret"]}"#, InvalidField, "content is not a string"),
        (r#"{"type":"message","chat_id":"c","content":"x","turn_id":7}"#, InvalidField, "invalid turn_id"),
        (r#"{"type":"message","chat_id":"c","content":"x","turn_id":""}"#, InvalidField, "invalid turn_id"),
        (
            r#"{"type":"message","chat_id":"c","content":"x","turn_id":"a b"}"#,
            InvalidField,
            "invalid turn_id",
        ),
        (r#"{"type":"cancel","chat_id":"c","turn_id":false}"#, InvalidField, "invalid turn_id"),
        (r#"{"type":"respond","chat_id":"c"}"#, MissingField, "missing request_id"),
        (r#"{"type":"respond","chat_id":"c","request_id":7}"#, InvalidField, "request_id is not a string"),
        (r#"{"type":"respond","chat_id":"c","request_id":"a b"}"#, InvalidField, "invalid request_id"),
        (r#"{"type":"respond","chat_id":"c","request_id":"r"}"#, MissingField, "missing decision"),
        (
            r#"{"type":"respond","chat_id":"c","request_id":"r","decision":"yes"}"#,
            InvalidField,
            "decision is not one of 'allow', 'deny', 'answer'",
        ),
        (
            r#"{"type":"respond","chat_id":"c","request_id":"r","decision":"deny","message":7}"#,
            InvalidField,
            "message is not a string",
        ),
        (
            r#"{"type":"respond","chat_id":"c","request_id":"r","decision":"answer"}"#,
            MissingField,
            "missing answers",
        ),
        (
            r#"{"type":"respond","chat_id":"c","request_id":"r","decision":"answer","answers":[]}"#,
            InvalidField,
            "answers is not an object",
        ),
        (
            r#"{"type":"respond","chat_id":"c","request_id":"r","decision":"answer","answers":{"q":7}}"#,
            InvalidField,
            "answers is not an object of strings or arrays of strings",
        ),
        (
            r#"{"type":"respond","chat_id":"c","request_id":"r","decision":"answer","answers":{"q":["a",7]}}"#,
            InvalidField,
            "answers is not an object of strings or arrays of strings",
        ),
        (r#"{"type":"set_goal_state","chat_id":"c"}"#, MissingField, "missing goal_state"),
        (
            r#"{"type":"set_goal_state","chat_id":"c","goal_state":7}"#,
            InvalidField,
            "goal_state is not an object",
        ),
        (
            r#"{"type":"set_goal_state","chat_id":"c","goal_state":{}}"#,
            MissingField,
            "missing goal_state.active",
        ),
        (
            r#"{"type":"set_goal_state","chat_id":"c","goal_state":{"active":1}}"#,
            InvalidField,
            "goal_state.active is not true or false",
        ),
        (
            r#"{"type":"set_goal_state","chat_id":"c","goal_state":{"active":true,"status":7}}"#,
            InvalidField,
            "status is not a string",
        ),
        (r#"{"type":"list_chats","limit":0}"#, InvalidField, "limit is not a whole number from 1 up"),
        (
            r#"{"type":"list_chats","limit":4294967296}"#,
            InvalidField,
            "limit is not a whole number from 1 up",
        ),
        (r#"{"type":"list_chats","limit":1e2}"#, InvalidField, "limit is not a whole number from 1 up"),
        (r#"{"type":"list_chats","before":7}"#, InvalidField, "before is not a string"),
        (
            r#"{"type":"history","chat_id":"c","limit":-1}"#,
            InvalidField,
            "limit is not a whole number from 1 up",
        ),
        (
            r#"{"type":"history","chat_id":"c","limit":"7"}"#,
            InvalidField,
            "limit is not a whole number from 1 up",
        ),
        (r#"{"type":"ping","nonce":7}"#, InvalidField, "nonce is not a string"),
    ]);
}

#[test]
fn a_frame_of_many_members_is_refused_before_it_is_a_tree() {
    let limits = Limits::default();
    // This is no valid JSON, so the refusal comes before it is parsed.
    let members = |count: usize| format!("{{{}", "\"a\":1,".repeat(count));
    let refused = |text: &str| decode(text, &limits, false).unwrap_err();
    for large in [members(60_000), "[".repeat(30) + &"0,".repeat(60_000), members(1_024)] {
        assert_eq!(refused(&large).detail, "frame is over the limit of 1024 members");
        assert_eq!(refused(&large).code, TooLarge);
    }
    assert_eq!(refused(&members(1_023)).code, Malformed, "the limit itself is parsed");
    let said = format!(r#"{{"type":"ping","nonce":"\"{}"}}"#, ",{[".repeat(40));
    assert!(decode(&said, &limits, false).is_ok(), "text has no members");
    let commas = format!(r#"{{"type":"message","chat_id":"c","content":"{}"}}"#, ",".repeat(5_000));
    assert!(decode(&commas, &limits, false).is_ok(), "text has no members");
}

#[test]
fn a_goal_state_is_measured_as_it_is_kept() {
    let limits = Limits::default();
    let goal = |text: &str| {
        let frame = format!(
            r#"{{"type":"set_goal_state","chat_id":"c","goal_state":{{"active":true,"objective":"{text}","recap":"{text}"}}}}"#
        );
        decode(&frame, &limits, false)
    };
    assert!(goal(&"x".repeat(16 * 1024)).is_ok());
    let refused = goal(&r"\u0001".repeat(16 * 1024)).unwrap_err();
    assert_eq!(
        (refused.code, &*refused.detail),
        (TooLarge, "goal_state is over the limit of 49152 bytes of JSON")
    );
}

#[test]
fn what_is_over_a_limit_says_which() {
    let (frame, deep, text) = ("x".repeat(2001), "[".repeat(8), "x".repeat(101));
    let id = "x".repeat(65);
    let nested = format!("{{\"type\":\"ping\",\"a\":{deep}{}}}", "]".repeat(8));
    let escaped = format!(r#"{{"type":"ping","a":"\"{}"}}"#, "{[".repeat(20));
    assert!(strict(&escaped).is_ok(), "braces in a string do not nest");
    assert!(strict(&nested.replacen("[]", "", 1)).is_ok(), "the limit itself is allowed");
    check(&[
        (&frame, TooLarge, "frame is over the limit of 2000 bytes"),
        (&nested, TooLarge, "nesting is over the limit of 8 levels"),
        (&format!("{}{}", "{\"a\":".repeat(9), "1"), TooLarge, "nesting is over the limit of 8 levels"),
        (
            &format!(r#"{{"type":"message","chat_id":"c","content":"{text}"}}"#),
            TooLarge,
            "content is over the limit of 100 bytes",
        ),
        (&format!(r#"{{"type":"attach","chat_id":"{id}"}}"#), InvalidField, "invalid chat_id"),
        (
            &format!(r#"{{"type":"message","chat_id":"c","content":"x","turn_id":"{id}{id}"}}"#),
            InvalidField,
            "invalid turn_id",
        ),
        (
            &format!(r#"{{"type":"respond","chat_id":"c","request_id":"{id}{id}","decision":"allow"}}"#),
            InvalidField,
            "invalid request_id",
        ),
        (
            r#"{"type":"attach","chat_id":"c","after":{"epoch":"aaaaaaaaaaaaaaaaa","seq":1}}"#,
            InvalidField,
            "invalid after.epoch",
        ),
        (
            &format!(
                r#"{{"type":"respond","chat_id":"c","request_id":"r","decision":"deny","message":"{text}"}}"#
            ),
            TooLarge,
            "message is over the limit of 100 bytes",
        ),
        (
            &format!(
                r#"{{"type":"respond","chat_id":"c","request_id":"r","decision":"answer","answers":{{"q":["{text}"]}}}}"#
            ),
            TooLarge,
            "answers is over the limit of 100 bytes",
        ),
        (
            &format!(r#"{{"type":"ping","nonce":"{text}{text}"}}"#),
            TooLarge,
            "nonce is over the limit of 128 bytes",
        ),
        (
            &format!(r#"{{"type":"list_chats","before":"{text}{text}{text}"}}"#),
            TooLarge,
            "before is over the limit of 256 bytes",
        ),
        (
            &format!(
                r#"{{"type":"set_goal_state","chat_id":"c","goal_state":{{"active":true,"status":"{text}{text}{text}"}}}}"#
            ),
            TooLarge,
            "status is over the limit of 256 bytes",
        ),
    ]);
    let whole = format!(r#"{{"type":"message","chat_id":"c","content":"{}"}}"#, "x".repeat(100));
    assert!(strict(&whole).is_ok(), "the limit itself is allowed");
}

#[test]
fn null_stands_for_an_absent_optional_field() {
    for frame in [
        r#"{"type":"attach","chat_id":"c","after":null}"#,
        r#"{"type":"message","chat_id":"c","content":"x","turn_id":null,"media":null}"#,
        r#"{"type":"cancel","chat_id":"c","turn_id":null}"#,
        r#"{"type":"respond","chat_id":"c","request_id":"r","decision":"deny","message":null}"#,
        r#"{"type":"list_chats","before":null,"limit":null}"#,
        r#"{"type":"history","chat_id":"c","before":null,"limit":null}"#,
        r#"{"type":"ping","nonce":null}"#,
        r#"{"type":"set_goal_state","chat_id":"c","goal_state":{"active":true,"status":null}}"#,
    ] {
        assert!(strict(frame).is_ok(), "{frame}");
    }
}

#[test]
fn the_last_of_duplicate_keys_counts() {
    let twice = r#"{"type":"ping","type":"cancel","chat_id":"a","chat_id":"b"}"#;
    let Ok(Some(ClientEnvelope::Cancel { chat_id, .. })) = strict(twice) else { panic!("{twice}") };
    assert_eq!(chat_id.as_str(), "b");
}

#[test]
fn an_error_names_chat_and_turn_and_echoes_nothing_else() {
    let frame = r#"{"type":"message","chat_id":"c","turn_id":"t","content":{"my":"secret"}}"#;
    let error = strict(frame).unwrap_err();
    assert_eq!(error.chat_id.as_ref().unwrap().as_str(), "c");
    assert_eq!(error.turn_id.as_ref().unwrap().as_str(), "t");
    let event = error.into_event();
    assert!(!event.retryable && event.close.is_none());
    assert!(!format!("{event:?}").contains("secret"));
    let bad_id = strict(r#"{"type":"attach","chat_id":"/etc/passwd"}"#).unwrap_err();
    assert!(bad_id.chat_id.is_none() && !bad_id.detail.contains("passwd"));
}

#[test]
fn text_and_untyped_objects_are_messages_on_a_legacy_transport() {
    let content = |text: &str| match legacy(text) {
        Ok(Some(ClientEnvelope::Legacy { content })) => Some(content),
        Ok(None) => None,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(content("  hello \n").as_deref(), Some("hello"));
    assert_eq!(content("null").as_deref(), Some("null"));
    assert_eq!(content("\"quoted\"").as_deref(), Some("\"quoted\""));
    assert_eq!(content(""), None);
    assert_eq!(content(" \u{a0}\t"), None);
    assert_eq!(content("{}"), None);
    assert_eq!(content(r#"{"content":" ","text":"b","message":"c"}"#).as_deref(), Some("b"));
    assert_eq!(content(r#"{"content":7,"message":" c "}"#).as_deref(), Some("c"));
    assert_eq!(content(r#"{"content":null}"#), None);
    assert_eq!(legacy("{oops").unwrap_err().code, Malformed);
    assert_eq!(legacy("[1]").unwrap_err().code, Malformed);
    assert_eq!(legacy(&"x".repeat(101)).unwrap_err().code, TooLarge);
    assert_eq!(legacy(&format!("{{\"text\":\"{}\"}}", "x".repeat(101))).unwrap_err().code, TooLarge);
    assert_eq!(legacy(r#"{"type":7,"text":"x"}"#).unwrap_err().code, InvalidField);
}

#[test]
fn binary_frames_are_text_if_they_are_utf8() {
    let ping = decode_binary(br#"{"type":"ping"}"#, &limits(), false);
    assert!(matches!(ping, Ok(Some(ClientEnvelope::Ping { nonce: None }))));
    assert!(matches!(decode_binary(b"hi", &limits(), true), Ok(Some(ClientEnvelope::Legacy { .. }))));
    for bad in [&b"{\"type\":\"\xff\"}"[..], b"\xed\xa0\x80", b"\xf8", b"hi\xc3"] {
        let error = decode_binary(bad, &limits(), true).unwrap_err();
        assert_eq!((error.code, &*error.detail), (Malformed, "a frame is UTF-8 text"));
    }
}
