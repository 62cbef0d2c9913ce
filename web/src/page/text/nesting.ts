/** Arranges the items of a turn: a permission request at its tool use, and what a subagent does below the use that began it. */
import type { Item, RequestItem } from "../../client/index.ts";

/** What a subagent of a deeper level does is shown at this level. */
const MAX_DEPTH = 6;

export interface Node {
  readonly item: Item;
  /** The permission request for the tool use. */
  readonly permission?: RequestItem;
  readonly children: readonly Node[];
  /** A request of a subagent below waits for an answer, so that the node has to be open. */
  readonly asks: boolean;
}

interface Draft {
  readonly item: Item;
  permission?: RequestItem;
  readonly children: Draft[];
  readonly depth: number;
}

/**
 * The items as trees. An item whose parent is not an earlier tool use of the turn is at the top. Nodes of `before` that did
 * not change keep their identity.
 */
export function nest(items: readonly Item[], before: readonly Node[] = []): readonly Node[] {
  const top: Draft[] = [];
  // Call ids are an agent's and may be any text. A later use with the same id replaces the earlier one.
  const uses = new Map<string, { draft: Draft; siblings: Draft[] }>();
  const calls = new Set(items.flatMap((item) => (item.kind === "tool" ? [item.callId] : [])));
  // A request may arrive before its tool use.
  const early = new Map<string, RequestItem>();
  for (const item of items) {
    const callId = item.kind === "request" ? item.permission?.call_id : undefined;
    if (item.kind === "request" && callId !== undefined && calls.has(callId)) {
      const use = uses.get(callId);
      if (use) use.draft.permission = item;
      else early.set(callId, item);
      continue;
    }
    const parent = item.parent === undefined ? undefined : uses.get(item.parent);
    const isTooDeep = parent !== undefined && parent.draft.depth >= MAX_DEPTH;
    const siblings = parent === undefined ? top : isTooDeep ? parent.siblings : parent.draft.children;
    const depth = parent === undefined ? 0 : isTooDeep ? parent.draft.depth : parent.draft.depth + 1;
    const draft: Draft = { item, children: [], depth };
    if (item.kind === "tool") {
      const request = early.get(item.callId);
      if (request) draft.permission = request;
      uses.set(item.callId, { draft, siblings });
    }
    siblings.push(draft);
  }
  return finished(top, before);
}

function finished(drafts: readonly Draft[], before: readonly Node[]): readonly Node[] {
  const known = new Map(before.map((node) => [node.item.key, node]));
  const nodes = drafts.map((draft) => {
    const old = known.get(draft.item.key);
    const children = finished(draft.children, old?.children ?? []);
    if (old && old.item === draft.item && old.permission === draft.permission && old.children === children) return old;
    const asks = children.some((child) => child.asks || isOpen(child.item) || isOpen(child.permission));
    return { item: draft.item, ...(draft.permission && { permission: draft.permission }), children, asks };
  });
  return nodes.length === before.length && nodes.every((node, index) => node === before[index]) ? before : nodes;
}

function isOpen(item: Item | undefined): boolean {
  return item?.kind === "request" && item.resolution === undefined;
}
