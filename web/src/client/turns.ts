/**
 * Builds a chat's turns from its events. The functions are pure; turns and items that an event does not change keep their
 * object identity, so that the page draws only the changed ones again.
 */
import type {
  ChatEvent, Cost, Cursor, FileEdit, NoticeLevel, Outcome, PermissionRequest, Question, Resolution, TurnError, TurnId, Usage,
} from "./wire.ts";

/** Text of the agent: a stream of its answer or thinking, or a whole message. */
export interface TextItem {
  readonly kind: "text" | "thinking" | "note";
  readonly key: string;
  readonly text: string;
  /** More text may follow. */
  readonly open: boolean;
  /** The agent abandoned the stream; its text is no part of the answer. */
  readonly void: boolean;
  /** `text` is the complete text and replaces what the stream had before; otherwise `text` is appended. */
  readonly whole: boolean;
}

/** One call of a tool, with the files that it changed. */
export interface ToolItem {
  readonly kind: "tool";
  readonly key: string;
  readonly name: string;
  readonly arguments?: unknown;
  /** `edited`: only `edits` are known, since no event of the call itself has arrived. */
  readonly status: "running" | "done" | "error" | "stopped" | "edited";
  readonly result?: string;
  readonly error?: string;
  readonly truncated: boolean;
  readonly edits: readonly FileEdit[];
}

/** A permission request or a question of the agent; open while it has no `resolution`. */
export interface RequestItem {
  readonly kind: "request";
  readonly key: string;
  readonly requestId: string;
  /**
   * The position of the request's event. Agents may use a request id again, so the position tells such requests apart.
   * Absent where only the resolution is known because the history page with the request is not loaded.
   */
  readonly at?: Cursor;
  readonly permission?: PermissionRequest;
  readonly question?: Question;
  readonly resolution?: Resolution;
}

/** A message of the gateway or the agent to the person, beside the answer. */
export interface NoticeItem {
  readonly kind: "notice";
  readonly key: string;
  readonly level: NoticeLevel;
  /** Identifies the kind of notice for programs. */
  readonly code: string;
  readonly text: string;
}

export type Item = TextItem | ToolItem | RequestItem | NoticeItem;

/** A person's message and the agent's answer to it. An event outside of turns gets a turn of its own, without a message. */
export interface Turn {
  readonly id: TurnId;
  readonly phase: "queued" | "running" | "done";
  /** The person's message. Absent while the history page with it is not loaded. */
  readonly user?: {
    readonly text: string;
    readonly createdAtMs: number;
    readonly clientId?: string;
    /** The turn was queued behind another one, so its latency includes waiting. */
    readonly waited?: true;
  };
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

/** A chat event that belongs to a turn. */
type TurnEvent = Exclude<ChatEvent, { event: "goal_state" }>;

/** Applies one event. */
export function applyToTurns(turns: readonly Turn[], event: ChatEvent): readonly Turn[] {
  if (event.event === "goal_state") return turns;
  if (event.event === "request_resolved" && event.turn_id === undefined) {
    // Neither a request outside of turns nor its resolution has a turn id; the request id joins them.
    const requested = turns.findLastIndex((turn) => turn.items.some((item) => isOpen(item, event.request_id)));
    if (requested >= 0) return turns.with(requested, applyToTurn(turns[requested]!, event));
  }
  // An event outside of turns gets a turn of its own, named by the event's position.
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
      return { ...turn, user, phase: laterPhase(turn.phase, event.starts_turn ? "running" : "queued") };
    }
    case "turn_started":
      return { ...turn, startedAtMs: event.started_at_ms, phase: laterPhase(turn.phase, "running") };
    case "delta":
      return updateStream(turn, "text", event.stream_id, (item) => ({ ...item, text: item.text + event.text }));
    case "reasoning_delta":
      return updateStream(turn, "thinking", event.stream_id, (item) => ({ ...item, text: item.text + event.text }));
    case "stream_end":
      return updateStream(turn, "text", event.stream_id, (item) => ({
        ...item, open: false, void: event.void ?? false,
        ...(event.text !== undefined && { text: event.text, whole: true }),
      }));
    case "reasoning_end":
      return updateStream(turn, "thinking", event.stream_id, (item) => ({ ...item, open: false, void: event.void ?? false }));
    case "message": {
      if (event.kind === "tool_hint") return turn; // repeats a `tool_event` in an older form
      const kind = event.kind === "progress" ? "note" : "text";
      const key = `message ${event.epoch}.${event.seq}`;
      return upsert(turn, { kind, key, text: event.text, open: false, void: false, whole: true });
    }
    case "notice":
      return upsert(turn, { kind: "notice", key: `notice ${event.epoch}.${event.seq}`, level: event.level, code: event.code, text: event.text });
    case "tool_event":
      return upsert(turn, newTool(event.call_id, event.name, {
        status: event.phase === "end" ? "done" : event.phase === "error" ? "error" : "running",
        truncated: event.truncated ?? false,
        ...("arguments" in event && { arguments: event.arguments }),
        ...(event.result !== undefined && { result: event.result }),
        ...(event.error !== undefined && { error: event.error }),
      }));
    case "task":
      return turn; // the list of tasks is state of the chat
    case "file_edit":
      return event.edits.reduce((edited, edit) => upsert(edited, newTool(edit.call_id, edit.tool, { edits: [edit] })), turn);
    case "permission_request":
    case "question": {
      const body = event.event === "question" ? { question: event } : { permission: event };
      return upsertRequest(turn, { ...newRequest(event.request_id), at: { epoch: event.epoch, seq: event.seq }, ...body });
    }
    case "request_resolved":
      return upsertRequest(turn, { ...newRequest(event.request_id), resolution: event.resolution });
    case "turn_end": {
      const end = {
        outcome: event.outcome, latencyMs: event.latency_ms,
        ...(event.usage && { usage: event.usage }),
        ...(event.cost && { cost: event.cost }),
        ...(event.error && { error: event.error }),
      };
      return closeOpenItems({ ...turn, end, phase: "done" });
    }
    default:
      event satisfies never; // a new kind of event needs a case here
      return turn; // an event of a newer gateway
  }
}

/** Puts a page of history before the turns that are there. A page can end inside a turn or a stream, whose parts are joined. */
export function joinTurns(older: readonly Turn[], newer: readonly Turn[]): readonly Turn[] {
  const byId = new Map(newer.map((turn) => [turn.id, turn]));
  const joined = older.map((turn) => {
    const rest = byId.get(turn.id);
    byId.delete(turn.id);
    return rest ? joinTurn(turn, rest) : turn;
  });
  // Resolutions in the newer part can belong to requests outside of turns that are on the older page.
  const resolutions = newer.flatMap((turn) => (byId.has(turn.id) ? turn.items.filter((item) => item.kind === "request" && !item.at) : []));
  const resolved = resolutions.reduce<readonly Turn[]>((turns, resolution) => {
    const requested = turns.findLastIndex((turn) => resolution.kind === "request" && turn.items.some((item) => isOpen(item, resolution.requestId)));
    return requested < 0 ? turns : turns.with(requested, upsertItem(turns[requested]!, resolution));
  }, joined);
  return [...resolved, ...newer.filter((turn) => byId.has(turn.id))];
}

function isOpen(item: Item, requestId: string): boolean {
  return item.kind === "request" && item.requestId === requestId && item.at !== undefined && !item.resolution;
}

function upsertItem(turn: Turn, item: Item): Turn {
  return item.kind === "request" ? upsertRequest(turn, item) : upsert(turn, item);
}

/**
 * Adds a request or its resolution. A resolution goes to the open request with its id. A request with a position that is
 * there already is the same request; with another position it is a new one, even under a known id.
 */
function upsertRequest(turn: Turn, next: RequestItem): Turn {
  const same = (item: Item): item is RequestItem => item.kind === "request" && item.requestId === next.requestId
    && (next.at ? item.at?.epoch === next.at.epoch && item.at.seq === next.at.seq : !item.resolution || !item.at);
  const known = turn.items.findLast(same);
  if (known) return upsert(turn, { ...next, key: known.key });
  const isKeyUsed = turn.items.some((item) => item.key === next.key);
  return upsert(turn, isKeyUsed ? { ...next, key: `${next.key} ${next.at?.epoch} ${next.at?.seq}` } : next);
}

function joinTurn(older: Turn, newer: Turn): Turn {
  const whole = newer.items.reduce(upsertItem, { ...older, ...newer, items: older.items });
  return closeOpenItems({ ...whole, phase: laterPhase(older.phase, newer.phase) });
}

/** Closes the items that are still open in a turn that has ended: no events of theirs will follow. */
function closeOpenItems(turn: Turn): Turn {
  if (!turn.end) return turn;
  const items = turn.items.map((item): Item => {
    if (item.kind === "tool") return item.status === "running" ? { ...item, status: "stopped" } : item;
    if (item.kind === "request") return item.resolution ? item : { ...item, resolution: "turn_ended" };
    return item.kind !== "notice" && item.open ? { ...item, open: false } : item;
  });
  return { ...turn, items };
}

function updateStream(turn: Turn, kind: "text" | "thinking", id: string, change: (item: TextItem) => TextItem): Turn {
  const empty: TextItem = { kind, key: `${kind} ${id}`, text: "", open: true, void: false, whole: false };
  return upsert(turn, change(empty));
}

function newTool(callId: string, name: string, rest: Partial<ToolItem>): ToolItem {
  return { kind: "tool", key: `tool ${callId}`, name, status: "edited", truncated: false, edits: [], ...rest };
}

function newRequest(requestId: string): RequestItem {
  return { kind: "request", key: `request ${requestId}`, requestId };
}

/** Adds an item to a turn, or merges it into the turn's item with the same key. Live events and history pages both come here. */
function upsert(turn: Turn, next: Item): Turn {
  // A request or a notice can arrive for a turn that is still queued; any other item shows that the turn is running.
  const phase = next.kind === "request" || next.kind === "notice" ? turn.phase : laterPhase(turn.phase, "running");
  let index = turn.items.length - 1;
  while (index >= 0 && turn.items[index]!.key !== next.key) index -= 1;
  const item = turn.items[index];
  if (!item) return { ...turn, phase, items: [...turn.items, next] };
  return { ...turn, phase, items: turn.items.with(index, mergeItem(item, next)) };
}

function mergeItem(item: Item, next: Item): Item {
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

function laterPhase(a: Turn["phase"], b: Turn["phase"]): Turn["phase"] {
  return PHASES[Math.max(PHASES.indexOf(a), PHASES.indexOf(b))]!;
}
