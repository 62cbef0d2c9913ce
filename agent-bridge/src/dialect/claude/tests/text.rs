//! Text of the answer: told once and whole, whatever its pieces and the lines that carry them.

use serde_json::{Value, json};

use super::{codec, decode};

/// Decodes lines and renders the events, without positions and `Alive`.
fn said(lines: &[String]) -> Vec<String> {
    let shown = decode(&mut codec(), lines);
    shown.lines().map(|line| line[4..].to_owned()).filter(|line| line != ".").collect()
}

fn event(event: &Value) -> String {
    json!({"type": "stream_event", "event": event, "parent_tool_use_id": null}).to_string()
}

fn start() -> String {
    event(&json!({"type": "message_start", "message": {"id": "m1"}}))
}

fn block(index: u64, block: &Value) -> String {
    event(&json!({"type": "content_block_start", "index": index, "content_block": block}))
}

/// A piece of the block 0. `text` is JSON, so that it can have half a character.
fn piece(text: &str) -> String {
    let delta = json!({"type": "text_delta", "text": "TEXT"});
    event(&json!({"type": "content_block_delta", "index": 0, "delta": delta})).replace("TEXT", text)
}

fn delta(index: u64, delta: &Value) -> String {
    event(&json!({"type": "content_block_delta", "index": index, "delta": delta}))
}

fn stop(index: u64) -> String {
    event(&json!({"type": "content_block_stop", "index": index}))
}

fn whole(block: &Value) -> String {
    let message = json!({"id": "m1", "content": [block]});
    json!({"type": "assistant", "message": message, "parent_tool_use_id": null}).to_string()
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn message_stop() -> String {
    event(&json!({"type": "message_stop"}))
}

#[test]
fn a_character_between_two_pieces_is_whole() {
    let answer = |pieces: &[&str], is_whole: Option<&str>| {
        let mut lines = vec![start(), block(0, &text(""))];
        lines.extend(pieces.iter().map(|text| piece(text)));
        lines.extend(is_whole.map(|is_whole| whole(&text("TEXT")).replace("TEXT", is_whole)));
        lines.extend([stop(0), message_stop()]);
        said(&lines)
    };
    let ended = "text_end 1-2";
    let party = [r#"text 1-2 "party ""#, r#"text 1-2 "🎉 time""#, ended];
    for is_whole in [None, Some(r"party \ud83c\udf89 time"), Some("party 🎉 time")] {
        assert_eq!(answer(&[r"party \ud83c", r"\udf89 time"], is_whole), party);
        assert_eq!(answer(&[r"party ", r"\uD83C", r"\uDF89 time"], is_whole), party);
    }
    // A half that nothing completes is marked, also where the answer ends.
    for (pieces, expected) in [
        (&[r"a\ud83c", "b"][..], &[r#"text 1-2 "a""#, r#"text 1-2 "�""#, r#"text 1-2 "b""#, ended][..]),
        (
            &[r"a\ud83c", r"\ud83c", r"\udf89"],
            &[r#"text 1-2 "a""#, r#"text 1-2 "�""#, r#"text 1-2 "🎉""#, ended],
        ),
        (&[r"a\ud83c"], &[r#"text 1-2 "a""#, r#"text 1-2 "�""#, ended]),
        (&[r"\ud83c"], &[r#"text 1-2 "�""#, ended]),
        (&[r"a\udf89b"], &[r#"text 1-2 "a�b""#, ended]),
        (&[r"a\\ud83c"], &[r#"text 1-2 "a\\ud83c""#, ended]),
    ] {
        assert_eq!(answer(pieces, None), expected, "{pieces:?}");
    }
}

#[test]
fn text_is_told_once_in_whatever_order_it_comes() {
    let streamed = [start(), block(0, &text("")), piece("Once "), piece("only.")];
    let named = |id: &str| whole(&text("Once only.")).replace("m1", id);
    let ends = [stop(0), message_stop()];
    let result = json!({"type": "result", "is_error": false, "result": "Once only."}).to_string();
    let orders: [Vec<String>; 3] = [
        [&streamed[..], &ends, &[named("m1")]].concat(),
        [&streamed[..], &[named("other")], &ends].concat(),
        [&streamed[..], &ends[..1], &[named("m1")], &ends[1..]].concat(),
    ];
    for mut lines in orders {
        lines.push(result.clone());
        let said = said(&lines);
        let expected = [r#"text 1-2 "Once ""#, r#"text 1-2 "only.""#, "text_end 1-2", "turn_ended Completed"];
        assert_eq!(said[..4], expected);
    }
}

#[test]
fn a_bad_line_costs_itself() {
    let result = json!({"type": "result", "is_error": false, "result": "All done."}).to_string();
    for line in [
        format!("npm notice {{x}} new version{result}"),
        format!("\u{feff}{result}\r"),
        format!("\0{result}\0"),
        format!("{{\"type\":\"system\"}}warn: {result} trailing"),
        format!("{{\"type\":\"assistant\",\"message\":{{\"content\":\"cut off {result}"),
        format!("{{\"type\":\"new\",\"deep\":{}1{}}}{result}", "[".repeat(500), "]".repeat(500)),
    ] {
        let said = said(&[line]);
        assert_eq!(said, ["message \"All done.\"", "turn_ended Completed", "(turn ended)"]);
    }
    for line in [
        "[\"result\"]".to_owned(),
        "7".into(),
        "null".into(),
        "{}".into(),
        json!({"type": 7}).to_string(),
        json!({"type": "result of a new kind"}).to_string(),
        json!({"type": "assistant", "message": {"content": [7, {"type": {}}, {"input": result}]}})
            .to_string(),
        format!("{{\"type\":\"assistant\",\"message\":{{\"input\":{result},"),
    ] {
        assert_eq!(said(std::slice::from_ref(&line)), [""; 0], "{line}");
    }
}

#[test]
fn control_characters_and_separators_are_text() {
    let odd = "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f nul \0 in text\u{1b}";
    assert_eq!(said(&[whole(&text(odd))]), [format!("message {odd:?}")]);
    let use_ = whole(&json!({"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}));
    let result = json!({"type": "user", "message": {"content": [
        {"type": "tool_result", "tool_use_id": "t1", "content": odd}]}});
    assert_eq!(said(&[use_, result.to_string()])[1], format!("tool_end t1 Bash Ok({odd:?})"));
}

/// The answer of a model that searches and cites, as it comes in pieces. With `repeated`, every block comes as a whole,
/// too.
fn search(repeated: bool) -> Vec<String> {
    let query = json!({"query": "rust 1.95"});
    let page = json!({"type": "web_search_result", "url": "https://example.org/rust", "title": "Rust 1.95"});
    let citation = json!({"type": "web_search_result_location", "url": "https://example.org/rust", "title": "Rust 1.95"});
    let asked = |input: &Value| json!({"type": "server_tool_use", "id": "srv1", "name": "web_search", "input": input});
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "srv1", "content": [page]});
    let repeat = |block: &Value| repeated.then(|| whole(block));
    let piece = |index, text: &str| delta(index, &json!({"type": "text_delta", "text": text}));
    let mut lines = vec![start(), block(0, &asked(&json!({})))];
    lines.push(delta(0, &json!({"type": "input_json_delta", "partial_json": query.to_string()})));
    lines.extend(repeat(&asked(&query)));
    lines.extend([stop(0), block(1, &found)]);
    lines.extend(repeat(&found));
    lines.extend([stop(1), block(2, &text("")), piece(2, "Rust 1.95 ")]);
    lines.extend(repeat(&text("Rust 1.95 ")));
    lines.extend([stop(2), block(3, &json!({"type": "text", "text": "", "citations": []}))]);
    lines.extend([delta(3, &json!({"type": "citations_delta", "citation": citation})), piece(3, "is out")]);
    lines.extend(repeat(&json!({"type": "text", "text": "is out", "citations": [citation]})));
    lines.extend([stop(3), block(4, &text("")), piece(4, ".")]);
    lines.extend(repeat(&text(".")));
    lines.extend([stop(4), message_stop()]);
    lines.push(json!({"type": "result", "is_error": false, "result": "Rust 1.95 is out."}).to_string());
    lines
}

#[test]
fn an_answer_that_is_cut_at_citations_is_one_text_with_sources() {
    for repeated in [false, true] {
        let said = said(&search(repeated));
        let stream = said[2].split(' ').nth(1).unwrap();
        assert_eq!(
            said,
            [
                r#"tool srv1 web_search {"query":"rust 1.95"} "Search the web for rust 1.95""#.to_owned(),
                r#"tool_end srv1 web_search Ok("Rust 1.95 (https://example.org/rust)") <https://example.org/rust> "Rust 1.95""#.into(),
                format!(r#"text {stream} "Rust 1.95 ""#),
                format!(r#"text {stream} "is out""#),
                format!(r#"text {stream} ".""#),
                format!(r#"text_end {stream} <https://example.org/rust> "Rust 1.95""#),
                "turn_ended Completed".into(),
                "(turn ended)".into(),
            ]
        );
    }
}

#[test]
fn a_confirmed_text_stands_when_the_message_begins_again() {
    let cited = |text: &str| json!({"type": "text", "text": text, "citations": []});
    let piece = |index, text: &str| delta(index, &json!({"type": "text_delta", "text": text}));
    let open = |confirmed: Option<String>| {
        let mut lines = vec![start(), block(0, &cited("")), piece(0, "Known. ")];
        lines.extend(confirmed);
        lines.extend([stop(0), block(1, &cited("")), piece(1, "Half"), start()]);
        said(&lines)
    };
    let told = [r#"text 1-2 "Known. ""#, r#"text 1-2 "Half""#];
    assert_eq!(open(Some(whole(&cited("Known. ")))), [told[0], told[1], "text_end 1-2"]);
    assert_eq!(open(None), [told[0], told[1], "text_end 1-2 VOID"]);
}

#[test]
fn tool_input_that_is_too_long_ends_before_what_does_not_fit() {
    let piece = |text: &str| delta(0, &json!({"type": "input_json_delta", "partial_json": text}));
    let tool = block(0, &json!({"type": "tool_use", "id": "t1", "name": "run", "input": {}}));
    let lines = [start(), tool, piece("{\"a\":1"), piece(&"x".repeat(1024 * 1024)), piece("}"), stop(0)];
    assert_eq!(said(&lines), [r#"tool t1 run "{\"a\":1…""#]);
}

#[test]
fn a_search_that_fails_says_why() {
    let asked = json!({"type": "server_tool_use", "id": "srv1", "name": "web_search", "input": {}});
    let failed = json!({"type": "web_search_tool_result", "tool_use_id": "srv1",
        "content": {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}});
    assert_eq!(
        said(&[whole(&asked), whole(&failed)])[1],
        r#"tool_end srv1 web_search Err("max_uses_exceeded")"#
    );
}

#[test]
fn texts_without_citations_stay_apart() {
    let lines = [start(), block(0, &text("a")), stop(0), block(1, &text("b")), stop(1), message_stop()];
    assert_eq!(said(&lines), [r#"text 1-2 "a""#, r#"text 1-4 "b""#, "text_end 1-2", "text_end 1-4"]);
}
