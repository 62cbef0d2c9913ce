/** Markdown that grows: only its last block is parsed again, so a long answer stays as cheap as a short one. */
import MarkdownIt, { type Env, type Token } from "markdown-it";

/** A top-level block. Equal `source` means equal looks, unless link references are in play. */
export interface Block {
  readonly source: string;
  readonly tokens: readonly Token[];
  /** Nested too deep to be laid out: `source` is shown as it is. */
  readonly plain?: true;
}

export interface Blocks {
  readonly text: string;
  readonly settled: readonly Block[];
  /** Where the part of `text` begins that may still change its structure. */
  readonly settledEnd: number;
  readonly open: readonly Block[];
  readonly env: Env;
}

// `html: false`: markup of the model's is text. Only what says its scheme becomes a link.
const markdown = new MarkdownIt({ html: false, linkify: true });
/** What is nested deeper, the parser drops, and with it what follows in the same block. */
const MOST_NESTED = 100;
markdown.set({ maxNesting: MOST_NESTED });
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
// Data URLs of images would pass the default check; images are shown as links anyway.
markdown.validateLink = (url) => /^(https?:|mailto:)/i.test(url.trim());

/** Parses `text`, going on from `before` if it only grew. `complete`: nothing will follow. */
export function parseBlocks(text: string, before: Blocks | undefined, complete: boolean): Blocks {
  const grew = before && text.length >= before.text.length
    && text.startsWith(before.text.slice(0, before.settledEnd));
  let { settled, settledEnd, env } = grew ? before : { settled: [], settledEnd: 0, env: {} as Env };
  if (complete && settledEnd > 0 && (env.references || /^ {0,3}\[[^\]]+\]:/m.test(text.slice(settledEnd)))) {
    // A definition at the end gives meaning to text before it.
    [settled, settledEnd, env] = [[], 0, {}];
  }
  const rest = text.slice(settledEnd);
  const { blocks, starts } = split(rest, env);
  const last = complete ? blocks.length : Math.max(0, blocks.length - 1);
  if (last === 0) return { text, settled, settledEnd, open: blocks, env };
  const end = last < blocks.length ? settledEnd + starts[last]! : text.length;
  return { text, settled: [...settled, ...blocks.slice(0, last)], settledEnd: end, open: blocks.slice(last), env };
}

function split(text: string, env: Env): { blocks: Block[]; starts: number[] } {
  const lines = lineStarts(text);
  const tokens = markdown.parse(text, env);
  const blocks: Block[] = [];
  const starts: number[] = [];
  let from = 0;
  tokens.forEach((token, index) => {
    if (token.level !== 0 || token.nesting === 1) return;
    const [startLine, endLine] = tokens[from]!.map ?? [0, 0];
    const start = lines[startLine] ?? text.length;
    const [source, own] = [text.slice(start, lines[endLine] ?? text.length), tokens.slice(from, index + 1)];
    blocks.push(own.some((each) => each.level >= MOST_NESTED - 1) ? { source, tokens: [], plain: true } : { source, tokens: own });
    starts.push(start);
    from = index + 1;
  });
  return { blocks, starts };
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}
