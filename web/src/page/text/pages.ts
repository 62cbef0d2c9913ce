/**
 * What is asked for, cut into pages that a browser draws at once. A text may have megabytes, and each of its characters
 * may need a mark of its own: drawn as one it would stall the page, so that nobody could even refuse it.
 */
import { fromTexts, compressed, type DiffLine } from "./diff.ts";
import { count, parts, type Odd, type Part } from "./reveal.ts";
import { pretty, shown } from "./tools.ts";

/** What a page may cost: a character one, an element as much as so many characters. */
export const PAGE_COST = 32_768;
export const ELEMENT_COST = 32;
/** Of the text itself, much of which may be counted instead of shown. */
export const PAGE_CHARACTERS = 262_144;
/** A text is taken apart piece by piece. One piece costs at most three pages. */
const PIECE_CHARACTERS = 2_048;
/** A longer text is not read as JSON, but shown as it stands. */
export const JSON_CHARACTERS = 1_048_576;
/** A longer change is shown as the text before and the text after. */
const DIFF_CHARACTERS = 65_536;
const DIFF_LINES = 1_500;
const DIFF_MARKS = 1_024;
/** A longer path has room of its own. */
const HEADING_CHARACTERS = 400;

/** A field of what is asked for, or several. */
export type Block =
  | { readonly kind: "heading"; readonly text: string }
  | { readonly kind: "text"; readonly label: string; readonly text: string }
  | { readonly kind: "change"; readonly lines: readonly DiffLine[]; readonly characters: number };

/** What of a block is on a page. */
export type OnPage =
  | Extract<Block, { kind: "heading" | "change" }>
  | { readonly kind: "text"; readonly block: Extract<Block, { kind: "text" }>; readonly parts: readonly Part[] };

export interface Page {
  readonly pieces: readonly OnPage[];
  /** Characters of the input up to the beginning and the end of this page. */
  readonly from: number;
  readonly to: number;
  readonly odd: Odd;
}

/** Every field of an input, empty ones too. */
export function blocksOf(input: unknown): Block[] {
  const all = shown(input);
  switch (all.kind) {
    case "command": return [text("command", all.command), ...rest(all.rest)];
    case "change": return [path(all.path), ...all.changes.flatMap(({ before, after }) => change(before, after)), ...rest(all.rest)];
    case "other": return [text(typeof input === "string" ? "text" : "json", all.text)];
  }
}

/** The input's text as it stands. */
export function blocksOfText(whole: string): Block[] {
  return [text("the input as the agent wrote it", whole)];
}

export function text(label: string, all: string): Block {
  return { kind: "text", label, text: all };
}

function path(all: string): Block {
  return all.length > HEADING_CHARACTERS ? text("file", all) : { kind: "heading", text: all };
}

function rest(value: unknown): Block[] {
  return value === undefined ? [] : [text("and with it", pretty(value))];
}

function change(before: string, after: string): Block[] {
  const characters = before.length + after.length;
  if (characters <= DIFF_CHARACTERS && lineCount(before) + lineCount(after) <= DIFF_LINES) {
    const lines = compressed(fromTexts(before, after));
    const marks = lines.reduce((sum, line) => sum + parts(line.text, "code").length, 0);
    if (marks <= DIFF_LINES + DIFF_MARKS) return [{ kind: "change", lines, characters }];
  }
  return [...(before === "" ? [] : [text("text that goes", before)]), text("text that comes", after)];
}

function lineCount(all: string): number {
  let lines = 1;
  for (let at = all.indexOf("\n"); at >= 0; at = all.indexOf("\n", at + 1)) lines += 1;
  return lines;
}

/** The pages of some blocks, each made when it is wanted. There is at least one. */
export class Pages {
  readonly characters: number;
  #made: Page[] = [];
  #more: Iterator<Page>;

  constructor(blocks: readonly Block[]) {
    this.characters = blocks.reduce((sum, block) => sum + lengthOf(block), 0);
    this.#more = paged(blocks);
  }

  /** Page `index`, from 0; the last one where there are not so many. */
  at(index: number): Page {
    while (this.#made.length <= index) {
      const { done, value } = this.#more.next();
      if (done) break;
      this.#made.push(value as Page);
    }
    return this.#made[Math.min(index, this.#made.length - 1)]!;
  }

  isLast(page: Page): boolean {
    return this.at(this.#made.indexOf(page) + 1) === page;
  }
}

function lengthOf(block: Block): number {
  return block.kind === "change" ? block.characters : block.text.length;
}

function* paged(blocks: readonly Block[]): Generator<Page> {
  let page = { pieces: [] as OnPage[], from: 0, to: 0, odd: { hidden: 0, words: 0 } };
  let cost = 0;
  const isFull = (more: number) => page.pieces.length > 0 && (cost + more > PAGE_COST || page.to - page.from >= PAGE_CHARACTERS);
  const next = () => {
    page = { pieces: [], from: page.to, to: page.to, odd: { hidden: 0, words: 0 } };
    cost = 0;
  };
  for (const block of blocks) {
    if (block.kind !== "text") {
      const price = block.kind === "change" ? block.characters + 4 * ELEMENT_COST * block.lines.length : lengthOf(block);
      if (isFull(price)) {
        yield page;
        next();
      }
      page.pieces.push(block);
      page.to += lengthOf(block);
      const texts = block.kind === "change" ? block.lines.map((line) => line.text) : [block.text];
      for (const each of texts) add(page.odd, parts(each, "code"));
      cost += price;
      continue;
    }
    let from = 0;
    do {
      const to = endOfPiece(block.text, from);
      const piece = parts(block.text.slice(from, to), "code");
      const price = piece.reduce((sum, part) => sum + part.text.length + (part.kind === "text" ? 0 : ELEMENT_COST), ELEMENT_COST);
      if (isFull(price)) {
        yield page;
        next();
      }
      const last = page.pieces.at(-1);
      if (last?.kind === "text" && last.block === block) page.pieces[page.pieces.length - 1] = { ...last, parts: [...last.parts, ...piece] };
      else page.pieces.push({ kind: "text", block, parts: piece });
      page.to += to - from;
      add(page.odd, piece);
      cost += price;
      from = to;
    } while (from < block.text.length);
  }
  yield page;
}

const BLANK = /[ \t\n]*/y;

/** Behind a line or a word where one ends there; never within a character, nor within a blank run that can be counted. */
function endOfPiece(all: string, from: number): number {
  let to = from + PIECE_CHARACTERS;
  if (to >= all.length) return all.length;
  const line = all.lastIndexOf("\n", to - 1);
  const space = line > from + PIECE_CHARACTERS / 2 ? line : all.lastIndexOf(" ", to - 1);
  if (space > from + PIECE_CHARACTERS / 2) to = space + 1;
  else if (/[\udc00-\udfff]/.test(all[to]!)) to -= 1;
  BLANK.lastIndex = to;
  return Math.min(to + (BLANK.exec(all)?.[0].length ?? 0), from + PAGE_CHARACTERS);
}

function add(sum: { hidden: number; words: number }, all: readonly Part[]): void {
  const { hidden, words } = count(all);
  sum.hidden += hidden;
  sum.words += words;
}
