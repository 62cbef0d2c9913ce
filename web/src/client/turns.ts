/**
 * Builds a chat's turns from its events. The functions are pure; turns and items that an event does not change keep their
 * object identity, so that the page draws only the changed ones again.
 */
import { closeItem, isLaterUse, itemsOf, keyOfLaterUse, mergeItem, type Item, type RequestItem } from "./items.ts";
import type { ChatEvent, Cost, Cursor, Outcome, TurnError, TurnId, TurnReason, Usage } from "./wire.ts";

/**
 * A person's message and the agent's answer to it, or a turn that the agent began by itself. An event outside of turns gets a
 * turn of its own, without a message.
 */
export interface Turn {
  readonly id: TurnId;
  /** The agent began the turn by itself. Absent for the turn of a person's message. */
  readonly origin?: "agent";
  /** Why the agent began the turn; absent while the history page with its start is not loaded. */
  readonly reason?: TurnReason;
  readonly phase: "queued" | "running" | "done";
  /** The person's message. Absent while the history page with it is not loaded. */
  readonly user?: {
    readonly text: string;
    readonly createdAtMs: number;
    readonly clientId?: string;
    readonly at: Cursor;
    /** Another turn was open when the message came, so the latency of its own turn includes waiting. */
    readonly waited?: true;
  };
  readonly startedAtMs?: number;
  readonly items: readonly Item[];
  readonly end?: TurnEnd;
}

export interface TurnEnd {
  readonly at: Cursor;
  readonly outcome: Outcome;
  /** The turn that the agent began by itself and that took this turn's message in and answers it: both ended with the same result. */
  readonly answeredIn?: TurnId;
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
  const id = event.turn_id ?? turnOutside(turns, event);
  let index = turns.length - 1;
  while (index >= 0 && turns[index]!.id !== id) index -= 1;
  const known = turns[index];
  const before: Turn = known ?? { id, phase: event.turn_id === undefined ? "done" : "queued", items: [] };
  let after = applyToTurn(before, event);
  if (after === before) return turns;
  if (event.event === "turn_end") after = withAnsweredIn(after, agentTurnsByEnd(turns));
  if (event.event === "user_message") after = withWaited(after, turns.findLast((turn, place) => turn.origin === "agent" && (!known || place < index)));
  return known ? turns.with(index, after) : [...turns, after];
}

/**
 * The turn that shows an event outside of turns: the one with the tool use or the stream that the event belongs to, such as
 * that of a subagent in the background, else a turn of its own, named by the event's position.
 */
function turnOutside(turns: readonly Turn[], event: TurnEvent): TurnId {
  const own = itemsOf(event);
  const continued = (item: Item) => own.some((each) => each.key === item.key && (each.kind === "tool" || "open" in each));
  const parent = event.event === "task" ? undefined : event.parent_call_id;
  const home = turns.findLast((turn) => turn.items.some((item) => continued(item) || (item.kind === "tool" && item.callId === parent)));
  return home?.id ?? `${event.epoch}.${event.seq}`;
}

/**
 * The turns that the agent began by itself and in which it said something, by the position of their ends. What it said in one
 * whose beginning is not loaded is not known.
 */
function agentTurnsByEnd(turns: readonly Turn[]): ReadonlyMap<string, TurnId> {
  return new Map(turns.flatMap((turn) => {
    const { id, origin, end, startedAtMs } = turn;
    return origin === "agent" && end && (startedAtMs === undefined || hasAnswer(turn)) ? [[`${end.at.epoch}.${end.at.seq}`, id] as const] : [];
  }));
}

/** A prompt that was taken into the agent's own turn ends right after it, and without a text of its own. */
function withAnsweredIn(turn: Turn, byEnd: ReadonlyMap<string, TurnId>): Turn {
  if (!turn.end || turn.origin === "agent") return turn;
  const { answeredIn: known, ...end } = turn.end;
  const answeredIn = hasAnswer(turn) ? undefined : byEnd.get(`${end.at.epoch}.${end.at.seq - 1}`);
  return answeredIn === known ? turn : { ...turn, end: { ...end, ...(answeredIn !== undefined && { answeredIn }) } };
}

/**
 * Notes that a message waited for a turn that the agent had begun by itself. The gateway starts the message's turn beside that
 * turn. `before`: the last turn of the agent's own that began before the message.
 */
function withWaited(turn: Turn, before: Turn | undefined): Turn {
  if (!turn.user || turn.user.waited || !before) return turn;
  const { at } = turn.user;
  const { end } = before;
  const wasOpen = !end || (end.at.epoch === at.epoch && end.at.seq > at.seq);
  return wasOpen ? { ...turn, user: { ...turn.user, waited: true } } : turn;
}

/** Whether the agent said something to the person in the turn. What its subagents say is no answer. */
export function hasAnswer(turn: Turn): boolean {
  return turn.items.some((item) => item.kind === "text" && item.parent === undefined && !item.void && item.text !== "");
}

function applyToTurn(turn: Turn, event: TurnEvent): Turn {
  switch (event.event) {
    case "user_message": {
      const user = {
        text: event.text, createdAtMs: event.created_at_ms, at: { epoch: event.epoch, seq: event.seq },
        ...(event.client_id !== undefined && { clientId: event.client_id }),
        ...(!event.starts_turn && { waited: true as const }),
      };
      return { ...turn, user, phase: laterPhase(turn.phase, event.starts_turn ? "running" : "queued") };
    }
    case "turn_started":
      return {
        ...turn, startedAtMs: event.started_at_ms, phase: laterPhase(turn.phase, "running"),
        ...(event.origin === "agent" && { origin: "agent" as const }),
        ...(event.reason !== undefined && { reason: event.reason }),
      };
    case "delta":
    case "reasoning_delta":
    case "stream_end":
    case "reasoning_end":
    case "message":
    case "notice":
    case "tool_event":
    case "task":
    case "file_edit": return itemsOf(event).reduce(upsert, turn);
    case "permission_request":
    case "question": {
      const body = event.event === "question" ? { question: event } : { permission: event };
      const parent = event.parent_call_id === undefined ? {} : { parent: event.parent_call_id };
      return upsertRequest(turn, { ...newRequest(event.request_id), at: { epoch: event.epoch, seq: event.seq }, ...parent, ...body });
    }
    case "request_resolved":
      return upsertRequest(turn, { ...newRequest(event.request_id), resolution: event.resolution });
    case "turn_end": {
      const end = {
        at: { epoch: event.epoch, seq: event.seq }, outcome: event.outcome, latencyMs: event.latency_ms,
        ...(event.usage && { usage: event.usage }),
        ...(event.cost && { cost: event.cost }),
        ...(event.error && { error: event.error }),
      };
      return closeOpenItems({ ...turn, ...(event.origin === "agent" && { origin: "agent" as const }), end, phase: "done" });
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
  const all = [...resolved, ...newer.filter((turn) => byId.has(turn.id))];
  const byEnd = agentTurnsByEnd(all);
  let own: Turn | undefined;
  return all.map((turn) => {
    const whole = withWaited(withAnsweredIn(turn, byEnd), own);
    if (turn.origin === "agent") own = turn;
    return whole;
  });
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

/** Closes the items that are still open in a turn that has ended. */
function closeOpenItems(turn: Turn): Turn {
  return turn.end ? { ...turn, items: turn.items.map(closeItem) } : turn;
}

function newRequest(requestId: string): RequestItem {
  return { kind: "request", key: `request ${requestId}`, requestId };
}

/** Adds an item to a turn, or merges it into the turn's item with the same key. Live events and history pages both come here. */
function upsert(turn: Turn, next: Item): Turn {
  // A request, a notice or the end of a task can arrive for a turn that is still queued; any other item shows that the turn
  // is running.
  const phase = next.kind === "request" || next.kind === "notice" || next.kind === "task" ? turn.phase : laterPhase(turn.phase, "running");
  let index = turn.items.length - 1;
  while (index >= 0 && !isSameItem(turn.items[index]!, next)) index -= 1;
  const item = turn.items[index];
  if (!item) return { ...turn, phase, items: [...turn.items, next] };
  if (isLaterUse(item, next)) return { ...turn, phase, items: [...turn.items, { ...next, key: keyOfLaterUse(next) }] };
  return { ...turn, phase, items: turn.items.with(index, { ...mergeItem(item, next), key: item.key }) };
}

function isSameItem(item: Item, next: Item): boolean {
  if (item.kind === "tool" && next.kind === "tool") return item.callId === next.callId && item.parent === next.parent;
  return item.key === next.key;
}

function laterPhase(a: Turn["phase"], b: Turn["phase"]): Turn["phase"] {
  return PHASES[Math.max(PHASES.indexOf(a), PHASES.indexOf(b))]!;
}
