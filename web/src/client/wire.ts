// Generated from core/src/wire by `cargo xtask schema`; do not edit.

/** The version of the protocol, and the WebSocket subprotocol that offers it. */
export const PROTOCOL = "switchboard.v1";

/** The agent of a chat, for people. A field that is not known is absent. */
export type AgentState = {
/** The agent's name; `demo` is the built-in demo agent. */
agent: string,
/** The dialect that the agent speaks, such as `claude`. */
dialect?: string,
/** Where the agent works: `~/src/x`, or outside the home directory the folder's name; never an absolute path. */
workspace?: string,
/** The agent's sandbox level: `shield`, `workspace` or `off`. */
sandbox?: string, };

/** A running turn that the agent began, in a [`ChatState`]. */
export type AgentTurn = {
/** The id of the turn, which the gateway chose. */
turn_id: TurnId,
/** When the turn started, in milliseconds of Unix time. */
started_at_ms: number,
/** Why the agent began the turn. */
reason: TurnReason, };

/** A person's answer to a permission request or question. */
export type Answer = { "decision": "allow",
/** The request's `input_sha256`; required where the request is `truncated` or `raw`. */
input_sha256?: string, } | { "decision": "deny",
/** A reason for the agent, at most 252 KiB. */
message?: string, } | { "decision": "answer",
/** The answers by their questions' texts. An answer is a text or an array of texts. At most 252 KiB. */
answers: Record<string, string | string[]>, };

/** The form that the answer to a question must have. */
export type AnswerFormat = "option" | "boolean" | "integer" | "number";

/** An event of a chat's log: a body and its position in the numbering. */
export type ChatEvent = {
/** The id of the event's chat. */
chat_id: ChatId,
/** The epoch, which is the numbering that `seq` belongs to. */
epoch: Epoch,
/** The first number that this event covers, if it is not `seq`. */
first_seq?: number,
/** The last number that this event covers. */
seq: number,
/** The id of the turn that the event belongs to, if it belongs to one. */
turn_id?: TurnId,
/**
 * The tool use that the event belongs to: a subagent, whose text, tool uses and requests name the use that began
 * it.
 */
parent_call_id?: string, } & ({ "event": "user_message",
/** The person's text. */
text: string,
/** Whether the message's turn starts at once; otherwise it waits in the queue. */
starts_turn: boolean,
/**
 * The id of the turn that was first in the queue when the message was accepted, unless it is the message's
 * own.
 */
active_turn_id?: TurnId,
/** When the message was accepted, in milliseconds of Unix time. */
created_at_ms: number,
/** The name that the sending client gave itself. It proves nothing. */
client_id?: string, } | { "event": "turn_started",
/** Who began the turn. */
origin?: TurnOrigin,
/** Why the agent began the turn, if it did. */
reason?: TurnReason,
/** When the turn started, in milliseconds of Unix time. */
started_at_ms: number, } | { "event": "delta",
/** The stream that the text continues; streams may interleave. */
stream_id: string,
/** The text to append. Never empty. */
text: string, } | { "event": "stream_end",
/** The stream that ended. */
stream_id: string,
/** The stream's whole text, if it was not sent as deltas. */
text?: string,
/** The agent abandoned this stream: its text does not count. */
void?: boolean,
/** The sources that the agent cites in the text. */
sources?: Array<Source>, } | { "event": "reasoning_delta",
/** The stream that the text continues. */
stream_id: string,
/** The text to append. Never empty. */
text: string, } | { "event": "reasoning_end",
/** The stream that ended. */
stream_id: string,
/** The agent abandoned this stream: its text does not count. */
void?: boolean, } | { "event": "message",
/** The text; empty in a tool hint. */
text: string,
/** The kind of the message; absent for an answer. */
kind?: MessageKind,
/** With `kind: tool_hint`: the same as the preceding `tool_event`, in the older vocabulary. */
tool_events?: Array<ToolHint>, } | { "event": "tool_event",
/** Whether the tool use begins, goes on, has succeeded or has failed. */
phase: ToolPhase,
/** The id of the tool use, the same in all its events. A later use may have the id of an ended one. */
call_id: string,
/** The tool, as the agent names it. */
name: string,
/** One line for people that says what the tool use does. */
title?: string,
/** The files that the tool use concerns. */
locations?: Array<ToolLocation>,
/**
 * At the start and in updates: the arguments that the agent passes to the tool, as far as it has written them.
 * Each replaces the one before.
 */
arguments?: unknown,
/** In an update: a piece of the tool's output. */
output?: string,
/** At the end: the tool's result. */
result?: string,
/** At the end of a use that failed or was denied: the tool's message. */
error?: string,
/** With `error`: the use did not fail by itself, but was stopped together with its turn, its task or its agent. */
stopped?: boolean,
/**
 * Whether arguments or output are not whole: they were cut to the limit, or the agent still writes the
 * arguments.
 */
truncated?: boolean,
/** At the end: the pictures and other media in the tool's result, which the event itself does not contain. */
media?: Array<ToolMedia>,
/** At the end: the sources that the tool found. */
sources?: Array<Source>, } | { "event": "task" } & Task | { "event": "file_edit",
/** One item for each changed file. */
edits: Array<FileEdit>, } | { "event": "notice",
/** How serious the notice is. */
level: NoticeLevel,
/** A stable code for programs; new codes may be added. */
code: string,
/** One or two sentences, for people. */
text: string,
/** Details for programs; the fields depend on the code. */
data?: unknown, } | { "event": "permission_request" } & PermissionRequest | { "event": "question" } & Question | { "event": "request_resolved",
/** The id of the closed request. */
request_id: RequestId,
/** How it was closed. */
resolution: Resolution,
/** The `client_id` of the client that answered, if a person answered. */
client_id?: string, } | { "event": "turn_end",
/** Who began the turn. */
origin?: TurnOrigin,
/** How the turn ended. */
outcome: Outcome,
/**
 * Milliseconds from the acceptance of the message, or from the start of an agent's turn, to the end, over
 * restarts of the gateway too.
 */
latency_ms: number,
/** The agent's report of the tokens that the turn used. */
usage?: Usage,
/** The agent's report of the turn's cost. */
cost?: Cost,
/**
 * The model that the agent used last, as the agent reported it. Absent if that is not known, and in a turn that
 * never started.
 */
model?: string,
/** Why the turn failed, was interrupted or was cancelled by the gateway. */
error?: TurnError,
/** The chat's goal, if one is active. */
goal_state?: GoalState, } | { "event": "goal_state",
/** The new goal. */
goal_state: GoalState, });

/** A chat as the wire names it: `^[A-Za-z0-9_:-]{1,64}$`. */
export type ChatId = string;

/** The present state of a chat. */
export type ChatState = {
/** The running turn, if a turn runs. */
turn?: RunningTurn,
/** The turn that the agent has begun by itself, if one runs. It may run beside `turn`, whose prompt then waits. */
agent_turn?: AgentTurn,
/** The running background tasks of the agent, oldest first. */
tasks?: Array<Task>,
/** The `user_message` events of the queued turns, first one first. */
queue: Array<ChatEvent>,
/** The open `permission_request` and `question` events. */
requests: Array<ChatEvent>,
/** The goal, if one is active. */
goal_state?: GoalState,
/** The agent of the chat, as in `agent_state`. */
agent?: AgentState, };

/** A chat in a list. */
export type ChatSummary = {
/** The id of the listed chat. */
chat_id: ChatId,
/** The title, given by a person or made from the first message. */
title?: string,
/** The last activity (a message, a turn's end, a request), in milliseconds of Unix time. */
updated_at_ms: number,
/** Whether a turn runs. */
running: boolean,
/** Whether an open permission request or question waits for a person. */
waiting?: boolean,
/** The position of the newest event. */
head: Cursor, };

/** A frame that a client sends. */
export type ClientEnvelope = { "type": "authenticate",
/** The token. */
token: string, } | { "type": "new_chat", } | { "type": "attach",
/** The chat to attach to. */
chat_id: ChatId,
/**
 * The client's cursor: the last event that it has. Without a cursor, a chat that has events is sent as a
 * `snapshot`.
 */
after?: Cursor, } | { "type": "detach",
/** The chat to detach from. */
chat_id: ChatId, } | { "type": "message" } & Message | { "type": "cancel",
/** The chat of the turn. */
chat_id: ChatId,
/**
 * The turn to stop, running or queued. Without it: the running turn, or the first queued one if none runs. If
 * no turn is open and the agent works in the background: the agent, with its tasks.
 */
turn_id?: TurnId, } | { "type": "respond",
/** The chat of the request. */
chat_id: ChatId,
/** The open request. */
request_id: RequestId, } & ({ "decision": "allow",
/** The request's `input_sha256`; required where the request is `truncated` or `raw`. */
input_sha256?: string, } | { "decision": "deny",
/** A reason for the agent, at most 252 KiB. */
message?: string, } | { "decision": "answer",
/** The answers by their questions' texts. An answer is a text or an array of texts. At most 252 KiB. */
answers: Record<string, string | string[]>, }) | { "type": "request_input",
/** The chat of the request. */
chat_id: ChatId,
/** The open permission request. */
request_id: RequestId,
/** Where the page begins, in bytes of the input's text: 0 (the default), or `next` of the previous page. */
offset?: number, } | { "type": "set_goal_state",
/** The chat whose goal is set. */
chat_id: ChatId,
/** The new goal, at most 48 KiB as JSON. */
goal_state: GoalState, } | { "type": "list_chats",
/** `before` of the previous page; absent for the newest page. */
before?: string,
/** The maximum number of chats, at most 50. */
limit?: number, } | { "type": "history",
/** The chat to read. */
chat_id: ChatId,
/** `before` of a snapshot or of the previous page; absent for the newest page. */
before?: string,
/** The maximum number of events, at most 200. A page also ends at about 192 KiB. */
limit?: number, } | { "type": "rename_chat",
/** The chat to rename. */
chat_id: ChatId,
/** The new title: at most 256 bytes, not blank, no control characters. White space around it is removed. */
title: string, } | { "type": "delete_chat",
/** The chat to delete. */
chat_id: ChatId, } | { "type": "ping",
/** A value that the `pong` repeats; at most 128 bytes. */
nonce?: string, };

/** The kinds of control events. They concern one connection or the present moment and are not replayed. */
export type ControlEvent = { "event": "ready",
/** The default chat, for frames of the older vocabulary, which name no chat. It exists from its first message on. */
chat_id: ChatId,
/** The name that the client gave itself, or that the gateway gave to the client. */
client_id: string,
/** The version of the protocol: `switchboard.v1`. */
protocol: string,
/** The limits that the client must keep to. */
limits: WireLimits,
/** The agent of chats that have no `agent_state` of their own, where the gateway's operator lets it be shown. */
agent?: AgentState,
/** Over SSE: the stream's secret name, which each POST sends back. */
stream?: string, } | { "event": "attached",
/** The id of the chat that the connection is attached to. */
chat_id: ChatId,
/** The present epoch of the chat. */
epoch: Epoch,
/** The last number in the chat's log; 0 if it has no events. */
head: number,
/**
 * Whether the log continues from the client's cursor. If false, a `snapshot` follows and replaces all events
 * that the client has of the chat.
 */
recovered: boolean,
/** The chat's title, if it has one. */
title?: string, } | { "event": "agent_state",
/** The id of the chat whose agent this is. */
chat_id: ChatId,
/** The agent's name; `demo` is the built-in demo agent. */
agent: string,
/** The dialect that the agent speaks, such as `claude`. */
dialect?: string,
/** Where the agent works: `~/src/x`, or outside the home directory the folder's name; never an absolute path. */
workspace?: string,
/** The agent's sandbox level: `shield`, `workspace` or `off`. */
sandbox?: string, } | { "event": "snapshot",
/** The id of the chat that the snapshot shows. */
chat_id: ChatId,
/** The epoch of `seq`. */
epoch: Epoch,
/** The client's cursor after the last part. */
seq: number,
/** The number of the part, from 0. Part 0 replaces the client's events of the chat; later parts add to it. */
part: number,
/** Whether more parts follow. */
more: boolean,
/** Chat events, oldest first. Adjacent deltas may be merged. */
events: Array<ChatEvent>,
/** In part 0: the `before` of a `history` request for earlier events; absent if there are none. */
before?: string,
/** The present state. Its queue and requests may be spread over the last parts; the rest is in the last part. */
state?: ChatState, } | { "event": "replay_end",
/** The id of the chat whose replay ends. */
chat_id: ChatId,
/** The epoch of `seq`. */
epoch: Epoch,
/** The last number that was sent. */
seq: number, } | { "event": "message_accepted" } & MessageAccepted | { "event": "turn_stalled",
/** The id of the stalled turn's chat. */
chat_id: ChatId,
/** The stalled turn. */
turn_id: TurnId,
/** Milliseconds without progress. */
idle_ms: number, } | { "event": "goal_status",
/** The id of the turn's chat. */
chat_id: ChatId,
/** Whether a turn runs. */
status: RunStatus,
/** While a turn runs: when it started, in seconds of Unix time. */
started_at?: number,
/** The turn that runs, or that has just ended. */
turn_id?: TurnId, } | { "event": "goal_state",
/** The id of the chat whose goal this is. */
chat_id: ChatId,
/** The goal. */
goal_state: GoalState, } | { "event": "notice",
/** How serious the notice is. */
level: NoticeLevel,
/** A stable code for programs; new codes may be added. */
code: string,
/** One or two sentences, for people. */
text: string, } | { "event": "session_updated",
/** The id of the chat that changed. */
chat_id: ChatId,
/** What changed. */
scope: UpdateScope,
/** The chat's title, if the chat has one. */
title?: string, } | { "event": "runtime_model_updated",
/** The id of the chat whose agent uses the model. */
chat_id: ChatId,
/** The model, as the agent names it. */
model_name: string, } | { "event": "chats",
/** The chats of one page. */
chats: Array<ChatSummary>,
/** The `before` of the next `list_chats` request; absent on the last page. */
before?: string, } | { "event": "chats_changed", } | { "event": "history",
/** The id of the chat whose history this is. */
chat_id: ChatId,
/** One page of chat events, oldest first. Adjacent deltas may be merged. */
events: Array<ChatEvent>,
/** The `before` of the next `history` request; absent if there are no earlier events. */
before?: string, } | { "event": "request_input",
/** The id of the request's chat. */
chat_id: ChatId,
/** The open request. */
request_id: RequestId,
/** Where this page begins, in bytes of the input's text. */
offset: number,
/** This page of the input's text. */
text: string,
/** Where the next page begins; absent on the last page. */
next?: number,
/** Length of the whole text in bytes. */
input_bytes: number,
/** SHA-256 of the whole text, in hexadecimal digits: what `respond` needs to allow it. */
input_sha256: string, } | { "event": "pong",
/** The value that the ping carried. */
nonce?: string, } | { "event": "error" } & ErrorEvent;

/** An agent's report of a turn's cost. */
export type Cost = {
/** US dollars. */
usd: number, };

/** Where a client stands in a chat: it has every event up to and including `seq` of `epoch`. */
export type Cursor = {
/** The numbering that `seq` belongs to. */
epoch: Epoch,
/** The last event that the client has; 0 before the first. */
seq: number, };

/** One unbroken numbering of a chat's events: `[A-Za-z0-9_-]{1,16}`, opaque to clients. */
export type Epoch = string;

/**
 * The codes of `error` events. They are stable; new ones may be added, and an unknown one is treated by its
 * `retryable`.
 */
export type ErrorCode = "malformed" | "unknown_type" | "unsupported" | "missing_field" | "invalid_field" | "too_large" | "unknown_chat" | "unknown_turn" | "unknown_request" | "already_resolved" | "input_unseen" | "turn_conflict" | "queue_full" | "rate_limited" | "limit_reached" | "unauthorized" | "unavailable" | "damaged" | "too_slow" | "shutting_down" | "internal";

/** A refusal of a frame. */
export type ErrorEvent = {
/** The error code, stable, for programs. */
code: ErrorCode,
/** One short sentence, for people; its words may change. */
detail: string,
/** Whether the same frame may succeed later. */
retryable: boolean,
/** The chat that the error is about. */
chat_id?: ChatId,
/** The message that the error is about. */
turn_id?: TurnId,
/** The permission request or question that the error is about. */
request_id?: RequestId,
/** With `rate_limited`: milliseconds until another try makes sense. */
retry_after_ms?: number,
/** On a Unix socket and over SSE: the connection ends with this close code. */
close?: number, };

/** A changed file. */
export type FileEdit = {
/** The id of the tool use that changed the file. */
call_id: string,
/** The tool, as the agent names it. */
tool: string,
/** The file's path relative to the workspace; for a file outside the workspace only its name. */
path: string,
/** Lines added. */
added: number,
/** Lines deleted. */
deleted: number,
/** The change as a unified diff, if it is known and small. */
diff?: string,
/** Whether `diff` is only the beginning of the change, or is missing, because the change is too large. */
diff_truncated?: boolean, };

/** A goal that outlives single turns. */
export type GoalState = {
/** Whether the goal is being pursued. */
active: boolean,
/** A word for the goal's state, at most 256 bytes. */
status?: string,
/** A summary in one line, at most 1 KiB. */
ui_summary?: string,
/** The objective, at most 16 KiB. */
objective?: string,
/** A report of the progress so far, at most 16 KiB. */
recap?: string, };

/** A person's message. */
export type Message = {
/** The id of the chat. A valid id of no chat creates a chat with this id. */
chat_id: ChatId,
/**
 * The text, not blank, at most 252 KiB, stored unchanged. A text of `/stop` alone is a `cancel` without a
 * `turn_id`.
 */
content: string,
/**
 * The client's id for this message and its turn. By this id the gateway recognises a message that is sent again.
 * Without an id the gateway makes one.
 */
turn_id?: TurnId, };

/** The acknowledgement of a message, with the position of its `user_message`. */
export type MessageAccepted = {
/** The id of the message's chat. */
chat_id: ChatId,
/** The id of the message's turn: the sender's, or one made by the gateway if the sender gave none. */
turn_id: TurnId,
/** Whether the turn starts at once; otherwise it waits in the queue. */
starts_turn: boolean,
/**
 * The id of the turn that was first in the queue when the message was accepted, unless it is the message's own; for
 * a `/stop`, the id of the stopped turn.
 */
active_turn_id?: TurnId,
/** When the turn started, in seconds of Unix time. */
started_at?: number,
/** Whether this event moves no cursor: the message was accepted before, was a `/stop`, or its sender had detached. */
duplicate?: boolean,
/** The epoch of `seq`. */
epoch: Epoch,
/** The number of the message's `user_message`; for a `/stop`, the chat's last number. */
seq: number, };

/** The kind of a `message` that is not an answer. */
export type MessageKind = "tool_hint" | "progress";

/** How serious a notice is. */
export type NoticeLevel = "info" | "warning" | "error";

/** How a turn ended. */
export type Outcome = "completed" | "cancelled" | "failed" | "interrupted";

/** A request for permission to use a tool. */
export type PermissionRequest = {
/** The id that `respond` names. */
request_id: RequestId,
/** The tool, as the agent names it. */
tool: string,
/**
 * The input that the agent wants to pass to the tool, such as a command or a change. With `raw`, a string with the
 * input's text.
 */
input: unknown,
/** Length of the whole input's text in bytes. Absent in requests that an earlier version logged. */
input_bytes?: number,
/** SHA-256 of the whole input's text, in hexadecimal digits. Absent in requests that an earlier version logged. */
input_sha256?: string,
/** The agent's description of the tool use's purpose, at most 4 KiB. */
description?: string,
/** Whether `description` was cut to the limit. */
description_truncated?: boolean,
/** The id of the tool use that waits for the permission. */
call_id?: string,
/**
 * Whether `input` was cut to the limit: `request_input` gives the whole, and only an answer with
 * `input_sha256` allows it.
 */
truncated?: boolean,
/**
 * Whether a JSON value cannot hold the input exactly (a repeated key, a number beyond a double, half a surrogate
 * pair, more than 64 levels), so that `input` is its text. Only an answer with `input_sha256` allows it.
 */
raw?: boolean, };

/** Questions of the agent to the person. */
export type Question = {
/** The id that `respond` names. */
request_id: RequestId,
/** One or more questions. */
questions: Array<QuestionItem>, };

/** A question of a `question` event. */
export type QuestionItem = {
/** The text of the question; also the key of its answer in `respond`. */
question: string,
/** A title of one or two words for the question. */
header?: string,
/** Whether more than one option may be chosen. */
multi_select?: boolean,
/** The options to choose from. Without `format`, a free text is possible too. */
options?: Array<QuestionOption>,
/** Whether the question may stay unanswered. */
optional?: boolean,
/** The form that an answer must have; if absent, any text is an answer. */
format?: AnswerFormat,
/** The least value of a number, number of characters of a text, or number of choices with `multi_select`. */
min?: number,
/** The greatest value of a number, number of characters of a text, or number of choices with `multi_select`. */
max?: number, };

/** An option of a question. */
export type QuestionOption = {
/** The text of the option, which is also the answer. */
label: string,
/** An explanation of the option. */
description?: string, };

/** A permission request or question: `^[A-Za-z0-9_:.-]{1,128}$`, never used again in its chat. */
export type RequestId = string;

/** How a request was closed. */
export type Resolution = "allowed" | "denied" | "answered" | "withdrawn" | "turn_ended";

/** Whether a turn runs in a chat. */
export type RunStatus = "running" | "idle";

/** The running turn in a [`ChatState`]. */
export type RunningTurn = {
/** The id of the running turn. */
turn_id: TurnId,
/** When the turn started, in milliseconds of Unix time. */
started_at_ms: number, };

/** Whatever a client may receive. */
export type ServerEvent = ChatEvent | ControlEvent;

/** A page that an agent cites. */
export type Source = {
/** The page's address. It comes from the agent and may have any scheme. */
url: string,
/** The page's title, if it is known. */
title?: string, };

/** A piece of background work of the agent, which goes on when the turn that began it has ended. */
export type Task = {
/** The id of the task, unique among the running tasks of the chat. */
task_id: string,
/** What kind of work it is. */
kind: TaskKind,
/** One line for people, such as the command or the subagent's assignment. */
title: string,
/** Whether the task runs, or how it ended. */
status: TaskStatus,
/** The tool use that began the task, if it is known. */
parent_call_id?: string, };

/** The kinds of background work. */
export type TaskKind = "shell" | "agent" | "monitor" | "schedule" | "other";

/** Whether a task runs, or how it ended. */
export type TaskStatus = "running" | "completed" | "failed" | "stopped";

/** A tool use in the older vocabulary. */
export type ToolHint = {
/** Version of this shape: 1. */
version: number,
/** Whether the tool use begins, has succeeded or has failed. */
phase: ToolPhase,
/** The id of the tool use. */
call_id: string,
/** The tool, as the agent names it. */
name: string, };

/** A file that a tool use concerns. */
export type ToolLocation = {
/** The file's path relative to the workspace; for a file outside the workspace only its name. */
path: string,
/** The line, counted from 1. */
line?: number, };

/** A picture or another medium in a tool's result. */
export type ToolMedia = {
/** The medium's type, such as `image/png`. */
media_type: string,
/** The medium's size in bytes. */
bytes: number, };

/** A phase of a tool use. */
export type ToolPhase = "start" | "update" | "end" | "error";

/** Why a turn did not complete. */
export type TurnError = {
/** A turn error code, stable, for programs. */
code: string,
/** One sentence for people. Where the agent's process failed, it ends with the last lines of its standard error. */
detail: string, };

/**
 * One message and everything that answers it. Made by the client so that a repeat is recognised:
 * 1 to 128 bytes, no white space and no control characters.
 */
export type TurnId = string;

/** Who began a turn. */
export type TurnOrigin = "user" | "agent";

/** Why an agent began a turn. */
export type TurnReason = "background" | "schedule" | "hook" | "resume" | "other";

/** What changed about a chat. */
export type UpdateScope = "metadata" | "thread" | "deleted";

/** An agent's report of the tokens that a turn used. */
export type Usage = {
/** Tokens of the input. */
input_tokens: number,
/** Tokens of the output. */
output_tokens: number,
/** Tokens read from a cache. */
cache_read_tokens: number,
/** Tokens written to a cache. */
cache_write_tokens: number, };

/** The limits that a client must keep to on this connection. */
export type WireLimits = {
/** Longest frame in bytes. A longer one closes the connection; over SSE it gets 413. */
frame_bytes: number,
/** Longest `content` in bytes, as JSON; an escaped character counts as what it stands for. */
text_bytes: number,
/** Chats that one connection may be attached to. */
chats_per_connection: number,
/** Messages that may wait in a chat's queue. */
queued_turns: number, };
