//! Text of the answer: told once and whole, whatever its pieces and the lines that carry them.

use serde_json::{Value, json};

use super::lines::{
    assistant, block_start, block_stop, by, check, delta, input_delta, message_start, message_stop, raw,
    result, shown, text, text_delta, tool_result, tool_use,
};

fn start() -> Value {
    message_start("m1")
}

fn whole(block: Value) -> Value {
    assistant("m1", block)
}

#[test]
fn a_character_between_two_pieces_is_whole() {
    let answer = |pieces: &[&str], is_whole: Option<&str>| {
        let mut lines = vec![start().to_string(), block_start(0, text("")).to_string()];
        lines.extend(pieces.iter().map(|piece| raw(&text_delta(0, "TEXT"), piece)));
        lines.extend(is_whole.map(|is_whole| raw(&whole(text("TEXT")), is_whole)));
        lines.extend([block_stop(0), message_stop()].map(|line| line.to_string()));
        shown(&lines)
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
        (&[r"a\ud83db \ud83d\ude00 \\ud83d"], &[r#"text 1-2 "a�b 😀 \\ud83d""#, ended]),
    ] {
        assert_eq!(answer(pieces, None), expected, "{pieces:?}");
    }
}

#[test]
fn a_character_between_two_pieces_of_a_tools_input_is_whole() {
    for (pieces, expected) in [
        (&[r#"{\"a\":\"\ud83c"#, r#"\udf89\"}"#][..], "🎉"),
        (&[r#"{\"a\":\"\ud83c"#, "x", r#"\udf89\"}"#], "�x�"),
        (&[r#"{\"a\":\"x\ud83c"#, r#"\"}"#], "x�"),
        // Here the JSON of the input itself has the halves.
        (&[r#"{\"a\":\"\\ud83c"#, r#"\\udf89\"}"#], "🎉"),
        (&[r#"{\"a\":\"\\ud83c"#, r#"x\"}"#], "�x"),
    ] {
        let tool = block_start(0, tool_use("t1", "run", json!({})));
        let mut lines = vec![start().to_string(), tool.to_string()];
        lines.extend(pieces.iter().map(|piece| raw(&input_delta(0, "TEXT"), piece)));
        lines.push(block_stop(0).to_string());
        assert_eq!(shown(&lines), [format!(r#"tool t1 run {{"a":"{expected}"}}"#)], "{pieces:?}");
    }
    // The input ends with a half.
    let tool = block_start(0, tool_use("t1", "run", json!({})));
    let half = raw(&input_delta(0, "TEXT"), r"{\ud83c");
    check(
        &[start().to_string(), tool.to_string(), half, block_stop(0).to_string()],
        &[r#"tool t1 run "{�""#],
    );
}

#[test]
fn half_a_character_of_a_subagent_waits_for_the_subagents_next_piece() {
    let of_subagent = |line| by(Some("u1"), line);
    let piece = of_subagent(text_delta(0, "TEXT"));
    let begin =
        |line: fn(Value) -> Value| [line(start()), line(block_start(0, text("")))].map(|l| l.to_string());
    let mut lines = begin(|line| by(Some("u1"), line)).to_vec();
    lines.push(raw(&piece, r"\ud83c"));
    lines.extend(begin(|line| line));
    lines.extend([text_delta(0, "main").to_string(), raw(&piece, r"\udf89")]);
    check(&lines, &[r#"text 1-5 "main""#, r#"under u1: text 1-2 "🎉""#]);
}

#[test]
fn blocks_that_begin_on_one_line_have_streams_of_their_own() {
    let block = |index, piece| [block_start(index, text("")), text_delta(index, piece)];
    let objects = [&[start()][..], &block(0, "a"), &block(1, "b")].concat();
    let line: String = objects.iter().map(Value::to_string).collect();
    check(&[line], &[r#"text 1-1.1 "a""#, r#"text 1-1.3 "b""#]);
}

#[test]
fn text_is_told_once_in_whatever_order_it_comes() {
    let streamed = [start(), block_start(0, text("")), text_delta(0, "Once "), text_delta(0, "only.")];
    let named = |id: &str| assistant(id, text("Once only."));
    let ends = [block_stop(0), message_stop()];
    let orders: [Vec<Value>; 3] = [
        [&streamed[..], &ends, &[named("m1")]].concat(),
        [&streamed[..], &[named("other")], &ends].concat(),
        [&streamed[..], &ends[..1], &[named("m1")], &ends[1..]].concat(),
    ];
    for mut lines in orders {
        lines.push(result("Once only.", json!({})));
        let expected = [r#"text 1-2 "Once ""#, r#"text 1-2 "only.""#, "text_end 1-2", "turn_ended Completed"];
        assert_eq!(shown(&lines)[..4], expected);
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
        let said = shown(&[line]);
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
        assert_eq!(shown(std::slice::from_ref(&line)), [""; 0], "{line}");
    }
}

#[test]
fn control_characters_and_separators_are_text() {
    let odd = "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f nul \0 in text\u{1b}";
    assert_eq!(shown(&[whole(text(odd))]), [format!("message {odd:?}")]);
    let lines = [whole(tool_use("t1", "Bash", json!({}))), tool_result("t1", json!(odd))];
    assert_eq!(shown(&lines)[1], format!("tool_end t1 Bash Ok({odd:?})"));
}

const CITATION: &str =
    r#"{"type": "web_search_result_location", "url": "https://example.org/rust", "title": "Rust 1.95"}"#;

/// A block of text with a citation.
fn cited(text: &str) -> Value {
    let citation: Value = serde_json::from_str(CITATION).unwrap();
    json!({"type": "text", "text": text, "citations": [citation]})
}

/// The answer of a model that searches and cites: in pieces, and with every block as a whole, too.
fn search() -> Vec<Value> {
    let query = json!({"query": "rust 1.95"});
    let page = json!({"type": "web_search_result", "url": "https://example.org/rust", "title": "Rust 1.95"});
    let asked =
        |input| json!({"type": "server_tool_use", "id": "srv1", "name": "web_search", "input": input});
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "srv1", "content": [page]});
    let citation: Value = serde_json::from_str(CITATION).unwrap();
    vec![
        start(),
        block_start(0, asked(json!({}))),
        input_delta(0, &query.to_string()),
        whole(asked(query)),
        block_stop(0),
        block_start(1, found.clone()),
        whole(found),
        block_stop(1),
        block_start(2, text("")),
        text_delta(2, "Rust 1.95 "),
        whole(text("Rust 1.95 ")),
        block_stop(2),
        block_start(3, json!({"type": "text", "text": "", "citations": []})),
        delta(3, json!({"type": "citations_delta", "citation": citation})),
        text_delta(3, "is out"),
        whole(cited("is out")),
        block_stop(3),
        block_start(4, text("")),
        text_delta(4, "."),
        whole(text(".")),
        block_stop(4),
        message_stop(),
        result("Rust 1.95 is out.", json!({})),
    ]
}

#[test]
fn an_answer_that_is_cut_at_citations_is_one_text_with_sources() {
    for left_out in ["nothing", "assistant", "stream_event"] {
        let mut lines = search();
        lines.retain(|line| line["type"] != left_out);
        let said = shown(&lines);
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
            ],
            "without {left_out}"
        );
    }
}

#[test]
fn a_whole_text_that_cites_ends_where_something_else_follows() {
    let ended = r#"<https://example.org/rust> "Rust 1.95""#;
    let tool = r#"tool t1 Bash {}"#;
    check(
        &[whole(cited("a")), whole(text("b")), whole(tool_use("t1", "Bash", json!({}))), whole(text("c"))],
        &[r#"text 1-1 "a""#, r#"text 1-1 "b""#, &format!("text_end 1-1 {ended}"), tool, r#"text 1-4 "c""#],
    );
    let mut line = whole(text("a"));
    let more = [cited("b"), tool_use("t1", "Bash", json!({})), cited("c")];
    line["message"]["content"].as_array_mut().unwrap().extend(more);
    check(
        &[line, assistant("m2", cited("d")), start()],
        &[
            r#"text 1-1 "a""#,
            r#"text 1-1 "b""#,
            &format!("text_end 1-1 {ended}"),
            tool,
            r#"text 1-1.b3 "c""#,
            &format!("text_end 1-1.b3 {ended}"),
            r#"text 1-2 "d""#,
            &format!("text_end 1-2 {ended}"),
        ],
    );
    // A subagent's text ends with the subagent.
    let lines = [
        whole(tool_use("u1", "Agent", json!({}))),
        by(Some("u1"), assistant("s1", cited("a"))),
        whole(text("between")),
        by(Some("u1"), assistant("s1", text("b"))),
        tool_result("u1", json!("done")),
    ];
    check(
        &lines,
        &[
            "tool u1 Agent {}",
            r#"under u1: text 1-2 "a""#,
            r#"message "between""#,
            r#"under u1: text 1-2 "b""#,
            &format!("under u1: text_end 1-2 {ended}"),
            r#"tool_end u1 Agent Ok("done")"#,
        ],
    );
}

#[test]
fn a_confirmed_text_stands_when_the_message_begins_again() {
    let cited = |text: &str| json!({"type": "text", "text": text, "citations": []});
    let open = |confirmed: Option<Value>| {
        let mut lines = vec![start(), block_start(0, cited("")), text_delta(0, "Known. ")];
        lines.extend(confirmed);
        lines.extend([block_stop(0), block_start(1, cited("")), text_delta(1, "Half"), start()]);
        shown(&lines)
    };
    let told = [r#"text 1-2 "Known. ""#, r#"text 1-2 "Half""#];
    assert_eq!(open(Some(whole(cited("Known. ")))), [told[0], told[1], "text_end 1-2"]);
    assert_eq!(open(None), [told[0], told[1], "text_end 1-2 VOID"]);
}

#[test]
fn tool_input_that_is_too_long_ends_before_what_does_not_fit() {
    let tool = block_start(0, tool_use("t1", "run", json!({})));
    let pieces = ["{\"a\":1", &"x".repeat(1024 * 1024), "}"].map(|piece| input_delta(0, piece));
    let lines = [&[start(), tool][..], &pieces, &[block_stop(0)]].concat();
    assert_eq!(shown(&lines), [r#"tool t1 run "{\"a\":1…""#]);
}

#[test]
fn a_search_that_fails_says_why() {
    let asked = json!({"type": "server_tool_use", "id": "srv1", "name": "web_search", "input": {}});
    let failed = json!({"type": "web_search_tool_result", "tool_use_id": "srv1",
        "content": {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}});
    assert_eq!(
        shown(&[whole(asked), whole(failed)])[1],
        r#"tool_end srv1 web_search Err("max_uses_exceeded")"#
    );
}

#[test]
fn texts_without_citations_stay_apart() {
    let lines = [
        start(),
        block_start(0, text("a")),
        block_stop(0),
        block_start(1, text("b")),
        block_stop(1),
        message_stop(),
    ];
    assert_eq!(shown(&lines), [r#"text 1-2 "a""#, r#"text 1-4 "b""#, "text_end 1-2", "text_end 1-4"]);
}
