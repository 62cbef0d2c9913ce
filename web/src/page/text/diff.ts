/** Computes the lines of a change, from a unified diff or from the texts before and after. */
import { BLANK_LINES } from "./reveal.ts";

export interface DiffLine {
  readonly kind: "same" | "added" | "deleted" | "hunk";
  readonly text: string;
  /** The line stands for this many blank lines. */
  readonly blank?: number;
}

export function fromUnified(diff: string): DiffLine[] {
  return diff.replace(/\n$/, "").split("\n").flatMap((line): DiffLine[] => {
    if (/^(---|\+\+\+) |^(diff|index) |^\\/.test(line)) return [];
    if (line.startsWith("@@")) return [{ kind: "hunk", text: line }];
    if (line.startsWith("+")) return [{ kind: "added", text: line.slice(1) }];
    if (line.startsWith("-")) return [{ kind: "deleted", text: line.slice(1) }];
    return [{ kind: "same", text: line.slice(1) }];
  });
}

/**
 * An exact diff needs a table of all pairs of lines. With more pairs than this, all old lines are deleted and all new ones
 * added.
 */
const MAX_TABLE_CELLS = 250_000;

export function fromTexts(before: string, after: string): DiffLine[] {
  const a = before === "" ? [] : before.split("\n");
  const b = after === "" ? [] : after.split("\n");
  if (a.length * b.length > MAX_TABLE_CELLS) return [...lines("deleted", a), ...lines("added", b)];
  // common[i][j] is the length of the longest common subsequence of a.slice(i) and b.slice(j).
  const common = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      common[i]![j] = a[i] === b[j] ? common[i + 1]![j + 1]! + 1 : Math.max(common[i + 1]![j]!, common[i]![j + 1]!);
    }
  }
  const result: DiffLine[] = [];
  let [i, j] = [0, 0];
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      result.push({ kind: "same", text: a[i]! });
      i += 1;
      j += 1;
    } else if (common[i + 1]![j]! >= common[i]![j + 1]!) {
      result.push({ kind: "deleted", text: a[i]! });
      i += 1;
    } else {
      result.push({ kind: "added", text: b[j]! });
      j += 1;
    }
  }
  return [...result, ...lines("deleted", a.slice(i)), ...lines("added", b.slice(j))];
}

/** Replaces runs of blank lines of the same kind with one line that counts them. */
export function collapseBlankLines(all: readonly DiffLine[]): DiffLine[] {
  const result: DiffLine[] = [];
  for (let from = 0; from < all.length;) {
    const { kind } = all[from]!;
    let to = from;
    while (to < all.length && all[to]!.kind === kind && /^[ \t]*$/.test(all[to]!.text)) to += 1;
    if (to - from >= BLANK_LINES) result.push({ kind, text: "", blank: to - from });
    else result.push(...all.slice(from, Math.max(to, from + 1)));
    from = Math.max(to, from + 1);
  }
  return result;
}

function lines(kind: DiffLine["kind"], texts: string[]): DiffLine[] {
  return texts.map((text) => ({ kind, text }));
}
