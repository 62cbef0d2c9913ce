import assert from "node:assert/strict";
import { test } from "node:test";
import { parseBlocks, type Blocks } from "../../src/page/text/blocks.ts";
import { fromTexts, fromUnified } from "../../src/page/text/diff.ts";
import { cost, count, day, duration } from "../../src/page/text/format.ts";
import { highlight, type Piece } from "../../src/page/text/highlight.ts";
import { splitInput, summary } from "../../src/page/text/tools.ts";

const MARKDOWN = `# Title

A paragraph with *emphasis*,
over two lines.

- one
- two

  still two

1. first
   - nested

| a | b |
|---|--:|
| 1 | 2 |

\`\`\`rust
fn main() {

}
\`\`\`

> quoted [link][ref]

Setext
------

[ref]: https://example.com
Last.
`;

const all = (blocks: Blocks) => [...blocks.settled, ...blocks.open];
const rendered = (blocks: Blocks) => all(blocks).map((block) => [block.source, JSON.stringify(block.tokens.map((token) => [token.type, token.content, token.children]))]);

test("streamed text gives the same blocks as the whole text, however it is split", () => {
  const whole = rendered(parseBlocks(MARKDOWN, undefined, true));
  for (const size of [1, 2, 7, 31]) {
    let blocks: Blocks | undefined;
    for (let end = size; end < MARKDOWN.length; end += size) blocks = parseBlocks(MARKDOWN.slice(0, end), blocks, false);
    assert.deepEqual(rendered(parseBlocks(MARKDOWN, blocks, true)), whole, `pieces of ${size}`);
  }
});

test("blocks that are nested too deep are shown as plain text, and no text is lost", () => {
  const quotes = `${"> ".repeat(101)}deep`;
  const list = Array.from({ length: 60 }, (_, level) => `${"  ".repeat(level)}- item ${level}`).join("\n");
  for (const deep of [quotes, `${"> ".repeat(4000)}deep`, `${list}\n\nIn it.`, `${"- ".repeat(3000)}x`]) {
    const text = `Before.\n\n${deep}\n\nAfter.`;
    const blocks = all(parseBlocks(text, undefined, true));
    assert.ok(blocks.some((block) => block.plain), deep.slice(0, 20));
    const splitInput = blocks.map((block) => (block.plain ? block.source : block.tokens.map((token) => token.content).join("")).trim());
    assert.equal(splitInput.join("\n\n"), text);
  }
  const shallow = Array.from({ length: 40 }, (_, level) => `${"  ".repeat(level)}- item ${level}`).join("\n");
  assert.ok(all(parseBlocks(shallow, undefined, true)).every((block) => !block.plain));
});

test("settled blocks keep their identity while text is appended", () => {
  const before = parseBlocks("one\n\ntwo\n\nthr", undefined, false);
  const after = parseBlocks("one\n\ntwo\n\nthree", before, false);
  assert.equal(before.settled.length, 2);
  assert.ok(before.settled.every((block, index) => block === after.settled[index]));
});

test("text that was replaced is parsed again from the start", () => {
  const before = parseBlocks("one\n\ntwo\n\nthree", undefined, false);
  assert.deepEqual(rendered(parseBlocks("other\n\ntext", before, true)), rendered(parseBlocks("other\n\ntext", undefined, true)));
});

test("HTML is shown as text, and only http, https and mailto addresses become links", () => {
  const tokens = all(parseBlocks("<img src=x onerror=alert(1)>\n\n[x](javascript:alert(1)) [y](data:text/html,z) [z](https://a.b)", undefined, true))
    .flatMap((block) => block.tokens.flatMap((token) => token.children ?? []));
  assert.deepEqual(tokens.filter((token) => token.type === "link_open").map((token) => token.attrGet("href")), ["https://a.b"]);
  assert.ok(tokens.every((token) => !token.type.startsWith("html")));
});

test("highlighting keeps every character", () => {
  const text = (piece: Piece): string => (typeof piece === "string" ? piece : piece.children.map(text).join(""));
  const code = "fn main() { let s = \"a<b>&c\"; } // done";
  const pieces = highlight(code, "rust");
  assert.equal(pieces.map(text).join(""), code);
  assert.ok(pieces.some((piece) => typeof piece !== "string"));
  assert.deepEqual(highlight("x", "no-such-language"), ["x"]);
});

test("a diff is computed from two texts, and read from unified form", () => {
  const kinds = (lines: { kind: string; text: string }[]) => lines.map((line) => `${line.kind[0]} ${line.text}`);
  assert.deepEqual(kinds(fromTexts("a\nb\nc", "a\nx\nc\nd")), ["s a", "d b", "a x", "s c", "a d"]);
  assert.deepEqual(kinds(fromTexts("", "new")), ["a new"]);
  assert.deepEqual(kinds(fromUnified("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-old\n+new\n same\n")), ["h @@ -1 +1 @@", "d old", "a new", "s same"]);
});

test("all fields of a permission's input are shown", () => {
  assert.deepEqual(splitInput({ command: "rm x", timeout: 5 }), { kind: "command", command: "rm x", rest: { timeout: 5 } });
  assert.deepEqual(splitInput({ file_path: "f", old_string: "a", new_string: "b", replace_all: true }), { kind: "change", path: "f", changes: [{ before: "a", after: "b" }], rest: { replace_all: true } });
  assert.equal(splitInput({ file_path: "f", edits: [{ old_string: "a", new_string: "b", extra: 1 }] }).kind, "other");
  assert.equal(splitInput({ any: 1 }).kind, "other");
  assert.deepEqual(splitInput({ command: "ls", description: "also a field" }), { kind: "command", command: "ls", rest: { description: "also a field" } });
  assert.equal(summary({ x: 1, command: "ls\npwd" }), "ls…");
});

test("durations, token counts, prices and days are formatted for people", () => {
  assert.deepEqual([840, 12_400, 59_960, 200_000, 3_720_000].map(duration), ["840 ms", "12.4 s", "1 min 0 s", "3 min 20 s", "1 h 2 min"]);
  assert.deepEqual([318, 1240, 10_400].map(count), ["318", "1.2k", "10k"]);
  assert.deepEqual([0, 0.00001, 0.0012, 0.0123, 1.5].map(cost), ["$0.00", "under $0.0001", "$0.0012", "$0.012", "$1.50"]);
  const now = new Date(2026, 10, 20, 12).getTime();
  assert.deepEqual([1, 20, 80].map((hours) => day(now - hours * 3_600_000, now)), ["Today", "Yesterday", "This week"]);
});
