/** The state of one chat in a client, and the pure functions that apply the gateway's events to it. */
import { agentIn } from "./agent.ts";
import type { RequestItem, ToolItem } from "./items.ts";
import { applyToTurns, joinTurns, type Turn } from "./turns.ts";
import type { AgentState, ChatEvent, ChatId, ControlEvent, Cursor, GoalState, ServerEvent, Task, TurnId } from "./wire.ts";

export type Control<K extends ControlEvent["event"]> = Extract<ControlEvent, { event: K }>;

export interface Chat {
  readonly id: ChatId;
  readonly title?: string;
  /**
   * `new`: made here, and no message sent yet. `loading`: the gateway has yet to send the replay or snapshot to its end.
   * `live`: up to date. `unknown`: the gateway has no such chat. `damaged`: the gateway cannot read the chat's log or append to it.
   */
  readonly phase: "new" | "loading" | "live" | "unknown" | "damaged";
  /** This client was told that the chat was deleted. */
  readonly deleted?: true;
  /** The last event that was applied; absent while a snapshot is incomplete. */
  readonly cursor?: Cursor;
  readonly turns: readonly Turn[];
  /** The token that requests the page of history before `turns`; absent where `turns` begin with the chat. */
  readonly before?: string;
  /** The oldest event that was applied. A history page that arrives after a snapshot may overlap it; this tells by how much. */
  readonly oldest?: Cursor;
  readonly goal?: GoalState;
  /** The model that the agent used last. */
  readonly model?: string;
  /** The agent of this chat; absent until the gateway sends it, after `attached` or in a snapshot. */
  readonly agent?: AgentState;
  /** The background tasks that run, oldest first. */
  readonly tasks: readonly Task[];
  /** The running turns that this client asked the gateway to stop, until they end. */
  readonly stopping: readonly TurnId[];
  /** The running turn whose agent has sent nothing for `idleMs`, according to the gateway. */
  readonly stalled?: { readonly turnId: TurnId; readonly idleMs: number };
}

export function emptyChat(id: ChatId, phase: Chat["phase"] = "loading"): Chat {
  return { id, phase, turns: [], tasks: [], stopping: [] };
}

/** Whether an event is part of a chat's log. Control events are not, even where they name a position in it. */
export function isChatEvent(event: ServerEvent): event is ChatEvent {
  return "seq" in event && "epoch" in event && !CONTROL_WITH_SEQ.has(event.event);
}
const CONTROL_WITH_SEQ: ReadonlySet<string> = new Set(["snapshot", "replay_end", "message_accepted"]);

/** The events that one chat event covers: a joined event stands for those from `first_seq` to `seq`. */
export interface SequenceRange {
  readonly epoch: string;
  readonly seq: number;
  readonly first_seq?: number;
}

/** Compares a chat event with the chat's cursor. After a `gap` events are missing, and the client has to attach again. */
export function sequencePosition(chat: Chat, event: SequenceRange): "next" | "duplicate" | "gap" {
  const { cursor } = chat;
  if (!cursor || cursor.epoch !== event.epoch) return "gap";
  if (event.seq <= cursor.seq) return "duplicate";
  return (event.first_seq ?? event.seq) === cursor.seq + 1 ? "next" : "gap";
}

/** Applies a chat event whose `sequencePosition` is `next`. */
export function applyEvent(chat: Chat, event: ChatEvent): Chat {
  const next: Chat = { ...chat, cursor: { epoch: event.epoch, seq: event.seq }, turns: applyToTurns(chat.turns, event) };
  const goal = event.event === "goal_state" || event.event === "turn_end" ? event.goal_state : undefined;
  const afterGoal = withModel(goal ? withGoal(next, goal) : next, event);
  const afterStall = chat.stalled && event.turn_id === chat.stalled.turnId ? without(afterGoal, "stalled") : afterGoal;
  if (event.event === "task") return { ...afterStall, tasks: withTask(chat.tasks, event) };
  return event.event === "turn_end" && event.turn_id !== undefined ? stopSettled(afterStall, event.turn_id) : afterStall;
}

/** The `user_message` that `message_accepted` stands for. The gateway does not send the text back to the client that sent it. */
export function acceptedEvent(accepted: Control<"message_accepted">, text: string, now: number): ChatEvent {
  const { chat_id, epoch, seq, turn_id, starts_turn } = accepted;
  return { event: "user_message", chat_id, epoch, seq, turn_id, text, starts_turn, created_at_ms: now };
}

export function applyAttached(chat: Chat, event: Control<"attached">): Chat {
  const titled = event.title === undefined ? chat : { ...chat, title: event.title };
  if (event.recovered && chat.cursor) return { ...titled, phase: "loading" };
  // Old turns stay on screen until part 0 of the snapshot replaces them. A chat without events gets no snapshot.
  const empty = event.head === 0;
  const outdated = without(without(titled, "cursor"), "stalled");
  return {
    ...outdated, phase: "loading", turns: empty ? [] : chat.turns, tasks: empty ? [] : chat.tasks,
    ...(empty && { cursor: { epoch: event.epoch, seq: 0 } }),
  };
}

export function applySnapshot(chat: Chat, event: Control<"snapshot">): Chat {
  let next: Chat = chat;
  if (event.part === 0) {
    const { id, title, model, agent, stopping } = chat;
    next = { ...emptyChat(id), stopping, ...(title !== undefined && { title }), ...(model !== undefined && { model }), ...(agent && { agent }) };
    const first = event.events[0];
    if (first) next = { ...next, oldest: { epoch: first.epoch, seq: first.first_seq ?? first.seq } };
  }
  let { turns } = next;
  for (const each of event.events) {
    turns = applyToTurns(turns, each);
    if (each.event === "goal_state") next = withGoal(next, each.goal_state);
    next = withModel(next, each);
  }
  const { state } = event;
  if (state) {
    // Recent ones are also in `events` and are applied twice, which changes nothing: a request keeps its position.
    for (const each of [...state.queue, ...state.requests]) turns = applyToTurns(turns, each);
    const { epoch, seq, chat_id } = event;
    if (state.turn) turns = applyToTurns(turns, { event: "turn_started", chat_id, epoch, seq, ...state.turn });
    if (state.agent_turn) turns = applyToTurns(turns, { event: "turn_started", origin: "agent", chat_id, epoch, seq, ...state.agent_turn });
    next = { ...next, tasks: state.tasks ?? [] };
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
  const stopping = chat.stopping.filter((id) => chat.turns.some((turn) => turn.id === id && turn.phase === "running"));
  return { ...chat, stopping, phase: "live", cursor: chat.cursor ?? { epoch: event.epoch, seq: event.seq } };
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

/** Applies a control event; those that do not concern the chat's state leave it as it is. */
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

/** The running turn that began last. A turn that the agent began by itself may run beside a message's turn. */
export function runningTurn(chat: Chat): Turn | undefined {
  return chat.turns.findLast((turn) => turn.phase === "running");
}

/** The turn that the agent has begun by itself and that runs. The message of another running turn waits meanwhile. */
export function agentTurn(chat: Chat): Turn | undefined {
  return chat.turns.findLast((turn) => turn.phase === "running" && turn.origin === "agent");
}

/** The turn that a stop concerns: the one in which the agent works, unless its stop was requested before. */
export function turnToStop(chat: Chat): Turn | undefined {
  const mayBeStopped = (turn: Turn | undefined) => turn && !chat.stopping.includes(turn.id) ? turn : undefined;
  return mayBeStopped(agentTurn(chat)) ?? mayBeStopped(runningTurn(chat)) ?? runningTurn(chat);
}

/** Whether the agent works in the background only: no turn is open that a stop could concern. */
export function worksInBackgroundOnly(chat: Chat): boolean {
  return chat.tasks.length > 0 && chat.turns.every((turn) => turn.phase === "done");
}

/** Notes that a stop was requested: of the turn `turnId`, else of all running ones. A queued turn is not noted, it ends at once. */
export function stopRequested(chat: Chat, turnId: TurnId | undefined): Chat {
  const stopped = chat.turns.filter((turn) => turn.phase === "running" && (turnId ?? turn.id) === turn.id).map((turn) => turn.id);
  return { ...chat, stopping: [...chat.stopping.filter((id) => !stopped.includes(id)), ...stopped] };
}

/** Takes the note back: the turn has ended, or the gateway refused the stop, so that its open requests can be answered again. */
export function stopSettled(chat: Chat, turnId: TurnId): Chat {
  return chat.stopping.includes(turnId) ? { ...chat, stopping: chat.stopping.filter((id) => id !== turnId) } : chat;
}

/** The tool use of the subagent that an item belongs to; the latest one, where an agent used a call id again. */
export function subagentOf(chat: Chat, callId: string): ToolItem | undefined {
  const uses = chat.turns.flatMap((turn) => turn.items.filter((item): item is ToolItem => item.kind === "tool" && item.callId === callId));
  return uses.at(-1);
}

/**
 * Permission requests and questions without an answer, oldest first. Requests outside of turns are among them; those of a
 * turn that is being stopped are not.
 */
export function openRequests(chat: Chat): RequestItem[] {
  return chat.turns.flatMap((turn) => chat.stopping.includes(turn.id) ? [] : turn.items.filter((item): item is RequestItem => item.kind === "request" && item.at !== undefined && !item.resolution));
}

function withTask(tasks: readonly Task[], { task_id, kind, title, status, parent_call_id }: Task): readonly Task[] {
  const others = tasks.filter((task) => task.task_id !== task_id);
  if (status !== "running") return others;
  const known = tasks.findIndex((task) => task.task_id === task_id);
  const task = { task_id, kind, title, status, ...(parent_call_id !== undefined && { parent_call_id }) };
  return known < 0 ? [...tasks, task] : tasks.with(known, task);
}

function withAgent(chat: Chat, part: unknown): Chat {
  const agent = agentIn(part);
  return agent ? { ...chat, agent } : chat;
}

/** The agent is asked again for its model only with the next message, so the one of the last turn is shown until then. */
function withModel(chat: Chat, event: ChatEvent): Chat {
  return event.event === "turn_end" && event.model !== undefined ? { ...chat, model: event.model } : chat;
}

function withGoal(chat: Chat, goal: GoalState | undefined): Chat {
  return goal?.active ? { ...chat, goal } : without(chat, "goal");
}

function without<K extends "cursor" | "stalled" | "goal" | "before">(chat: Chat, key: K): Chat {
  if (!(key in chat)) return chat;
  const { [key]: _, ...rest } = chat;
  return rest as Chat;
}
