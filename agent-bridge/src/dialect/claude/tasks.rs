//! Background work of the agent: commands, subagents and watches that go on when their turn has ended.

use std::mem;

use switchboard_core::{
    agent::AgentEvent,
    wire::{NoticeLevel, Task, TaskKind, TaskStatus, TurnReason},
};

use super::{
    records::{Line, TaskItem, TaskLine, TaskPatch},
    state::{ClaudeCodec, Stage, Work},
    tools::UsedIn,
};
use crate::{
    dialect::{Decoded, sanitize::sentence},
    limits::TASKS,
};

impl ClaudeCodec {
    /// Sends the beginnings of work that a list has named, before the record with this subtype.
    pub(super) fn listed_work_begins(&mut self, subtype: Option<&str>, out: &mut Decoded) {
        if subtype == Some("task_started") {
            return;
        }
        let listed = self.state.tasks.iter().filter(|(_, work)| work.stage == Stage::Listed);
        let listed: Vec<String> = listed.map(|(id, _)| id.clone()).collect();
        for id in listed {
            self.work_begins(&id, out);
        }
    }

    /// Handles a `system` line about background work. Returns false for any other line.
    pub(super) fn task_line(&mut self, text: &str, line: &Line<'_>, out: &mut Decoded) -> bool {
        let subtype = line.subtype.as_deref().unwrap_or_default();
        if !subtype.starts_with("task_") && subtype != "background_tasks_changed" {
            return false;
        }
        let line: TaskLine = serde_json::from_str(text).unwrap_or_default();
        let task: TaskItem = serde_json::from_str(text).unwrap_or_default();
        match subtype {
            "background_tasks_changed" => {
                if let Some(tasks) = line.tasks {
                    self.tasks_listed(&tasks, out);
                }
            }
            "task_started" => self.task_started(&task, line.is_backgrounded != Some(false), out),
            "task_updated" => self.task_updated(&task.task_id, &line.patch.unwrap_or_default(), out),
            "task_notification" => self.task_notified(&task.task_id, &line, out),
            _ => {}
        }
        out.alive();
        true
    }

    fn tasks_listed(&mut self, tasks: &[TaskItem], out: &mut Decoded) {
        for task in tasks {
            self.learn(task, Stage::Listed, true);
        }
        let is_gone = |id: &str, work: &Work| work.listed && !tasks.iter().any(|task| task.task_id == id);
        let gone = self.state.tasks.iter().filter(|(id, work)| is_gone(id, work));
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.work_ends(&id, TaskStatus::Stopped, out);
        }
    }

    fn task_started(&mut self, task: &TaskItem, background: bool, out: &mut Decoded) {
        self.learn(task, if background { Stage::Listed } else { Stage::Foreground }, false);
        if background {
            self.work_begins(&task.task_id, out);
        }
    }

    fn task_updated(&mut self, id: &str, patch: &TaskPatch, out: &mut Decoded) {
        let Some(work) = self.state.tasks.get(id) else { return };
        let is_foreground = work.stage == Stage::Foreground && patch.is_backgrounded != Some(true);
        if is_foreground {
            return;
        }
        self.work_begins(id, out);
        if let Some(status) = ended(&patch.status) {
            self.work_ends(id, status, out);
        }
    }

    fn task_notified(&mut self, id: &str, line: &TaskLine, out: &mut Decoded) {
        if self.state.tasks.get(id).is_none_or(|work| work.stage != Stage::Foreground) {
            self.state.cause = Some(TurnReason::Background);
        }
        let Some(status) = ended(&line.status) else { return };
        if self.state.resumed {
            self.earlier_work_ended(id, status, Some(&line.summary), out);
        } else {
            self.work_ends(id, status, out);
        }
    }

    /// Handles a notification in the text of a `user` line.
    pub(super) fn task_notification_text(&mut self, text: &str, out: &mut Decoded) {
        if let (Some(id), Some(status)) = (tag(text, "task-id"), tag(text, "status").and_then(ended)) {
            self.earlier_work_ended(id, status, tag(text, "summary"), out);
        }
    }

    /// Handles the end of work that, after a resume, may be work which an earlier process of the agent had begun and
    /// which ended with that process.
    fn earlier_work_ended(&mut self, id: &str, status: TaskStatus, said: Option<&str>, out: &mut Decoded) {
        if self.state.tasks.contains_key(id) {
            return self.work_ends(id, status, out);
        }
        if status == TaskStatus::Completed || self.state.ended_tasks.contains(id) {
            return;
        }
        let said = said.map(sentence).filter(|text| !text.is_empty());
        let said = said.map(|text| format!(": {text}")).unwrap_or_default();
        let text = format!("Background work ended together with an earlier process of the agent{said}");
        let text = if text.ends_with('.') { text } else { text + "." };
        self.work_is_over(id);
        out.notice(NoticeLevel::Warning, "other", text, None);
    }

    /// Adds what the agent says of its work.
    fn learn(&mut self, task: &TaskItem, stage: Stage, listed: bool) {
        let call_id = task.tool_use_id.clone();
        let tool = call_id.as_ref().and_then(|id| self.running_use(UsedIn::default(), id));
        let tool = tool.and_then(|key| self.state.tools.get(&key)).map(|tool| tool.name.as_str());
        let kind = kind(&task.task_type, tool);
        if let Some(work) = self.state.tasks.get_mut(&task.task_id) {
            work.listed |= listed;
            if work.stage == Stage::Foreground {
                work.stage = stage;
            }
            if call_id.is_some() && work.stage != Stage::Begun {
                (work.call_id, work.kind) = (call_id, kind);
            }
        } else if !task.task_id.is_empty() && self.state.tasks.len() < TASKS {
            let work = Work { kind, title: sentence(&task.description), call_id, stage, listed };
            self.state.tasks.insert(task.task_id.clone(), work);
        }
    }

    fn work_begins(&mut self, id: &str, out: &mut Decoded) {
        let Some(work) = self.state.tasks.get_mut(id) else { return };
        if work.stage != Stage::Begun {
            work.stage = Stage::Begun;
            self.state.ended_tasks.remove(id);
            out.events.push(work.event(id, TaskStatus::Running));
        }
    }

    fn work_ends(&mut self, id: &str, status: TaskStatus, out: &mut Decoded) {
        let Some(work) = self.state.tasks.remove(id) else { return };
        if let Some(call_id) = &work.call_id {
            self.subagent_ended(call_id, out);
            if work.stage == Stage::Begun {
                self.forget_uses_below(call_id);
            }
        }
        match work.stage {
            Stage::Foreground => return,
            Stage::Listed => out.events.push(work.event(id, TaskStatus::Running)),
            Stage::Begun => {}
        }
        out.events.push(work.event(id, status));
        self.work_is_over(id);
    }

    /// Sends the ends of all background work, which ends with its process. Another process of the instance may follow.
    pub(super) fn tasks_end(&mut self, out: &mut Decoded) {
        let tasks = mem::take(&mut self.state.tasks);
        let begun = tasks.iter().filter(|(_, work)| work.stage == Stage::Begun);
        out.events.extend(begun.map(|(id, work)| work.event(id, TaskStatus::Stopped)));
    }

    fn work_is_over(&mut self, id: &str) {
        if self.state.ended_tasks.len() >= TASKS {
            self.state.ended_tasks.clear();
        }
        self.state.ended_tasks.insert(id.into());
    }

    /// Whether commands, subagents or watches work in the background.
    pub(super) fn has_background_work(&self) -> bool {
        self.state.tasks.values().any(|work| work.stage != Stage::Foreground)
    }

    /// Whether subagents work in the background.
    pub(super) fn has_background_agents(&self) -> bool {
        self.state.tasks.values().any(|work| work.stage == Stage::Begun && work.kind == TaskKind::Agent)
    }

    /// Why the agent would begin a turn, by the work that it has in the background.
    pub(super) fn reason_by_work(&self) -> TurnReason {
        let mut kinds =
            self.state.tasks.values().filter(|work| work.stage == Stage::Begun).map(|work| work.kind);
        match kinds.next() {
            None => TurnReason::Other,
            Some(TaskKind::Schedule) if kinds.all(|kind| kind == TaskKind::Schedule) => TurnReason::Schedule,
            Some(_) => TurnReason::Background,
        }
    }
}

impl Work {
    /// Whether this is the background work that the tool use began.
    pub(super) fn runs(&self, call_id: &str) -> bool {
        self.stage == Stage::Begun && self.call_id.as_deref() == Some(call_id)
    }

    fn event(&self, id: &str, status: TaskStatus) -> AgentEvent {
        AgentEvent::Task(Task {
            task_id: id.into(),
            kind: self.kind,
            title: self.title.clone(),
            status,
            parent_call_id: self.call_id.clone(),
        })
    }
}

/// The kind of work, by the agent's name of its type and by the tool that began it.
fn kind(task_type: &str, tool: Option<&str>) -> TaskKind {
    let is = |words: &[&str]| {
        let names = [task_type, tool.unwrap_or_default()].map(str::to_lowercase);
        words.iter().any(|word| names.iter().any(|name| name.contains(word)))
    };
    match () {
        () if is(&["monitor"]) => TaskKind::Monitor,
        () if is(&["cron", "schedule", "wakeup"]) => TaskKind::Schedule,
        () if is(&["agent"]) => TaskKind::Agent,
        () if is(&["bash", "shell"]) => TaskKind::Shell,
        () => TaskKind::Other,
    }
}

/// How work with this status ended; `None` if it goes on.
fn ended(status: &str) -> Option<TaskStatus> {
    Some(match status {
        "completed" => TaskStatus::Completed,
        "failed" | "error" => TaskStatus::Failed,
        "killed" | "stopped" | "cancelled" => TaskStatus::Stopped,
        _ => return None,
    })
}

/// The text of the first element with this name.
fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0.trim())
}
