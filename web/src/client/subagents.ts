/**
 * Says which turn shows an item. A subagent in the background goes on in later turns, and what it does there is shown with the
 * tool use that runs it. The turns themselves stay as the log has them.
 */
import { isLaterUse, mergeItem, type Item, type ToolItem } from "./items.ts";
import type { Turn } from "./turns.ts";
import type { Task, TaskStatus, TurnId } from "./wire.ts";

/** What is shown of a turn. */
export interface ShownItems {
  /** The turn's items without those that another turn shows, then those of its subagents in other turns. */
  readonly items: readonly Item[];
  /** The tool uses of other turns that show the rest of this turn's items. */
  readonly elsewhere: readonly ToolItem[];
}

/** How the tool uses of a turn are nested. */
interface Nesting {
  /** For each tool use of the turn, the one of another turn that it is below; undefined if there is none. */
  readonly outer: ReadonlyMap<string, string | undefined>;
  /** Whether an item is below a tool use of another turn. */
  readonly hasForeign: boolean;
  /** The background tasks that ended in the turn and whose tool use is known. */
  readonly endedTasks: readonly Task[];
}

const NONE: readonly never[] = [];
/** What was derived from turns and items, which never change. */
const nestingByTurn = new WeakMap<Turn, Nesting>();
const movedItems = new WeakMap<Item, Item>();
const mergedUses = new WeakMap<Item, { use: ToolItem; merged: ToolItem }>();
const usesWithTasks = new WeakMap<ToolItem, ToolItem>();

/** What is shown of each turn. Entries of `before` that did not change keep their identity. */
export function shownItems(turns: readonly Turn[], tasks: readonly Task[], before: ReadonlyMap<TurnId, ShownItems> = new Map()): ReadonlyMap<TurnId, ShownItems> {
  const moves = turns.some((turn) => nestingOf(turn).hasForeign) ? movesIn(turns) : new Map<Turn, Moves>();
  const tasksByTurn = tasksOfUses(turns, tasks);
  return new Map(turns.map((turn) => {
    const { stays = turn.items, arrives = NONE, elsewhere = NONE } = moves.get(turn) ?? {};
    const taskOf = tasksByTurn.get(turn);
    const all = withArrivals(stays, arrives);
    const items = taskOf ? all.map((item) => (item.kind === "tool" ? withTask(item, taskOf.get(item.callId)) : item)) : all;
    const old = before.get(turn.id);
    return [turn.id, old && isSame(old.items, items) && isSame(old.elsewhere, elsewhere) ? old : { items, elsewhere }];
  }));
}

interface Moves { stays?: Item[]; arrives: Item[]; elsewhere: ToolItem[] }

function movesIn(turns: readonly Turn[]): Map<Turn, Moves> {
  const places = new Map<string, number[]>();
  turns.forEach((turn, index) => {
    for (const callId of nestingOf(turn).outer.keys()) {
      const known = places.get(callId);
      if (known) known.push(index);
      else places.set(callId, [index]);
    }
  });
  /** The index of the turn with a tool use that the turn at `from` refers to: the latest one before it, else the next one. */
  const placeOf = (callId: string, from: number) => places.get(callId)?.findLast((index) => index < from) ?? places.get(callId)?.find((index) => index > from);
  /** The index of the turn that shows what is below a tool use of another turn. That turn may itself be shown in part elsewhere. */
  const homeOf = (callId: string, from: number): number => {
    const passed = new Set([from]);
    let home = from;
    for (let outer: string | undefined = callId; outer !== undefined; outer = nestingOf(turns[home]!).outer.get(outer)) {
      const next = placeOf(outer, home);
      if (next === undefined) return home;
      if (passed.has(next)) return from; // tool uses that are below each other
      passed.add(next);
      home = next;
    }
    return home;
  };
  const moves = new Map<Turn, Moves>();
  const movesOf = (turn: Turn) => moves.get(turn) ?? moves.set(turn, { arrives: [], elsewhere: [] }).get(turn)!;
  turns.forEach((turn, index) => {
    const nesting = nestingOf(turn);
    if (!nesting.hasForeign) return;
    const homes = new Map<string, number>();
    const own = movesOf(turn);
    own.stays = [];
    for (const item of turn.items) {
      const outer = outerOf(item, nesting.outer);
      if (outer !== undefined && !homes.has(outer)) {
        const home = homeOf(outer, index);
        homes.set(outer, home);
        const use = home === index ? undefined : useOf(turns[placeOf(outer, index)!]!, outer);
        if (use) own.elsewhere.push(use);
      }
      const home = outer === undefined ? index : homes.get(outer)!;
      if (home === index) own.stays.push(item);
      else movesOf(turns[home]!).arrives.push(asMoved(item, turn.id));
    }
  });
  return moves;
}

function nestingOf(turn: Turn): Nesting {
  const known = nestingByTurn.get(turn);
  if (known) return known;
  const outer = new Map<string, string | undefined>();
  for (const item of turn.items) if (item.kind === "tool") outer.set(item.callId, undefined);
  let hasForeign = false;
  for (const item of turn.items) {
    const foreign = outerOf(item, outer);
    if (foreign === undefined) continue;
    hasForeign = true;
    if (item.kind === "tool") outer.set(item.callId, foreign);
  }
  const endedTasks = turn.items.flatMap((item) => (item.kind === "task" && item.task.parent_call_id !== undefined ? [item.task] : []));
  const nesting = { outer, hasForeign, endedTasks };
  nestingByTurn.set(turn, nesting);
  return nesting;
}

/** The tool use of another turn that an item is below. */
function outerOf({ parent }: Item, outer: Nesting["outer"]): string | undefined {
  if (parent === undefined) return undefined;
  return outer.has(parent) ? outer.get(parent) : parent;
}

function useOf(turn: Turn, callId: string): ToolItem | undefined {
  return turn.items.findLast((item): item is ToolItem => item.kind === "tool" && item.callId === callId);
}

/** The item under a key that no item of the turn that shows it has. */
function asMoved(item: Item, turnId: TurnId): Item {
  const moved = movedItems.get(item) ?? { ...item, key: `${turnId} ${item.key}` };
  movedItems.set(item, moved);
  return moved;
}

/** Adds what a turn's subagents did in other turns. A tool use may have begun in one turn and ended in another. */
function withArrivals(stays: readonly Item[], arrives: readonly Item[]): readonly Item[] {
  if (arrives.length === 0) return stays;
  const items = [...stays];
  const name = ({ parent, callId }: ToolItem) => JSON.stringify([parent, callId]);
  const places = new Map(items.flatMap((item, index) => (item.kind === "tool" ? [[name(item), index] as const] : [])));
  for (const item of arrives) {
    const place = item.kind === "tool" ? places.get(name(item)) : undefined;
    const use = place === undefined ? undefined : items[place];
    if (place !== undefined && use?.kind === "tool" && item.kind === "tool" && !isLaterUse(use, item)) items[place] = merged(use, item);
    else {
      if (item.kind === "tool") places.set(name(item), items.length);
      items.push(item);
    }
  }
  return items;
}

function merged(use: ToolItem, rest: ToolItem): ToolItem {
  const known = mergedUses.get(rest);
  if (known?.use === use) return known.merged;
  const whole = { ...mergeItem(use, rest), key: use.key } as ToolItem;
  mergedUses.set(rest, { use, merged: whole });
  return whole;
}

/** For each turn, the states of the background tasks that its tool uses began, by call ids: of the latest uses with their ids. */
function tasksOfUses(turns: readonly Turn[], running: readonly Task[]): ReadonlyMap<Turn, ReadonlyMap<string, TaskStatus>> {
  const states = new Map<Turn, Map<string, TaskStatus>>();
  const note = ({ parent_call_id: callId, status }: Task, until: number) => {
    if (callId === undefined) return;
    const turn = turns.findLast((each, index) => index <= until && nestingOf(each).outer.has(callId));
    if (turn) states.set(turn, (states.get(turn) ?? new Map<string, TaskStatus>()).set(callId, status));
  };
  turns.forEach((turn, index) => nestingOf(turn).endedTasks.forEach((task) => note(task, index)));
  for (const task of running) note(task, turns.length - 1);
  return states;
}

function withTask(use: ToolItem, task: TaskStatus | undefined): ToolItem {
  if (task === undefined) return use;
  const known = usesWithTasks.get(use);
  if (known?.task === task) return known;
  const marked = { ...use, task };
  usesWithTasks.set(use, marked);
  return marked;
}

function isSame(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a === b || (a.length === b.length && a.every((each, index) => each === b[index]));
}
