/** What a chat's events say, turn by turn. Pure: events in, turns out; what did not change keeps its identity. */
import type {
  ChatEvent, Cost, Cursor, FileEdit, NoticeLevel, Outcome, PermissionRequest, Question, Resolution, TurnError, TurnId, Usage,
} from "./wire.ts";

/** A stream of the answer or of thinking, or a whole message. */
export interface TextItem {
  readonly kind: "text" | "thinking" | "note";
  readonly key: string;
  readonly text: string;
  /** More may come. */
  readonly open: boolean;
  /** The agent abandoned it. */
  readonly void: boolean;
  /** `text` is all of it, whatever came before. */
  readonly whole: boolean;
}

/** One use of a tool, with the files that it changed. */
export interface ToolItem {
  readonly kind: "tool";
  readonly key: string;
  readonly name: string;
  readonly arguments?: unknown;
  /** `edited`: nothing is known of it but what it changed. */
  readonly status: "running" | "done" | "error" | "stopped" | "edited";
  readonly result?: string;
  readonly error?: string;
  readonly truncated: boolean;
  readonly edits: readonly FileEdit[];
}

/** A permission request or question, open until it has a resolution. */
export interface RequestItem {
  readonly kind: "request";
  readonly key: string;
  readonly requestId: string;
  /** Where it was asked: an id that is asked again is another request. Absent while the page of history with it is not loaded. */
  readonly at?: Cursor;
  readonly permission?: PermissionRequest;
  readonly question?: Question;
  readonly resolution?: Resolution;
}

/** What a person should know and is part of no answer. */
export interface NoticeItem {
  readonly kind: "notice";
  readonly key: string;
  readonly level: NoticeLevel;
  /** Stable, for programs. */
  readonly code: string;
  readonly text: string;
}

export type Item = TextItem | ToolItem | RequestItem | NoticeItem;

/** A person's message and everything that answers it. */
export interface Turn {
  readonly id: TurnId;
  readonly phase: "queued" | "running" | "done";
  /** Absent while the history page that has it is not loaded. */
  readonly user?: { readonly text: string; readonly createdAtMs: number; readonly clientId?: string; /** Another turn ran, so this one's time has waiting in it. */ readonly waited?: true };
  readonly startedAtMs?: number;
  readonly items: readonly Item[];
  readonly end?: TurnEnd;
}

export interface TurnEnd {
  readonly outcome: Outcome;
  readonly latencyMs: number;
  readonly usage?: Usage;
  readonly cost?: Cost;
  readonly error?: TurnError;
}

const PHASES = ["queued", "running", "done"] as const;

/** A chat event that changes what a turn shows. */
type TurnEvent = Exclude<ChatEvent, { event: "goal_state" }>;

/** The turns after one more event. */
export function applyToTurns(turns: readonly Turn[], event: ChatEvent): readonly Turn[] {
  if (event.event === "goal_state") return turns;
  if (event.event === "request_resolved" && event.turn_id === undefined) {
    // A request outside of turns stands alone, and so does its answer: they meet here.
    const asked = turns.findLastIndex((turn) => turn.items.some((item) => isOpen(item, event.request_id)));
    if (asked >= 0) return turns.with(asked, applyToTurn(turns[asked]!, event));
  }
  // What belongs to no turn stands alone.
  const id = event.turn_id ?? `${event.epoch}.${event.seq}`;
  let index = turns.length - 1;
  while (index >= 0 && turns[index]!.id !== id) index -= 1;
  const known = turns[index];
  const before: Turn = known ?? { id, phase: event.turn_id === undefined ? "done" : "queued", items: [] };
  const after = applyToTurn(before, event);
  if (after === before) return turns;
  return known ? turns.with(index, after) : [...turns, after];
}

function applyToTurn(turn: Turn, event: TurnEvent): Turn {
  switch (event.event) {
    case "user_message": {
      const user = {
        text: event.text, createdAtMs: event.created_at_ms,
        ...(event.client_id !== undefined && { clientId: event.client_id }),
        ...(!event.starts_turn && { waited: true as const }),
      };
      return { ...turn, user, phase: later(turn.phase, event.starts_turn ? "running" : "queued") };
    }
    case "turn_started":
      return { ...turn, startedAtMs: event.started_at_ms, phase: later(turn.phase, "running") };
    case "delta":
      return stream(turn, "text", event.stream_id, (item) => ({ ...item, text: item.text + event.text }));
    case "reasoning_delta":
      return stream(turn, "thinking", event.stream_id, (item) => ({ ...item, text: item.text + event.text }));
    case "stream_end":
      return stream(turn, "text", event.stream_id, (item) => ({
        ...item, open: false, void: event.void ?? false,
        ...(event.text !== undefined && { text: event.text, whole: true }),
      }));
    case "reasoning_end":
      return stream(turn, "thinking", event.stream_id, (item) => ({ ...item, open: false, void: event.void ?? false }));
    case "message": {
      if (event.kind === "tool_hint") return turn; // says what `tool_event` says
      const kind = event.kind === "progress" ? "note" : "text";
      const key = `message ${event.epoch}.${event.seq}`;
      return upsert(turn, { kind, key, text: event.text, open: false, void: false, whole: true });
    }
    case "notice":
      return upsert(turn, { kind: "notice", key: `notice ${event.epoch}.${event.seq}`, level: event.level, code: event.code, text: event.text });
    case "tool_event":
      return upsert(turn, tool(event.call_id, event.name, {
        status: event.phase === "start" ? "running" : event.phase === "end" ? "done" : "error",
        truncated: event.truncated ?? false,
        ...("arguments" in event && { arguments: event.arguments }),
        ...(event.result !== undefined && { result: event.result }),
        ...(event.error !== undefined && { error: event.error }),
      }));
    case "file_edit":
      return event.edits.reduce((was, edit) => upsert(was, tool(edit.call_id, edit.tool, { edits: [edit] })), turn);
    case "permission_request":
    case "question": {
      const body = event.event === "question" ? { question: event } : { permission: event };
      return withRequest(turn, { ...request(event.request_id), at: { epoch: event.epoch, seq: event.seq }, ...body });
    }
    case "request_resolved":
      return withRequest(turn, { ...request(event.request_id), resolution: event.resolution });
    case "turn_end": {
      const end = {
        outcome: event.outcome, latencyMs: event.latency_ms,
        ...(event.usage && { usage: event.usage }),
        ...(event.cost && { cost: event.cost }),
        ...(event.error && { error: event.error }),
      };
      return settle({ ...turn, end, phase: "done" });
    }
    default:
      event satisfies never; // a new kind of event needs a case here
      return turn; // of a newer gateway
  }
}

/** Pages of history end anywhere, also inside a turn or a stream: puts the older part before the newer. */
export function joinTurns(older: readonly Turn[], newer: readonly Turn[]): readonly Turn[] {
  const byId = new Map(newer.map((turn) => [turn.id, turn]));
  const joined = older.map((turn) => {
    const rest = byId.get(turn.id);
    byId.delete(turn.id);
    return rest ? joinTurn(turn, rest) : turn;
  });
  // Answers whose requests were outside of turns, and on the older page.
  const answers = newer.flatMap((turn) => (byId.has(turn.id) ? turn.items.filter((item) => item.kind === "request" && !item.at) : []));
  const answered = answers.reduce<readonly Turn[]>((turns, answer) => {
    const asked = turns.findLastIndex((turn) => answer.kind === "request" && turn.items.some((item) => isOpen(item, answer.requestId)));
    return asked < 0 ? turns : turns.with(asked, upsertAny(turns[asked]!, answer));
  }, joined);
  return [...answered, ...newer.filter((turn) => byId.has(turn.id))];
}

function isOpen(item: Item, requestId: string): boolean {
  return item.kind === "request" && item.requestId === requestId && item.at !== undefined && !item.resolution;
}

function upsertAny(turn: Turn, item: Item): Turn {
  return item.kind === "request" ? withRequest(turn, item) : upsert(turn, item);
}

/** An answer goes to the asking that is open; an asking that was had is the same, any other one is new. */
function withRequest(turn: Turn, next: RequestItem): Turn {
  const same = (item: Item): item is RequestItem => item.kind === "request" && item.requestId === next.requestId
    && (next.at ? item.at?.epoch === next.at.epoch && item.at.seq === next.at.seq : !item.resolution || !item.at);
  const known = turn.items.findLast(same);
  if (known) return upsert(turn, { ...next, key: known.key });
  const taken = turn.items.some((item) => item.key === next.key);
  return upsert(turn, taken ? { ...next, key: `${next.key} ${next.at?.epoch} ${next.at?.seq}` } : next);
}

function joinTurn(older: Turn, newer: Turn): Turn {
  const whole = newer.items.reduce(upsertAny, { ...older, ...newer, items: older.items });
  return settle({ ...whole, phase: later(older.phase, newer.phase) });
}

/** Nothing of a turn that has ended is still open. */
function settle(turn: Turn): Turn {
  if (!turn.end) return turn;
  const items = turn.items.map((item): Item => {
    if (item.kind === "tool") return item.status === "running" ? { ...item, status: "stopped" } : item;
    if (item.kind === "request") return item.resolution ? item : { ...item, resolution: "turn_ended" };
    return item.kind !== "notice" && item.open ? { ...item, open: false } : item;
  });
  return { ...turn, items };
}

function stream(turn: Turn, kind: "text" | "thinking", id: string, change: (item: TextItem) => TextItem): Turn {
  const empty: TextItem = { kind, key: `${kind} ${id}`, text: "", open: true, void: false, whole: false };
  return upsert(turn, change(empty));
}

function tool(callId: string, name: string, rest: Partial<ToolItem>): ToolItem {
  return { kind: "tool", key: `tool ${callId}`, name, status: "edited", truncated: false, edits: [], ...rest };
}

function request(requestId: string): RequestItem {
  return { kind: "request", key: `request ${requestId}`, requestId };
}

/** Adds an item, or continues the one with its key: live events and history pages join in the same way. */
function upsert(turn: Turn, next: Item): Turn {
  // What is asked, or noted, does not tell whether its turn has begun.
  const phase = next.kind === "request" || next.kind === "notice" ? turn.phase : later(turn.phase, "running");
  let index = turn.items.length - 1;
  while (index >= 0 && turn.items[index]!.key !== next.key) index -= 1;
  const item = turn.items[index];
  if (!item) return { ...turn, phase, items: [...turn.items, next] };
  return { ...turn, phase, items: turn.items.with(index, continued(item, next)) };
}

function continued(item: Item, next: Item): Item {
  if (item.kind === "request" || next.kind === "request") return { ...item, ...next } as Item;
  if (item.kind === "notice" || next.kind === "notice") return next;
  if (item.kind !== "tool" && next.kind !== "tool") {
    return { ...next, text: next.whole ? next.text : item.text + next.text };
  }
  if (item.kind !== "tool" || next.kind !== "tool") return next;
  return {
    ...item, ...next,
    status: next.status === "edited" ? item.status : next.status,
    truncated: item.truncated || next.truncated,
    edits: [...item.edits, ...next.edits],
  };
}

function later(a: Turn["phase"], b: Turn["phase"]): Turn["phase"] {
  return PHASES[Math.max(PHASES.indexOf(a), PHASES.indexOf(b))]!;
}
