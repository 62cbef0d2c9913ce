/** One chat as a client sees it: the reducer from server events to what a page shows. */
import { agentIn } from "./agent.ts";
import { applyToTurns, joinTurns, type RequestItem, type Turn } from "./turns.ts";
import type { AgentState, ChatEvent, ChatId, ControlEvent, Cursor, GoalState, ServerEvent, TurnId } from "./wire.ts";

export type Control<K extends ControlEvent["event"]> = Extract<ControlEvent, { event: K }>;

export interface Chat {
  readonly id: ChatId;
  readonly title?: string;
  /** `new`: nothing sent yet. `loading`: replay or snapshot under way. `unknown`: no such chat. `damaged`: the gateway cannot read it or add to it. */
  readonly phase: "new" | "loading" | "live" | "unknown" | "damaged";
  /** Everything up to here has been applied; absent while a snapshot is incomplete. */
  readonly cursor?: Cursor;
  readonly turns: readonly Turn[];
  /** For `history`: what comes before `turns`; absent at the chat's beginning. */
  readonly before?: string;
  /** The first event held, so that a history page that comes late cannot repeat it. */
  readonly oldest?: Cursor;
  readonly goal?: GoalState;
  readonly model?: string;
  /** Told after `attached` and in snapshots. */
  readonly agent?: AgentState;
  /** The turn whose stop was asked for here and that has not ended. */
  readonly stopping?: TurnId;
  readonly stalled?: { readonly turnId: TurnId; readonly idleMs: number };
}

export function emptyChat(id: ChatId, phase: Chat["phase"] = "loading"): Chat {
  return { id, phase, turns: [] };
}

/** Chat events are numbered; control events are not. */
export function isChatEvent(event: ServerEvent): event is ChatEvent {
  return "seq" in event && "epoch" in event && !CONTROL_WITH_SEQ.has(event.event);
}
const CONTROL_WITH_SEQ: ReadonlySet<string> = new Set(["snapshot", "replay_end", "message_accepted"]);

/** Where a numbered event stands: to be applied, had already, or after a hole (then attach again). */
export function placeOf(chat: Chat, event: { epoch: string; seq: number; first_seq?: number }): "next" | "had" | "hole" {
  const { cursor } = chat;
  if (!cursor || cursor.epoch !== event.epoch) return "hole";
  if (event.seq <= cursor.seq) return "had";
  return (event.first_seq ?? event.seq) === cursor.seq + 1 ? "next" : "hole";
}

/** Applies a chat event that is `next`. */
export function applyEvent(chat: Chat, event: ChatEvent): Chat {
  const next: Chat = { ...chat, cursor: { epoch: event.epoch, seq: event.seq }, turns: applyToTurns(chat.turns, event) };
  const active = event.event === "goal_state" || event.event === "turn_end" ? event.goal_state : undefined;
  const moved = active ? withGoal(next, active) : next;
  const goesOn = chat.stalled && event.turn_id === chat.stalled.turnId ? without(moved, "stalled") : moved;
  return event.event === "turn_end" && event.turn_id === chat.stopping ? without(goesOn, "stopping") : goesOn;
}

/** `message_accepted` stands for the `user_message` of the sender, who knows the text. */
export function acceptedEvent(accepted: Control<"message_accepted">, text: string, now: number): ChatEvent {
  const { chat_id, epoch, seq, turn_id, starts_turn } = accepted;
  return { event: "user_message", chat_id, epoch, seq, turn_id, text, starts_turn, created_at_ms: now };
}

export function applyAttached(chat: Chat, event: Control<"attached">): Chat {
  const named = event.title === undefined ? chat : { ...chat, title: event.title };
  if (event.recovered && chat.cursor) return { ...named, phase: "loading" };
  // What is here stays on screen until part 0 of the snapshot replaces it, except in a chat without events.
  const empty = event.head === 0;
  const fresh = without(without(named, "cursor"), "stalled");
  return {
    ...fresh, phase: "loading", turns: empty ? [] : chat.turns,
    ...(empty && { cursor: { epoch: event.epoch, seq: 0 } }),
  };
}

export function applySnapshot(chat: Chat, event: Control<"snapshot">): Chat {
  let next: Chat = chat;
  if (event.part === 0) {
    const { id, title, model, agent, stopping } = chat;
    next = { id, phase: "loading", turns: [], ...(title !== undefined && { title }), ...(model !== undefined && { model }), ...(agent && { agent }), ...(stopping !== undefined && { stopping }) };
    const first = event.events[0];
    if (first) next = { ...next, oldest: { epoch: first.epoch, seq: first.first_seq ?? first.seq } };
  }
  let { turns } = next;
  for (const each of event.events) {
    turns = applyToTurns(turns, each);
    if (each.event === "goal_state") next = withGoal(next, each.goal_state);
  }
  const { state } = event;
  if (state) {
    // Also in `events` where they are recent, so these only fill in; a request keeps its place.
    for (const each of [...state.queue, ...state.requests]) turns = applyToTurns(turns, each);
    if (state.turn) {
      const { turn_id, started_at_ms } = state.turn;
      const { epoch, seq, chat_id } = event;
      turns = applyToTurns(turns, { event: "turn_started", chat_id, epoch, seq, turn_id, started_at_ms });
    }
    next = withGoal(next, state.goal_state);
    next = withAgent(next, state.agent);
  }
  return {
    ...next, turns,
    ...(event.before !== undefined && { before: event.before }),
    ...(!event.more && { cursor: { epoch: event.epoch, seq: event.seq } }),
  };
}

export function applyReplayEnd(chat: Chat, event: Control<"replay_end">): Chat {
  const stops = chat.turns.some((turn) => turn.id === chat.stopping && turn.phase === "running");
  return { ...(stops ? chat : without(chat, "stopping")), phase: "live", cursor: chat.cursor ?? { epoch: event.epoch, seq: event.seq } };
}

export function applyHistory(chat: Chat, event: Control<"history">): Chat {
  const { oldest } = chat;
  const older = event.events.filter((each) => !oldest || each.epoch !== oldest.epoch || each.seq < oldest.seq);
  const first = older[0];
  const page = older.reduce<readonly Turn[]>(applyToTurns, []);
  const next = { ...without(chat, "before"), turns: joinTurns(page, chat.turns) };
  return {
    ...next,
    ...(event.before !== undefined && { before: event.before }),
    ...(first && { oldest: { epoch: first.epoch, seq: first.first_seq ?? first.seq } }),
  };
}

/** What the other control events of a chat change. */
export function applyControl(chat: Chat, event: ControlEvent): Chat {
  switch (event.event) {
    case "attached": return applyAttached(chat, event);
    case "snapshot": return applySnapshot(chat, event);
    case "agent_state": return withAgent(chat, event);
    case "replay_end": return applyReplayEnd(chat, event);
    case "history": return applyHistory(chat, event);
    case "goal_state": return withGoal(chat, event.goal_state);
    case "goal_status": return event.status === "idle" ? without(chat, "stalled") : chat;
    case "turn_stalled": return { ...chat, stalled: { turnId: event.turn_id, idleMs: event.idle_ms } };
    case "session_updated": return event.title === undefined ? chat : { ...chat, title: event.title };
    case "runtime_model_updated": return { ...chat, model: event.model_name };
    default: return chat;
  }
}

/** The turn that runs. */
export function runningTurn(chat: Chat): Turn | undefined {
  return chat.turns.findLast((turn) => turn.phase === "running");
}

/** After the stop of a turn was asked for; of one that waits, which ends at once, nothing is noted. */
export function stopAsked(chat: Chat, turnId: TurnId | undefined): Chat {
  const running = runningTurn(chat)?.id;
  return running !== undefined && (turnId ?? running) === running ? { ...chat, stopping: running } : chat;
}

/** The turn goes on, so what it asks is asked again. */
export function stopRefused(chat: Chat): Chat {
  return without(chat, "stopping");
}

/** Permission requests and questions that wait for an answer, first come first. A turn that is being stopped waits for none. */
export function openRequests(chat: Chat): RequestItem[] {
  // Those of a turn that has ended have a resolution; what is asked outside of turns has to be answered, too.
  return chat.turns.flatMap((turn) => turn.id === chat.stopping ? [] : turn.items.filter((item): item is RequestItem => item.kind === "request" && item.at !== undefined && !item.resolution));
}

function withAgent(chat: Chat, part: unknown): Chat {
  const agent = agentIn(part);
  return agent ? { ...chat, agent } : chat;
}

function withGoal(chat: Chat, goal: GoalState | undefined): Chat {
  return goal?.active ? { ...chat, goal } : without(chat, "goal");
}

function without<K extends "cursor" | "stalled" | "stopping" | "goal" | "before">(chat: Chat, key: K): Chat {
  if (!(key in chat)) return chat;
  const { [key]: _, ...rest } = chat;
  return rest as Chat;
}
