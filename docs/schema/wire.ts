// Generated from core/src/wire by `cargo xtask schema`; do not edit.

/** The version of the protocol, and the WebSocket subprotocol that offers it. */
export const PROTOCOL = "switchboard.v1";

/** What an agent is, for people. */
export type AgentState = {
/** Its name; `demo` is the demo. */
agent: string,
/** What it speaks, such as `claude`. */
dialect?: string,
/** Where it works, as people call it: `~/src/x`, or the folder's name. */
workspace?: string,
/** What it is kept from: `shield`, `workspace` or `off`. */
sandbox?: string, };

/** A person's answer to a permission request or question. */
export type Answer = { "decision": "allow",
/** The request's `input_sha256`: needed where its event shows the input cut or not exactly. */
input_sha256?: string, } | { "decision": "deny",
/** What the agent is told. */
message?: string, } | { "decision": "answer",
/** From each question's text to what was chosen or written. */
answers: Record<string, string | string[]>, };

/** What the answer to a question has to be. */
export type AnswerFormat = "option" | "boolean" | "integer" | "number";

/** An event of a chat's log: one body at one place of the numbering. */
export type ChatEvent = {
/** The chat. */
chat_id: ChatId,
/** The numbering that `seq` belongs to. */
epoch: Epoch,
/** The first number that this event covers, where that is not `seq`. */
first_seq?: number,
/** The last number that this event covers. */
seq: number,
/** The turn that it belongs to. */
turn_id?: TurnId, } & ({ "event": "user_message",
/** What was written. */
text: string,
/** Whether its turn starts at once; otherwise it waits in the queue. */
starts_turn: boolean,
/** The turn that runs now, where that is another one. */
active_turn_id?: TurnId,
/** When it was accepted, in milliseconds of Unix time. */
created_at_ms: number,
/** What the sending client calls itself; never an authority. */
client_id?: string, } | { "event": "turn_started",
/** When, in milliseconds of Unix time. */
started_at_ms: number, } | { "event": "delta",
/** The stream that it continues; streams may interleave. */
stream_id: string,
/** The text to append. Never empty. */
text: string, } | { "event": "stream_end",
/** Which stream. */
stream_id: string,
/** Its whole text, where that was not sent as deltas. */
text?: string,
/** The agent abandoned this stream: its text does not count. */
void?: boolean, } | { "event": "reasoning_delta",
/** The stream that it continues. */
stream_id: string,
/** The text to append. Never empty. */
text: string, } | { "event": "reasoning_end",
/** Which stream. */
stream_id: string,
/** The agent abandoned this stream: its text does not count. */
void?: boolean, } | { "event": "message",
/** The text; empty in a hint. */
text: string,
/** Absent for an answer. */
kind?: MessageKind,
/** With `kind: tool_hint`: the tool's phase in the older vocabulary. */
tool_events?: Array<ToolHint>, } | { "event": "tool_event",
/** Whether it begins or has ended. */
phase: ToolPhase,
/** The use that this is about. */
call_id: string,
/** The tool, as the agent names it. */
name: string,
/** At the start: what the agent passes to the tool. */
arguments?: unknown,
/** At the end: what the tool gave back. */
result?: string,
/** At the end, where the tool failed or was denied: what it said. */
error?: string,
/** Whether arguments or output were cut to the limit. */
truncated?: boolean, } | { "event": "file_edit",
/** What changed. */
edits: Array<FileEdit>, } | { "event": "notice",
/** How grave it is. */
level: NoticeLevel,
/** Stable, for programs: see the table in `docs/protocol.md`. */
code: string,
/** One or two sentences, for people. */
text: string, } | { "event": "permission_request" } & PermissionRequest | { "event": "question" } & Question | { "event": "request_resolved",
/** Which one. */
request_id: RequestId,
/** How. */
resolution: Resolution,
/** The `client_id` whose answer it was. */
client_id?: string, } | { "event": "turn_end",
/** How it ended. */
outcome: Outcome,
/** Milliseconds from acceptance to the end. */
latency_ms: number,
/** What the agent says it used. */
usage?: Usage,
/** What the agent says this turn cost. */
cost?: Cost,
/** Why it failed or was interrupted. */
error?: TurnError,
/** The chat's goal, if one is active. */
goal_state?: GoalState, } | { "event": "goal_state",
/** The goal now. */
goal_state: GoalState, });

/** A chat as the wire names it: `^[A-Za-z0-9_:-]{1,64}$`. */
export type ChatId = string;

/** The present state of a chat. */
export type ChatState = {
/** The turn that runs. */
turn?: RunningTurn,
/** The `user_message` events of the turns that wait, first come first. */
queue: Array<ChatEvent>,
/** The open `permission_request` and `question` events. */
requests: Array<ChatEvent>,
/** The goal, if one is active. */
goal_state?: GoalState,
/** What the chat's agent is, as in `agent_state`. */
agent?: AgentState, };

/** A chat in a list. */
export type ChatSummary = {
/** The chat. */
chat_id: ChatId,
/** As a person named it, or made from the first message; absent before it. */
title?: string,
/** The last activity, in milliseconds of Unix time. */
updated_at_ms: number,
/** Whether a turn runs. */
running: boolean,
/** Whether a permission request or question is open in it, which waits for a person. */
waiting?: boolean,
/** Its newest place. */
head: Cursor, };

/** The kinds of frames a client sends. */
export type ClientEnvelope = { "type": "authenticate",
/** The token. */
token: string, } | { "type": "new_chat", } | { "type": "attach",
/** Which one. */
chat_id: ChatId,
/** What the client has already. */
after?: Cursor, } | { "type": "detach",
/** Which one. */
chat_id: ChatId, } | { "type": "message" } & Message | { "type": "cancel",
/** In which chat. */
chat_id: ChatId,
/** Which one: the running one, or one that waits. Absent: the running one, or the first that waits. */
turn_id?: TurnId, } | { "type": "respond",
/** In which chat. */
chat_id: ChatId,
/** Which one. */
request_id: RequestId, } & ({ "decision": "allow",
/** The request's `input_sha256`: needed where its event shows the input cut or not exactly. */
input_sha256?: string, } | { "decision": "deny",
/** What the agent is told. */
message?: string, } | { "decision": "answer",
/** From each question's text to what was chosen or written. */
answers: Record<string, string | string[]>, }) | { "type": "request_input",
/** In which chat. */
chat_id: ChatId,
/** The open request. */
request_id: RequestId,
/** Where the page begins, in bytes of the input's text: 0, or `next` of the page before. */
offset?: number, } | { "type": "set_goal_state",
/** In which chat. */
chat_id: ChatId,
/** The goal from now on. */
goal_state: GoalState, } | { "type": "list_chats",
/** Where to go on: `before` of the page before. */
before?: string,
/** The most chats to send. */
limit?: number, } | { "type": "history",
/** Which chat. */
chat_id: ChatId,
/** Where to go on: `before` of a snapshot or of the page before. */
before?: string,
/** The most events to send. */
limit?: number, } | { "type": "rename_chat",
/** Which chat. */
chat_id: ChatId,
/** The title from now on, trimmed and not empty. */
title: string, } | { "type": "delete_chat",
/** Which chat. */
chat_id: ChatId, } | { "type": "ping",
/** Comes back in `pong`. */
nonce?: string, };

/** The kinds of control events. They concern one connection or the present moment and are not replayed. */
export type ControlEvent = { "event": "ready",
/** The default chat, for frames that name none. It exists from its first message on. */
chat_id: ChatId,
/** What this client calls itself, or what it was called. */
client_id: string,
/** The version of this protocol: `switchboard.v1`. */
protocol: string,
/** What the client must keep to. */
limits: WireLimits,
/** What the agents of chats are that have not said so of their own, where whoever runs the gateway says so. */
agent?: AgentState,
/** Over SSE: the stream's secret name, which each POST quotes. */
stream?: string, } | { "event": "attached",
/** The chat. */
chat_id: ChatId,
/** The numbering now. */
epoch: Epoch,
/** The last number there is. */
head: number,
/** Whether the client's cursor could be used. Otherwise a `snapshot` replaces what it has. */
recovered: boolean,
/** The chat's title. */
title?: string, } | { "event": "agent_state",
/** The chat. */
chat_id: ChatId,
/** Its name; `demo` is the demo. */
agent: string,
/** What it speaks, such as `claude`. */
dialect?: string,
/** Where it works, as people call it: `~/src/x`, or the folder's name. */
workspace?: string,
/** What it is kept from: `shield`, `workspace` or `off`. */
sandbox?: string, } | { "event": "snapshot",
/** The chat. */
chat_id: ChatId,
/** The numbering of `seq`. */
epoch: Epoch,
/** The client's cursor after the last part. */
seq: number,
/** Which part, from 0. Part 0 replaces what the client has, later parts add to it. */
part: number,
/** Whether more parts follow. */
more: boolean,
/** Chat events of the newest page, oldest first, as everywhere. Adjacent deltas may be joined. */
events: Array<ChatEvent>,
/** For `history`: what comes before; absent at the chat's beginning. */
before?: string,
/** In the last parts: the present state. Their queues and requests add up; the rest is in the last one. */
state?: ChatState, } | { "event": "replay_end",
/** The chat. */
chat_id: ChatId,
/** The numbering of `seq`. */
epoch: Epoch,
/** The last number that was sent. */
seq: number, } | { "event": "message_accepted" } & MessageAccepted | { "event": "turn_stalled",
/** The chat. */
chat_id: ChatId,
/** The turn. */
turn_id: TurnId,
/** Milliseconds without progress. */
idle_ms: number, } | { "event": "goal_status",
/** The chat. */
chat_id: ChatId,
/** Running or idle. */
status: RunStatus,
/** When the turn started, in seconds of Unix time. */
started_at?: number,
/** The turn. */
turn_id?: TurnId, } | { "event": "goal_state",
/** The chat. */
chat_id: ChatId,
/** The goal. */
goal_state: GoalState, } | { "event": "notice",
/** How grave it is. */
level: NoticeLevel,
/** Stable, for programs: see the table in `docs/protocol.md`. */
code: string,
/** One or two sentences, for people. */
text: string, } | { "event": "session_updated",
/** The chat. */
chat_id: ChatId,
/** What changed. */
scope: UpdateScope,
/** The title, where there is one. */
title?: string, } | { "event": "runtime_model_updated",
/** The chat. */
chat_id: ChatId,
/** The model, as the agent names it. */
model_name: string, } | { "event": "chats",
/** One page. */
chats: Array<ChatSummary>,
/** For `list_chats`: what comes after; absent on the last page. */
before?: string, } | { "event": "history",
/** The chat. */
chat_id: ChatId,
/** One page, oldest first. Adjacent deltas may be joined. */
events: Array<ChatEvent>,
/** For the next `history`: what comes before; absent at the chat's beginning. */
before?: string, } | { "event": "request_input",
/** The chat. */
chat_id: ChatId,
/** The open request. */
request_id: RequestId,
/** Where this page begins, in bytes of the input's text. */
offset: number,
/** This page of the input's text. */
text: string,
/** Where the next page begins; absent on the last. */
next?: number,
/** Length of the whole text in bytes. */
input_bytes: number,
/** SHA-256 of the whole text, in hexadecimal digits: what `respond` needs to allow it. */
input_sha256: string, } | { "event": "pong",
/** What the ping carried. */
nonce?: string, } | { "event": "error" } & ErrorEvent;

/** What an agent says a turn cost. */
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

/** The codes of `error` events. Stable; new ones may be added. */
export type ErrorCode = "malformed" | "unknown_type" | "unsupported" | "missing_field" | "invalid_field" | "too_large" | "unknown_chat" | "unknown_turn" | "unknown_request" | "already_resolved" | "input_unseen" | "turn_conflict" | "queue_full" | "rate_limited" | "limit_reached" | "unauthorized" | "unavailable" | "damaged" | "too_slow" | "shutting_down" | "internal";

/** A refusal. */
export type ErrorEvent = {
/** Stable, for programs. */
code: ErrorCode,
/** One short sentence, for people. */
detail: string,
/** Whether the same frame may succeed later. */
retryable: boolean,
/** The chat that it is about. */
chat_id?: ChatId,
/** The message that it is about. */
turn_id?: TurnId,
/** The permission request or question that it is about. */
request_id?: RequestId,
/** With `rate_limited`: milliseconds until it is worth another try. */
retry_after_ms?: number,
/** On transports without close codes: the connection ends with this one. */
close?: number, };

/** One changed file. */
export type FileEdit = {
/** The tool use that changed it. */
call_id: string,
/** The tool. */
tool: string,
/** The file, relative to the workspace; of a file outside it the name only. */
path: string,
/** Lines added. */
added: number,
/** Lines deleted. */
deleted: number,
/** The change in unified form, where it is known and small. */
diff?: string, };

/** A goal that outlives single turns. */
export type GoalState = {
/** Whether it is being pursued. */
active: boolean,
/** A word for its state. */
status?: string,
/** A line to show. */
ui_summary?: string,
/** What is to be reached. */
objective?: string,
/** What happened so far. */
recap?: string, };

/** A person's message. */
export type Message = {
/** For which chat. A well-formed id that is unknown makes that chat. */
chat_id: ChatId,
/** The text. `/stop` cancels the running turn. */
content: string,
/** The client's name for it: sent again, it is recognised. Absent, the gateway makes one. */
turn_id?: TurnId, };

/** The acknowledgement of a message, with the place of its `user_message`. */
export type MessageAccepted = {
/** The chat. */
chat_id: ChatId,
/** The turn, as the sender named it, or as the gateway did where the sender named none. */
turn_id: TurnId,
/** Whether its turn starts at once; otherwise it waits in the queue. */
starts_turn: boolean,
/** The turn that runs now, where that is another one. */
active_turn_id?: TurnId,
/** When the turn started, in seconds of Unix time. */
started_at?: number,
/** The message was accepted before; this is the first answer again and moves no cursor. */
duplicate?: boolean,
/** The numbering of `seq`. */
epoch: Epoch,
/** The number of the message's `user_message`. */
seq: number, };

/** What a `message` is, where it is not an answer. */
export type MessageKind = "tool_hint" | "progress";

/** How grave a notice is. */
export type NoticeLevel = "info" | "warning" | "error";

/** How a turn ended. */
export type Outcome = "completed" | "cancelled" | "failed" | "interrupted";

/** A request for leave to use a tool. */
export type PermissionRequest = {
/** Names the request in `respond`. */
request_id: RequestId,
/** The tool, as the agent names it. */
tool: string,
/** What the agent wants to pass to it: the command, or the change. With `raw` a string with the input's text. */
input: unknown,
/** Length of the whole input's text in bytes. Absent in requests that an earlier version logged. */
input_bytes?: number,
/** SHA-256 of the whole input's text, in hexadecimal digits. Absent in requests that an earlier version logged. */
input_sha256?: string,
/** What the agent says it is for. */
description?: string,
/** Whether `description` was cut to the limit. */
description_truncated?: boolean,
/** The tool use that waits for it. */
call_id?: string,
/**
 * Whether `input` was cut to the limit: `request_input` gives the whole, and only an answer with
 * `input_sha256` allows it.
 */
truncated?: boolean,
/**
 * Whether a JSON value cannot hold the input exactly, so that `input` is its text. Only an answer with
 * `input_sha256` allows it.
 */
raw?: boolean, };

/** A question of the agent to the person. */
export type Question = {
/** Names the request in `respond`. */
request_id: RequestId,
/** What is asked, one or more. */
questions: Array<QuestionItem>, };

/** One question of a request. */
export type QuestionItem = {
/** The question; also the key of its answer in `respond`. */
question: string,
/** A word or two that stand for it. */
header?: string,
/** Whether more than one option may be chosen. */
multi_select?: boolean,
/** What to choose from. A free answer is always possible. */
options?: Array<QuestionOption>,
/** Whether it may stay unanswered. */
optional?: boolean,
/** What an answer has to be. None: any text. */
format?: AnswerFormat,
/** Least value of a number, least number of characters of a text, or of choices where more than one is possible. */
min?: number,
/** The greatest, likewise. */
max?: number, };

/** An option of a question. */
export type QuestionOption = {
/** What is chosen. */
label: string,
/** What choosing it means. */
description?: string, };

/** A permission request or question: `^[A-Za-z0-9_:.-]{1,128}$`, never used again in its chat. */
export type RequestId = string;

/** How a request was closed. */
export type Resolution = "allowed" | "denied" | "answered" | "withdrawn" | "turn_ended";

/** Whether a chat's agent is at work. */
export type RunStatus = "running" | "idle";

/** The running turn in a [`ChatState`]. */
export type RunningTurn = {
/** Its id. */
turn_id: TurnId,
/** When it started, in milliseconds of Unix time. */
started_at_ms: number, };

/** Whatever a client may receive. */
export type ServerEvent = ChatEvent | ControlEvent;

/** Tool use in the older vocabulary. */
export type ToolHint = {
/** Version of this shape: 1. */
version: number,
/** Whether it begins or has ended. */
phase: ToolPhase,
/** The use that this is about. */
call_id: string,
/** The tool. */
name: string, };

/** A phase of a tool's use. */
export type ToolPhase = "start" | "end" | "error";

/** Why a turn failed or was interrupted. */
export type TurnError = {
/** Stable, for programs: see the table in `docs/protocol.md`. */
code: string,
/** One sentence, for people. */
detail: string, };

/**
 * One message and everything that answers it. Made by the client so that a repeat is recognised:
 * 1 to 128 bytes, no white space and no control characters.
 */
export type TurnId = string;

/** What changed about a chat. */
export type UpdateScope = "metadata" | "thread" | "deleted";

/** What an agent says a turn used, in tokens. */
export type Usage = {
/** Tokens read. */
input_tokens: number,
/** Tokens written. */
output_tokens: number,
/** Tokens read from a cache. */
cache_read_tokens: number,
/** Tokens written to a cache. */
cache_write_tokens: number, };

/** What a client must keep to, as `ready` tells it. */
export type WireLimits = {
/** Longest frame in bytes; beyond it the connection is closed. */
frame_bytes: number,
/** Longest `content` in bytes. */
text_bytes: number,
/** Chats that one connection may be attached to. */
chats_per_connection: number,
/** Messages that may wait in a chat's queue. */
queued_turns: number, };
