//! Background work: each piece begins and ends once.

use serde_json::{Value, json};

use super::{
    codec, decode,
    lines::{assistant, result, shown, system, tool_use, with},
    render::render,
    talk::Talk,
};
use crate::dialect::{Codec as _, Decoded, ProcessExit};

/// Decodes lines and renders the tasks and notices.
fn told(lines: &[Value]) -> Vec<String> {
    let mut told = shown(lines);
    told.retain(|line| line.starts_with("task ") || line.starts_with("notice "));
    told
}

fn listed(ids: &[&str]) -> Value {
    let tasks: Vec<Value> = ids
        .iter()
        .map(|id| json!({"task_id": id, "task_type": "local_bash", "description": "make all"}))
        .collect();
    system("background_tasks_changed", json!({"tasks": tasks}))
}

fn started(task_type: &str, more: Value) -> Value {
    let known =
        json!({"task_id": "b1", "task_type": task_type, "description": "make all", "tool_use_id": "u1"});
    with(system("task_started", known), more)
}

fn notified(status: &str) -> Value {
    system("task_notification", json!({"task_id": "b1", "status": status, "tool_use_id": "u1"}))
}

fn updated(patch: Value) -> Value {
    system("task_updated", json!({"task_id": "b1", "patch": patch}))
}

#[test]
fn a_task_begins_and_ends_once() {
    let (begun, other) = (r#"task b1 Shell "make all" Running "u1""#, system("status", json!({})));
    for (status, ended) in [("completed", "Completed"), ("failed", "Failed"), ("killed", "Stopped")] {
        let ended = format!(r#"task b1 Shell "make all" {ended} "u1""#);
        let lines = [
            listed(&["b1"]),
            started("local_bash", json!({"is_backgrounded": true})),
            listed(&["b1"]),
            system("task_progress", json!({"task_id": "b1", "description": "still"})),
            updated(json!({"status": status})),
            notified(status),
            listed(&[]),
            notified(status),
        ];
        assert_eq!(told(&lines), [begun, &ended]);
        assert_eq!(told(&[&lines[1..4], &lines[5..]].concat()), [begun, &ended], "{status}");
    }
    // What the list alone says.
    assert_eq!(told(&[listed(&["b1"])]), [""; 0], "more may follow at once");
    let (begun, stopped) = (r#"task b1 Shell "make all" Running"#, r#"task b1 Shell "make all" Stopped"#);
    assert_eq!(told(&[listed(&["b1"]), other, listed(&[])]), [begun, stopped]);
    assert_eq!(told(&[listed(&["b1"]), listed(&[])]), [begun, stopped]);
}

#[test]
fn kinds_of_work() {
    for (task_type, tool, kind) in [
        ("local_bash", "Bash", "Shell"),
        ("local_agent", "Agent", "Agent"),
        ("local_bash", "Monitor", "Monitor"),
        ("cron", "CronCreate", "Schedule"),
        ("new_kind", "Other", "Other"),
    ] {
        let lines = [assistant("m", tool_use("u1", tool, json!({}))), started(task_type, json!({}))];
        assert_eq!(told(&lines), [format!(r#"task b1 {kind} "make all" Running "u1""#)]);
    }
}

#[test]
fn work_that_a_tool_use_waits_for_is_no_background_work() {
    let foreground = started("local_agent", json!({"is_backgrounded": false}));
    let lines = [foreground.clone(), updated(json!({"status": "completed"})), notified("completed")];
    assert_eq!(told(&lines), [""; 0]);
    let lines = [foreground, updated(json!({"is_backgrounded": true})), notified("stopped")];
    let (begun, ended) =
        (r#"task b1 Agent "make all" Running "u1""#, r#"task b1 Agent "make all" Stopped "u1""#);
    assert_eq!(told(&lines), [begun, ended]);
}

#[test]
fn only_background_work_goes_on_after_the_end_of_the_input() {
    let mut codec = codec();
    let mut says = |line: Value| {
        decode(&mut codec, &[line.to_string()]);
        codec.works_in_background()
    };
    assert!(!says(started("local_agent", json!({"is_backgrounded": false}))));
    assert!(says(updated(json!({"is_backgrounded": true}))));
    assert!(!says(notified("stopped")));
}

#[test]
fn work_ends_with_its_process() {
    let mut codec = codec();
    let lines = [started("local_bash", json!({})), listed(&["b1", "b2"])];
    decode(&mut codec, &lines.map(|line| line.to_string()));
    let mut out = Decoded::default();
    let exit = ProcessExit { code: Some(1), cancelled: false, description: "exited", last_words: "" };
    codec.exited(&exit, &mut out);
    codec.exited(&exit, &mut out);
    assert_eq!(render(9, &out), "  9 task b1 Shell \"make all\" Stopped \"u1\"\n", "b2 has not begun");
}

#[test]
fn work_that_did_not_outlive_its_agent_is_told() {
    let told_of = |status: &str, more: &str| {
        let text = format!(
            "<task-notification><task-id>b1</task-id><status>{status}</status>{more}</task-notification>"
        );
        json!({"type": "user", "message": {"content": text}, "origin": {"kind": "task-notification"}})
    };
    let lost = r#"notice Warning other "Background work ended together with an earlier process of the agent"#;
    let summary = "<summary>make all</summary>";
    assert_eq!(
        told(&[told_of("failed", summary), told_of("failed", summary)]),
        [format!(r#"{lost}: make all.""#)]
    );
    assert_eq!(told(&[told_of("killed", "")]), [format!(r#"{lost}.""#)]);
    assert_eq!(told(&[told_of("completed", summary)]), [""; 0]);
    let known = [started("local_bash", json!({})), told_of("failed", summary), notified("failed")];
    let (begun, ended) =
        (r#"task b1 Shell "make all" Running "u1""#, r#"task b1 Shell "make all" Failed "u1""#);
    assert_eq!(told(&known), [begun, ended]);
}

#[test]
fn work_of_an_earlier_process_is_told_once_after_the_resume() {
    let summary = "Background shell command didn't finish before the previous session ended";
    let ended_earlier = |status| with(notified(status), json!({"summary": summary}));
    let lost = format!(
        r#"notice Warning other "Background work ended together with an earlier process of the agent: {summary}.""#
    );
    let mut talk = Talk::resumed();
    talk.says(ended_earlier("stopped"));
    talk.says(ended_earlier("stopped"));
    talk.gave(&[&lost]);
    talk.says(system("init", json!({})));
    talk.says(result("", json!({"num_turns": 0, "origin": {"kind": "task-notification"}})));
    let silent = r#"notice Info other "The agent ended its turn without a word.""#;
    talk.gave(&["agent_turn Background", silent, "agent_turn_ended Completed"]);
    for mut other in [Talk::new(), talk] {
        other.says(system("task_notification", json!({"task_id": "b2", "status": "stopped"})));
        other.gave(&[]);
    }
    let mut talk = Talk::resumed();
    talk.says(ended_earlier("completed"));
    talk.gave(&[]);
}
