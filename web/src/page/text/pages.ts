/**
 * Cuts an input into pages that a browser can draw at once. An input may have megabytes, and each of its characters may need
 * an element of its own. Drawn as a whole, such an input would freeze the page, so that the request could not even be denied.
 */
import { fromTexts, collapseBlankLines, type DiffLine } from "./diff.ts";
import { countMarkedParts, parts, type MarkCount, type Part } from "./reveal.ts";
import { pretty, splitInput } from "./tools.ts";

/** The most that a page may cost to draw: a character costs 1, an element `ELEMENT_COST`. */
export const PAGE_COST = 32_768;
export const ELEMENT_COST = 32;
/** The most characters of the input on a page, which may cost less than their number where blank runs are counted. */
export const PAGE_CHARACTERS = 262_144;
/** A text is analysed in pieces of this size. One piece costs at most three pages. */
const MAX_PIECE_CHARACTERS = 2_048;
/** A longer text is not parsed as JSON, but shown as text. */
export const JSON_CHARACTERS = 1_048_576;
/** A longer change is shown as two texts instead of a diff. */
const DIFF_CHARACTERS = 65_536;
const DIFF_LINES = 1_500;
const DIFF_MARKS = 1_024;
/** A longer path is shown as a text of its own instead of a heading. */
const HEADING_CHARACTERS = 400;

/** A part of an input that is shown as one unit. */
export type Block =
  | { readonly kind: "heading"; readonly text: string }
  | { readonly kind: "text"; readonly label: string; readonly text: string }
  | { readonly kind: "change"; readonly lines: readonly DiffLine[]; readonly characters: number };

/** A block, or the part of a text block, that is on a page. */
export type PagePiece =
  | Extract<Block, { kind: "heading" | "change" }>
  | { readonly kind: "text"; readonly block: Extract<Block, { kind: "text" }>; readonly parts: readonly Part[] };

export interface Page {
  readonly pieces: readonly PagePiece[];
  /** The offsets in the whole input, in characters, at which this page begins and ends. */
  readonly from: number;
  readonly to: number;
  readonly marks: MarkCount;
}

/** The blocks for all fields of an input, including empty ones. */
export function blocksOf(input: unknown): Block[] {
  const content = splitInput(input);
  switch (content.kind) {
    case "command": return [text("command", content.command), ...rest(content.rest)];
    case "change": return [path(content.path), ...content.changes.flatMap(({ before, after }) => change(before, after)), ...rest(content.rest)];
    case "other": return [text(typeof input === "string" ? "text" : "json", content.text)];
  }
}

/** The blocks for an input that is shown as the agent wrote it. */
export function blocksOfText(whole: string): Block[] {
  return [text("the input as the agent wrote it", whole)];
}

export function text(label: string, content: string): Block {
  return { kind: "text", label, text: content };
}

function path(content: string): Block {
  return content.length > HEADING_CHARACTERS ? text("file", content) : { kind: "heading", text: content };
}

function rest(value: unknown): Block[] {
  return value === undefined ? [] : [text("and with it", pretty(value))];
}

function change(before: string, after: string): Block[] {
  const characters = before.length + after.length;
  if (characters <= DIFF_CHARACTERS && lineCount(before) + lineCount(after) <= DIFF_LINES) {
    const lines = collapseBlankLines(fromTexts(before, after));
    const marks = lines.reduce((sum, line) => sum + parts(line.text, "code").length, 0);
    if (marks <= DIFF_LINES + DIFF_MARKS) return [{ kind: "change", lines, characters }];
  }
  return [...(before === "" ? [] : [text("text that goes", before)]), text("text that comes", after)];
}

function lineCount(content: string): number {
  let lines = 1;
  for (let at = content.indexOf("\n"); at >= 0; at = content.indexOf("\n", at + 1)) lines += 1;
  return lines;
}

/** The pages for some blocks. Each is made when it is first needed. There is always at least one. */
export class Pages {
  readonly characters: number;
  #pages: Page[] = [];
  #generator: Iterator<Page>;

  constructor(blocks: readonly Block[]) {
    this.characters = blocks.reduce((sum, block) => sum + lengthOf(block), 0);
    this.#generator = generatePages(blocks);
  }

  /** The page with this index, counted from 0. Gives the last page if there are fewer. */
  at(index: number): Page {
    while (this.#pages.length <= index) {
      const { done, value } = this.#generator.next();
      if (done) break;
      this.#pages.push(value as Page);
    }
    return this.#pages[Math.min(index, this.#pages.length - 1)]!;
  }

  isLast(page: Page): boolean {
    return this.at(this.#pages.indexOf(page) + 1) === page;
  }
}

function lengthOf(block: Block): number {
  return block.kind === "change" ? block.characters : block.text.length;
}

function* generatePages(blocks: readonly Block[]): Generator<Page> {
  let page = { pieces: [] as PagePiece[], from: 0, to: 0, marks: { hidden: 0, words: 0 } };
  let cost = 0;
  const isFull = (more: number) => page.pieces.length > 0 && (cost + more > PAGE_COST || page.to - page.from >= PAGE_CHARACTERS);
  const startPage = () => {
    page = { pieces: [], from: page.to, to: page.to, marks: { hidden: 0, words: 0 } };
    cost = 0;
  };
  for (const block of blocks) {
    if (block.kind !== "text") {
      const pieceCost = block.kind === "change" ? block.characters + 4 * ELEMENT_COST * block.lines.length : lengthOf(block);
      if (isFull(pieceCost)) {
        yield page;
        startPage();
      }
      page.pieces.push(block);
      page.to += lengthOf(block);
      const texts = block.kind === "change" ? block.lines.map((line) => line.text) : [block.text];
      for (const each of texts) add(page.marks, parts(each, "code"));
      cost += pieceCost;
      continue;
    }
    let from = 0;
    do {
      const to = endOfPiece(block.text, from);
      const piece = parts(block.text.slice(from, to), "code");
      const pieceCost = piece.reduce((sum, part) => sum + part.text.length + (part.kind === "text" ? 0 : ELEMENT_COST), ELEMENT_COST);
      if (isFull(pieceCost)) {
        yield page;
        startPage();
      }
      const last = page.pieces.at(-1);
      if (last?.kind === "text" && last.block === block) page.pieces[page.pieces.length - 1] = { ...last, parts: [...last.parts, ...piece] };
      else page.pieces.push({ kind: "text", block, parts: piece });
      page.to += to - from;
      add(page.marks, piece);
      cost += pieceCost;
      from = to;
    } while (from < block.text.length);
  }
  yield page;
}

const BLANK_RUN = /[ \t\n]*/y;

/**
 * Where to end a piece that begins at `from`: after a line or a word if possible. Never within a surrogate pair, nor within a
 * blank run that is short enough to be counted as one.
 */
function endOfPiece(content: string, from: number): number {
  let to = from + MAX_PIECE_CHARACTERS;
  if (to >= content.length) return content.length;
  const line = content.lastIndexOf("\n", to - 1);
  const space = line > from + MAX_PIECE_CHARACTERS / 2 ? line : content.lastIndexOf(" ", to - 1);
  if (space > from + MAX_PIECE_CHARACTERS / 2) to = space + 1;
  else if (/[\udc00-\udfff]/.test(content[to]!)) to -= 1;
  BLANK_RUN.lastIndex = to;
  return Math.min(to + (BLANK_RUN.exec(content)?.[0].length ?? 0), from + PAGE_CHARACTERS);
}

function add(sum: { hidden: number; words: number }, content: readonly Part[]): void {
  const { hidden, words } = countMarkedParts(content);
  sum.hidden += hidden;
  sum.words += words;
}
