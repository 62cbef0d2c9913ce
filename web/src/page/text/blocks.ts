/** Parses Markdown that is still being streamed. Only the last block is parsed again, so the cost does not grow with the answer. */
import MarkdownIt, { type Env, type Token } from "markdown-it";

/** A top-level block. Blocks with equal `source` render the same, unless link references are involved. */
export interface Block {
  readonly source: string;
  readonly tokens: readonly Token[];
  /** The block is nested too deep to be parsed whole, so `source` is shown as plain text. */
  readonly plain?: true;
}

export interface Blocks {
  readonly text: string;
  readonly settled: readonly Block[];
  /** The offset in `text` after which more text may still change the structure. */
  readonly settledEnd: number;
  readonly open: readonly Block[];
  readonly env: Env;
}

// `html: false`: HTML in an answer is shown as text. Only addresses with a scheme become links.
const markdown = new MarkdownIt({ html: false, linkify: true });
/** The parser drops what is nested deeper than this, and the rest of the same block. */
const MAX_NESTING = 100;
markdown.set({ maxNesting: MAX_NESTING });
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
// markdown-it would allow data URLs of images by default. This page renders images as links, so they are refused as well.
markdown.validateLink = (url) => /^(https?:|mailto:)/i.test(url.trim());

/** Parses `text`. If it only appends to the text of `before`, that result is reused. `complete`: no more text will follow. */
export function parseBlocks(text: string, before: Blocks | undefined, complete: boolean): Blocks {
  const grew = before && text.length >= before.text.length
    && text.startsWith(before.text.slice(0, before.settledEnd));
  let { settled, settledEnd, env } = grew ? before : { settled: [], settledEnd: 0, env: {} as Env };
  if (complete && settledEnd > 0 && (env.references || /^ {0,3}\[[^\]]+\]:/m.test(text.slice(settledEnd)))) {
    // A link reference definition at the end can turn earlier text into links, so everything is parsed again.
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
    const [source, blockTokens] = [text.slice(start, lines[endLine] ?? text.length), tokens.slice(from, index + 1)];
    blocks.push(blockTokens.some((each) => each.level >= MAX_NESTING - 1) ? { source, tokens: [], plain: true } : { source, tokens: blockTokens });
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
