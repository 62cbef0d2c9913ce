//! Why the agent begins a turn by itself, from records as Claude Code 2.1.329 writes them.

use serde_json::{Value, json};

use super::{
    lines::{assistant, block_start, message_start, result, system, text, text_delta, tool_use, with},
    talk::Talk,
};
use crate::dialect::claude::ClaudeCodec;

fn init() -> Value {
    system("init", json!({}))
}

/// The line at the beginning of a turn for this prompt.
fn init_for(uuid: &str) -> Value {
    system("init", json!({"user_message_uuids": [uuid]}))
}

fn lifecycle(uuid: &str, state: &str) -> Value {
    json!({"type": "command_lifecycle", "command_uuid": uuid, "state": state})
}

/// The agent begins with something that was scheduled.
fn fired(source: &str) -> Value {
    with(lifecycle("fired", "started"), json!({"wakeup_source": source}))
}

fn notified(status: &str, summary: &str) -> Value {
    system("task_notification", json!({"task_id": "b1", "status": status, "summary": summary}))
}

fn task(id: &str, task_type: &str) -> Value {
    let known = json!({"task_id": id, "task_type": task_type, "description": "d", "is_backgrounded": true});
    system("task_started", known)
}

/// A text that the agent gives to itself.
fn given(origin: Value) -> Value {
    json!({"type": "user", "message": {"role": "user", "content": "go on"}, "origin": origin})
}

fn hook(subtype: &str) -> Value {
    system(
        subtype,
        json!({"hook_name": "SessionStart:startup", "hook_event": "SessionStart", "exit_code": 0}),
    )
}

impl Talk {
    /// A prompt that the agent answers.
    fn is_answered(&mut self) {
        let uuid = self.prompt("t-1");
        self.says(lifecycle(&uuid, "queued"));
        self.says(lifecycle(&uuid, "started"));
        self.says(init_for(&uuid));
        self.says(assistant("m", text("the answer")));
        self.says(result("the answer", json!({"user_message_uuids": [uuid]})));
        self.says(lifecycle(&uuid, "completed"));
    }

    /// The reasons of the turns that the agent has begun since the last call.
    fn reasons(&mut self) -> Vec<String> {
        let shown = std::mem::take(&mut self.shown);
        shown.iter().filter_map(|line| line.strip_prefix("agent_turn ")).map(Into::into).collect()
    }
}

#[test]
fn the_records_before_a_turn_say_its_reason() {
    for (before, reason) in [
        (vec![task("b1", "local_bash"), notified("completed", "done")], "Background"),
        (vec![notified("failed", "exit code 1")], "Background"),
        (vec![given(json!({"kind": "task-notification"}))], "Background"),
        (vec![task("m1", "monitor")], "Background"),
        (vec![task("b1", "cron"), task("b2", "local_bash")], "Background"),
        (vec![fired("schedule_wakeup")], "Schedule"),
        (vec![fired("loop_wakeup")], "Schedule"),
        (vec![task("b1", "local_bash"), fired("schedule_wakeup")], "Schedule"),
        (vec![given(json!({"kind": "task-notification", "subkind": "scheduled-trigger"}))], "Schedule"),
        (vec![task("b1", "cron")], "Schedule"),
        (vec![hook("hook_started"), hook("hook_response")], "Hook"),
        (vec![notified("completed", "done"), hook("hook_started")], "Background"),
        (vec![], "Other"),
        (vec![given(json!({"kind": "peer"}))], "Other"),
        // A tool use waits for this work, so its end begins no turn.
        (
            vec![
                with(task("b1", "local_bash"), json!({"is_backgrounded": false})),
                notified("completed", "done"),
            ],
            "Other",
        ),
    ] {
        // A turn begins with its first line, or in old versions with its first output.
        let piece = [message_start("m2"), block_start(0, text("")), text_delta(0, "Next.")];
        let tool = [assistant("m2", tool_use("u1", "Bash", json!({})))];
        for first in [&[init()][..], &piece, &tool] {
            let mut talk = Talk::new();
            talk.is_answered();
            before.iter().for_each(|line| talk.says(line));
            assert_eq!(talk.reasons(), [""; 0], "{before:?}");
            first.iter().for_each(|line| talk.says(line));
            assert_eq!(talk.reasons(), [reason], "{before:?} {first:?}");
            talk.says(result("done", json!({"origin": {"kind": "task-notification"}})));
            talk.says(task("b0", "unknown"));
            talk.says(init());
            assert_ne!(talk.reasons(), ["Hook"], "a reason is that of one turn");
        }
    }
}

#[test]
fn what_is_scheduled_within_a_turn_begins_no_other() {
    let mut talk = Talk::new();
    let uuid = talk.prompt("t-1");
    talk.says(init_for(&uuid));
    talk.says(fired("schedule_wakeup"));
    talk.says(result("the answer", json!({"user_message_uuids": [uuid]})));
    talk.says(init());
    assert_eq!(talk.reasons(), ["Other"], "within the turn of a prompt");
    talk.says(fired("schedule_wakeup"));
    talk.says(result("done", json!({"origin": {"kind": "task-notification"}})));
    talk.says(init());
    assert_eq!(talk.reasons(), ["Other"], "within a turn of the agent's");
}

/// `CLAUDE_CODE_RESUME_INTERRUPTED_TURN` makes the agent work again on the prompt that its last process left without an
/// answer.
#[test]
fn a_turn_that_goes_on_after_a_resume_says_so() {
    let again = [lifecycle("other", "started"), init_for("of the process before")];
    let hooks = [hook("hook_started"), hook("hook_response")];
    let after_hooks = [hooks.as_slice(), &again].concat();
    let with_lost_work = [[notified("stopped", "it did not finish")].as_slice(), &again].concat();
    for (lines, reason) in [
        (again.as_slice(), "Resume"),
        (&after_hooks, "Resume"),
        (&with_lost_work, "Resume"),
        (&[init()], "Resume"),
        (&[assistant("m", text("I go on."))], "Resume"),
        (&[hooks[0].clone(), init()], "Hook"),
        (&[fired("schedule_wakeup"), init()], "Schedule"),
        (&[notified("stopped", "it did not finish"), init()], "Background"),
    ] {
        let mut talk = Talk::resumed();
        let checkpoint = crate::dialect::Codec::checkpoint(&talk.codec);
        talk.codec = ClaudeCodec::restore("/workspace".as_ref(), &checkpoint).unwrap();
        lines.iter().for_each(|line| talk.says(line));
        assert_eq!(talk.reasons(), [reason], "{lines:?}");
        talk.says(result("done", json!({"user_message_uuids": ["of the process before"]})));
        talk.says(init());
        assert_eq!(talk.reasons(), ["Other"], "it went on already");
    }
}

#[test]
fn a_turn_after_the_first_prompt_of_a_resumed_session_does_not_go_on() {
    for old in [true, false] {
        let mut talk = Talk::resumed();
        if old {
            talk.prompt("t-1");
            talk.says(assistant("m", text("the answer")));
            talk.says(result("the answer", json!({})));
        } else {
            talk.is_answered();
        }
        talk.says(init_for("another"));
        assert_eq!(talk.reasons(), ["Other"]);
    }
}
