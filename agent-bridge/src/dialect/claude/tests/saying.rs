//! What the agent said, beside the recordings: the inputs of reports about other gateways, and hostile ones.

use serde_json::{Value, json};

use super::{codec, decode};

/// Decodes lines and renders the events, without positions and `Alive`.
fn said(lines: &[Value]) -> Vec<String> {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    let shown = decode(&mut codec(), &lines);
    shown.lines().map(|line| line[4..].to_owned()).filter(|line| line != ".").collect()
}

fn assistant(id: &str, block: &Value) -> Value {
    json!({"type": "assistant", "message": {"id": id, "content": [block]}, "parent_tool_use_id": null})
}

fn tool_use(message: &str, id: &str, name: &str, input: &Value) -> Value {
    assistant(message, &json!({"type": "tool_use", "id": id, "name": name, "input": input}))
}

fn tool_result(id: &str, content: &Value) -> Value {
    json!({"type": "user", "message": {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": id, "content": content}]}, "parent_tool_use_id": null})
}

#[test]
fn a_reused_id_is_a_new_use_and_a_repeated_record_is_not() {
    let mut lines = Vec::new();
    for (message, text) in [("m1", "one"), ("m2", "two"), ("m3", "three")] {
        let start = tool_use(message, "Bash:0", "Bash", &json!({"command": text}));
        lines.extend([start.clone(), start.clone(), tool_result("Bash:0", &json!(text)), start]);
        lines.push(tool_result("Bash:0", &json!("late")));
    }
    assert_eq!(
        said(&lines),
        [
            r#"tool Bash:0 Bash {"command":"one"} "one""#,
            r#"tool_end Bash:0 Bash Ok("one")"#,
            r#"tool Bash:0 Bash {"command":"two"} "two""#,
            r#"tool_end Bash:0 Bash Ok("two")"#,
            r#"tool Bash:0 Bash {"command":"three"} "three""#,
            r#"tool_end Bash:0 Bash Ok("three")"#,
        ]
    );
}

#[test]
fn subagents_may_use_the_same_id_at_once() {
    let by = |parent: &str, mut line: Value| {
        line["parent_tool_use_id"] = parent.into();
        line
    };
    let start = |message: &str| tool_use(message, "Bash:0", "Bash", &json!({}));
    let ended = said(&[
        by("a", start("m1")),
        by("b", start("m2")),
        by("b", tool_result("Bash:0", &json!("of b"))),
        by("a", tool_result("Bash:0", &json!("of a"))),
    ]);
    let ended: Vec<bool> = ended.iter().map(|event| event.contains("tool_end")).collect();
    assert_eq!(ended, [false, false, true, true]);
}

#[test]
fn a_use_that_begins_with_a_request_begins_once() {
    let request = json!({"type": "control_request", "request_id": "r-1", "request": {
        "subtype": "can_use_tool", "tool_name": "Bash", "input": {}, "tool_use_id": "t1"}});
    let mut whole = tool_use("m1", "t1", "Bash", &json!({}));
    whole["parent_tool_use_id"] = "a".into();
    let mut result = tool_result("t1", &json!("ok"));
    result["parent_tool_use_id"] = "a".into();
    for order in [[&request, &whole], [&whole, &request]] {
        let said = said(&[order[0].clone(), order[1].clone(), result.clone(), whole.clone()]);
        let events: Vec<&str> = said.iter().filter_map(|event| event.split(' ').next()).collect();
        assert_eq!(events.iter().filter(|event| **event == "tool").count(), 1, "{said:?}");
        assert_eq!(events.iter().filter(|event| **event == "tool_end").count(), 1, "{said:?}");
    }
}

#[test]
fn text_of_tools_is_not_rewritten() {
    let output = "/workspace/a.txt\n/workspace-two/b.txt\n/mnt/snap/workspace/d.txt\nx=/workspace:/usr/bin\n";
    let input = json!({"file_path": "/workspace/src/a.rs", "offset": 3});
    assert_eq!(
        said(&[tool_use("m", "t1", "Read", &input), tool_result("t1", &json!(output))]),
        [
            format!(r#"tool t1 Read {input} "Read src/a.rs" @src/a.rs"#),
            format!("tool_end t1 Read Ok({output:?})"),
        ]
    );
}

#[test]
fn media_in_a_result_are_listed() {
    let content = json!([
        {"type": "text", "text": "Took it."},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        {"type": "image", "data": "QUJD", "mimeType": "image/webp"},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}},
        {"type": "resource_link", "uri": "file:///tmp/x"},
    ]);
    let shown = said(&[tool_use("m", "t1", "shot", &json!({})), tool_result("t1", &content)]);
    assert_eq!(
        shown[1],
        r#"tool_end t1 shot Ok("Took it.\n[image]\n[image]\n[document]\n[other content]") [image/png 8] [image/webp 3] [application/pdf 4]"#
    );
    let mut read = tool_result("t1", &json!("PDF file read: a.pdf"));
    read["tool_use_result"] = json!({"type": "pdf", "file": {"filePath": "/workspace/a.pdf", "base64": "JVBERg==", "originalSize": 4}});
    assert_eq!(
        said(&[tool_use("m", "t1", "Read", &json!({})), read])[1],
        r#"tool_end t1 Read Ok("PDF file read: a.pdf") [application/pdf 4]"#
    );
}

#[test]
fn input_that_is_nested_too_deep_is_shown_as_text() {
    let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    let line = tool_use("m", "t1", "run", &json!("DEEP")).to_string().replace("\"DEEP\"", &deep);
    let shown = decode(&mut codec(), &[line]);
    assert!(shown.contains("tool t1 run \"{\\\"a\\\":"), "{}", &shown[..60]);
}

#[test]
fn edits_of_large_files_are_counted() {
    let input = json!({"file_path": "/workspace/x", "content": "line\n".repeat(60_000)});
    let shown = said(&[tool_use("m", "t1", "Write", &input), tool_result("t1", &json!("ok"))]);
    assert!(
        shown[2].starts_with("file_edit t1 Write x +60000 -0 \"--- x\\n+++ x\\n@@"),
        "{}",
        &shown[2][..80]
    );
    assert!(shown[2].ends_with(" TRUNCATED"));
}

#[test]
fn a_file_that_was_written_again_is_compared_with_its_content_before() {
    let input = json!({"file_path": "/workspace/x", "content": "a\nc\n"});
    let mut result = tool_result("t1", &json!("ok"));
    result["tool_use_result"] = json!({"type": "update", "originalFile": "a\nb\n", "content": "a\nc\n"});
    let shown = said(&[tool_use("m", "t1", "Write", &input), result]);
    assert_eq!(shown[2], r#"file_edit t1 Write x +1 -1 "--- x\n+++ x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n""#);
}
