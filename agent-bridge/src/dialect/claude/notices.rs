//! What the agent says beside its answer, as notices.

use std::{borrow::Cow, collections::BTreeSet, mem};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use switchboard_core::wire::NoticeLevel;

use super::{
    budget::used_up,
    clock,
    records::{self, Line, Message, TurnResult, lenient, parse},
    sent_notices::Compaction,
    state::{Cancel, ClaudeCodec},
    texts::TextDigest,
    tools::split_key,
};
use crate::{
    dialect::{
        Decoded,
        sanitize::{line, lines},
    },
    limits::{NOTICE_BYTES, TOOLS},
};

/// Most outputs of commands of one turn whose repetition is recognised.
const OUTPUTS: usize = 16;

/// Most limits of usage whose last notice is remembered.
const LIMITS: usize = 16;

/// The sentence about an agent that is not signed in. The command `/login` does not work in the agent's mode.
pub(super) const SIGN_IN: &str =
    "The agent is not signed in: run `claude` in a terminal on the gateway's machine and sign in there.";

/// A line that says something beside the answer.
#[derive(Deserialize, Default)]
#[serde(default)]
struct NoticeLine<'a> {
    #[serde(borrow, deserialize_with = "lenient")]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    level: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    status: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    compact_result: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    compact_error: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    compact_metadata: Option<Compacted<'a>>,
    #[serde(borrow, deserialize_with = "lenient")]
    rate_limit_info: Option<UsageLimit<'a>>,
    #[serde(borrow, deserialize_with = "lenient")]
    hook_name: Option<Cow<'a, str>>,
    #[serde(deserialize_with = "lenient")]
    exit_code: Option<i64>,
    #[serde(borrow, deserialize_with = "lenient")]
    stderr: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Compacted<'a> {
    #[serde(borrow, deserialize_with = "lenient")]
    trigger: Option<Cow<'a, str>>,
    #[serde(deserialize_with = "lenient")]
    pre_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct UsageLimit<'a> {
    #[serde(borrow, deserialize_with = "lenient")]
    status: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    rate_limit_type: Option<Cow<'a, str>>,
    /// Seconds of Unix time.
    #[serde(deserialize_with = "lenient")]
    resets_at: Option<u64>,
    /// The used part, from 0 to 1.
    #[serde(deserialize_with = "lenient")]
    utilization: Option<f64>,
}

/// What a line with results of tools adds about one of them.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ResultMeta<'a> {
    #[serde(borrow, deserialize_with = "lenient")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    permission_decision: Option<Decision<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Decision<'a> {
    #[serde(borrow, deserialize_with = "lenient")]
    decision: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "lenient")]
    source: Option<Cow<'a, str>>,
}

impl ClaudeCodec {
    /// Handles a line of type `system` with the subtype `kind`, or a line of the type `kind`.
    pub(super) fn notice_line(&mut self, kind: &str, text: &str, out: &mut Decoded) {
        let said: NoticeLine<'_> = serde_json::from_str(text).unwrap_or_default();
        match kind {
            "status" => self.status(&said, out),
            "compact_boundary" => self.compacted(said.compact_metadata, out),
            "conversation_reset" => self.reset(out),
            "rate_limit_event" => self.usage_limit(said.rate_limit_info.unwrap_or_default(), out),
            "informational" => informational(&said, out),
            "hook_response" if said.exit_code.is_some_and(|code| code != 0) => failed_hook(&said, out),
            "local_command" => self.command_output(said.content.as_deref().unwrap_or_default(), false, out),
            _ => {}
        }
        out.alive();
    }

    fn status(&mut self, said: &NoticeLine<'_>, out: &mut Decoded) {
        let compaction = &mut self.state.sent_notices.compaction;
        if said.status.as_deref() == Some("compacting") && *compaction != Compaction::Running {
            *compaction = Compaction::Running;
            let text = "The agent summarises the conversation so far, to have room.";
            out.notice(NoticeLevel::Info, "compacting", text, None);
        }
        match said.compact_result.as_deref() {
            None => {}
            Some("success") => self.compacted(None, out),
            Some(_) => {
                *compaction = Compaction::Done;
                let why = reason(said.compact_error.as_deref());
                let text = format!("The agent could not summarise the conversation{why}");
                out.notice(NoticeLevel::Warning, "compaction_failed", text, None);
            }
        }
    }

    fn compacted(&mut self, details: Option<Compacted<'_>>, out: &mut Decoded) {
        let compaction = &mut self.state.sent_notices.compaction;
        if *compaction == Compaction::Done {
            return;
        }
        *compaction = Compaction::Done;
        let data = details.map(|Compacted { trigger, pre_tokens }| {
            data([
                ("tokens_before", pre_tokens.map(Value::from)),
                ("trigger", trigger.map(|trigger| line(&trigger, 64).into())),
            ])
        });
        let text = "The conversation so far was summarised.";
        out.notice(NoticeLevel::Info, "compacted", text, data);
    }

    /// Handles the end of a conversation. The line names the next one, but only the next `init` line has the session
    /// with which it can be resumed.
    fn reset(&mut self, out: &mut Decoded) {
        self.state.output.spoke = true;
        let text = "The agent has forgotten the conversation so far, as it was told to.";
        out.notice(NoticeLevel::Info, "context_cleared", text, None);
    }

    fn usage_limit(&mut self, limit: UsageLimit<'_>, out: &mut Decoded) {
        let name = line(limit.rate_limit_type.as_deref().unwrap_or("usage"), 64);
        let (level, state, sentence) = match limit.status.as_deref() {
            Some("rejected") => (NoticeLevel::Warning, "reached", "has reached"),
            Some("allowed_warning") => (NoticeLevel::Info, "near", "is near"),
            _ if limit.rate_limit_type.is_none() => return self.state.sent_notices.limits.clear(),
            _ => {
                self.state.sent_notices.limits.remove(&name);
                return;
            }
        };
        let which = match &*name {
            "five_hour" => "five-hour limit".into(),
            "seven_day" => "weekly limit".into(),
            "seven_day_opus" => "weekly limit for Opus".into(),
            "seven_day_sonnet" => "weekly limit for Sonnet".into(),
            "overage" => "limit of extra usage".into(),
            other => format!("{} limit", other.replace('_', " ")),
        };
        let until = limit.resets_at.and_then(clock::utc);
        let until = until.map(|time| format!(" It resets on {time}.")).unwrap_or_default();
        let known = data([
            ("limit", Some(name.clone().into())),
            ("resets_at_ms", limit.resets_at.map(|seconds| seconds.saturating_mul(1000).into())),
            ("state", Some(state.into())),
        ]);
        let limits = &mut self.state.sent_notices.limits;
        if limits.get(&name) == Some(&known) {
            return;
        }
        if limits.len() >= LIMITS {
            limits.clear();
        }
        limits.insert(name, known.clone());
        let mut details = known;
        if let Some(used) = limit.utilization.filter(|used| used.is_finite()) {
            details["utilization"] = json!(used);
        }
        let text = format!("The agent's account {sentence} its {which}.{until}");
        out.notice(level, "usage_limit", text, Some(details));
    }

    /// Handles a `user` line that repeats what the agent was given. The output of a command may be only there.
    pub(super) fn replayed(&mut self, line: &Line<'_>, out: &mut Decoded) {
        let message = parse::<Message<'_>>(line.message);
        for block in message.map(|message| records::blocks(message.content)).unwrap_or_default() {
            self.command_output(block.text.as_deref().unwrap_or_default(), true, out);
        }
        out.alive();
    }

    /// Sends a notice with the output of a command of the agent itself, such as `/context`, if `text` is one. The same output may
    /// come by a line of its own and by a replayed one.
    pub(super) fn command_output(&mut self, text: &str, replayed: bool, out: &mut Decoded) {
        for (tag, level) in
            [("local-command-stdout", NoticeLevel::Info), ("local-command-stderr", NoticeLevel::Warning)]
        {
            let Some((_, rest)) = text.split_once(&format!("<{tag}>")) else { continue };
            let output =
                lines(rest.split_once(&format!("</{tag}>")).map_or(rest, |(output, _)| output), NOTICE_BYTES);
            if output.is_empty() {
                continue;
            }
            let outputs = &mut self.state.sent_notices.outputs;
            let this = TextDigest::of(&output);
            if let Some(at) = outputs.iter().position(|known| *known == (!replayed, this)) {
                outputs.remove(at);
                continue;
            }
            if outputs.len() < OUTPUTS {
                outputs.push((replayed, this));
            }
            self.state.output.spoke = true;
            out.notice(level, "command_output", output, None);
        }
    }

    /// Notes that a person is asked about a tool use, so that its denial is not reported as the agent's own.
    pub(super) fn note_decided(&mut self, call_id: &str) {
        if self.state.sent_notices.decided.len() < TOOLS {
            self.state.sent_notices.decided.insert(call_id.into());
        }
    }

    /// Forgets what was decided about uses that have ended with their turn: those that are no longer known.
    pub(super) fn forget_decided(&mut self) {
        let known = self.state.tools.keys().chain(self.state.ended_uses.keys());
        let known: BTreeSet<&str> = known.map(|key| split_key(key).1).collect();
        self.state.sent_notices.decided.retain(|call_id| known.contains(&**call_id));
    }

    /// Sends a notice for each denial by the agent's own rules among a line's results of tools.
    pub(super) fn denied_by_rules(&mut self, line: &Line<'_>, call_id: &str, tool: &str, out: &mut Decoded) {
        let metas: Vec<ResultMeta<'_>> = parse(line.tool_result_meta).unwrap_or_default();
        let meta = metas.into_iter().find(|meta| meta.id.as_deref() == Some(call_id));
        let Some(decision) = meta.and_then(|meta| meta.permission_decision) else { return };
        let by_a_person = decision.source.as_deref().is_some_and(|source| source.starts_with("user"));
        if decision.decision.as_deref() == Some("reject") && !by_a_person {
            self.denied(call_id, tool, decision.source.as_deref(), out);
        }
    }

    fn denied(&mut self, call_id: &str, tool: &str, source: Option<&str>, out: &mut Decoded) {
        if self.state.sent_notices.decided.contains(call_id) {
            return;
        }
        self.note_decided(call_id);
        let (tool, call_id) = (line(tool, 128), line(call_id, 128));
        let by = if source == Some("hook") { "A hook of the agent" } else { "The agent's own rules" };
        let text = format!("{by} denied a use of {tool}.");
        let source = source.map(|source| line(source, 64).into());
        let data = data([("call_id", Some(call_id.into())), ("source", source), ("tool", Some(tool.into()))]);
        out.notice(NoticeLevel::Info, "permission_denied", text, Some(data));
    }

    /// Sends notices of what a result says beside the outcome: denials that no earlier line reported, that the agent's
    /// budget is used up, and that a person must sign in.
    pub(super) fn notices_of_result(&mut self, result: &TurnResult, out: &mut Decoded) {
        let aborted = result.terminal_reason.as_deref().is_some_and(|reason| reason.starts_with("aborted"));
        let denials = result.permission_denials.as_deref().unwrap_or_default();
        if !aborted && self.state.cancel == Cancel::None {
            for denial in denials {
                self.denied(&denial.tool_use_id, &denial.tool_name, None, out);
            }
        }
        let sent = &mut self.state.sent_notices;
        sent.outputs.clear();
        sent.compaction = Compaction::None;
        if let Some(text) = used_up(result)
            && !mem::replace(&mut sent.budget, true)
        {
            out.notice(NoticeLevel::Warning, "budget", text, None);
        }
        if needs_sign_in(result) {
            out.notice(NoticeLevel::Error, "sign_in", SIGN_IN, None);
        }
    }
}

/// Whether the turn failed because nobody is signed in where the agent runs.
pub(super) fn needs_sign_in(result: &TurnResult) -> bool {
    let failed = result.is_error == Some(true) || result.subtype.starts_with("error");
    let errors = result.errors.as_deref().unwrap_or_default();
    let mut texts = result.result.iter().chain(errors);
    failed && texts.any(|text| text.starts_with("Not logged in") || text.contains("Please run /login"))
}

fn informational(said: &NoticeLine<'_>, out: &mut Decoded) {
    let text = line(said.content.as_deref().unwrap_or_default(), NOTICE_BYTES);
    if text.is_empty() {
        return;
    }
    let level = match said.level.as_deref() {
        Some("warning" | "warn") => NoticeLevel::Warning,
        Some("error") => NoticeLevel::Error,
        _ => NoticeLevel::Info,
    };
    out.notice(level, "hook", text, None);
}

fn failed_hook(said: &NoticeLine<'_>, out: &mut Decoded) {
    let name = line(said.hook_name.as_deref().unwrap_or_default(), 128);
    let why = reason(said.stderr.as_deref());
    out.notice(NoticeLevel::Warning, "hook", format!("The agent's hook {name} failed{why}"), None);
}

/// What the agent gives as the reason, as the end of a sentence. Empty if it gives none.
fn reason(why: Option<&str>) -> String {
    let why = why.map(|why| line(why, NOTICE_BYTES)).filter(|why| !why.is_empty());
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

/// The details that are known.
fn data<const N: usize>(details: [(&str, Option<Value>); N]) -> Value {
    let known = details.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    known.collect::<Map<_, _>>().into()
}
