/** Builds events for tests, and a chat's log with every kind of event. */
import type { ChatEvent, TurnId } from "../../src/client/index.ts";

type Body = { event: ChatEvent["event"] } & Record<string, unknown>;

/** Gives event bodies sequence numbers from `first` on. Those without a turn get the same turn. */
export function log(bodies: Body[], { first = 1, turn = "t1", epoch = "e1", chat = "c" }: { first?: number; turn?: TurnId; epoch?: string; chat?: string } = {}): ChatEvent[] {
  return bodies.map((body, index) => ({ chat_id: chat, epoch, turn_id: turn, seq: first + index, ...body }) as ChatEvent);
}

export const userMessage = (text: string, turn = "t1", starts_turn = true): Body => ({ event: "user_message", text, starts_turn, created_at_ms: 1, turn_id: turn });
export const delta = (text: string, stream_id = "s"): Body => ({ event: "delta", stream_id, text });
export const turnEnd = (outcome = "completed", turn = "t1"): Body => ({ event: "turn_end", outcome, latency_ms: 5, turn_id: turn });

export const CONVERSATION: ChatEvent[] = log([
  userMessage("first"),
  { event: "turn_started", started_at_ms: 2 },
  { event: "reasoning_delta", stream_id: "r", text: "I " },
  { event: "reasoning_delta", stream_id: "r", text: "think" },
  { event: "reasoning_end", stream_id: "r" },
  delta("Hello ", "a"), delta("wor", "b"), delta("there", "a"), delta("ld", "b"),
  { event: "stream_end", stream_id: "a" },
  { event: "stream_end", stream_id: "b", void: true },
  userMessage("second", "t2", false),
  { event: "tool_event", phase: "start", call_id: "x", name: "Edit", arguments: { path: "f" } },
  { event: "message", text: "", kind: "tool_hint", tool_events: [] },
  { event: "permission_request", request_id: "p", tool: "Edit", input: { path: "f" }, call_id: "x" },
  { event: "request_resolved", request_id: "p", resolution: "allowed" },
  { event: "file_edit", edits: [{ call_id: "x", tool: "Edit", path: "f", added: 1, deleted: 0 }] },
  { event: "tool_event", phase: "end", call_id: "x", name: "Edit", result: "ok" },
  { event: "tool_event", phase: "start", call_id: "y", name: "Bash" },
  { event: "question", request_id: "q", questions: [{ question: "Why?" }] },
  { event: "message", text: "retrying", kind: "progress" },
  { event: "stream_end", stream_id: "whole", text: "all at once" },
  { event: "request_resolved", request_id: "q", resolution: "turn_ended" },
  turnEnd("cancelled"),
  { event: "turn_started", started_at_ms: 9, turn_id: "t2" },
  { event: "message", text: "not streamed", turn_id: "t2" },
  { event: "delta", stream_id: "z", text: "open", turn_id: "t2" },
]);
