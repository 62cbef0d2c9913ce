import assert from "node:assert/strict";
import { test } from "node:test";
import { blocksOf, blocksOfText, ELEMENT_COST, PAGE_CHARACTERS, PAGE_COST, Pages, type Block, type Page } from "../../src/page/text/pages.ts";
import { pretty } from "../../src/page/text/tools.ts";

function all(blocks: readonly Block[]): Page[] {
  const pages = new Pages(blocks);
  const all: Page[] = [];
  do all.push(pages.at(all.length)); while (!pages.isLast(all.at(-1)!));
  return all;
}

const partsOf = (page: Page) => page.pieces.flatMap((piece) => (piece.kind === "text" ? piece.parts : []));
const source = (pages: readonly Page[]) => pages.flatMap(partsOf).map((part) => ("source" in part ? part.source : part.text)).join("");
const cost = (page: Page) => partsOf(page).reduce((sum, part) => sum + part.text.length + (part.kind === "text" ? 0 : ELEMENT_COST), 0);

test("a page of a hostile text costs at most a few times as much as one of a plain text, and no text is lost", () => {
  const units = ["x", "a\u200b", "\u200b\u200c", "\u0430b ", "\u0301", "\n", " \n", "\t", "x y\n", "\u{1f600}", "\ud800", "a\r\n", " ".repeat(40) + "x"];
  for (const unit of units) {
    const whole = unit.repeat(Math.floor(700_000 / unit.length));
    const pages = all(blocksOfText(whole));
    assert.equal(source(pages), whole, JSON.stringify(unit));
    assert.equal(pages.at(-1)!.to, whole.length);
    for (const [index, page] of pages.entries()) {
      assert.ok(cost(page) <= 4 * PAGE_COST, `${JSON.stringify(unit)}: ${cost(page)}`);
      assert.ok(page.to - page.from <= 2 * PAGE_CHARACTERS);
      assert.equal(page.from, pages[index - 1]?.to ?? 0);
    }
  }
});

test("a blank run is counted as one, also across pieces, and an ordinary text is one page", () => {
  const [page, ...more] = all(blocksOfText(`ls${" ".repeat(90_000)}\nrm -rf ~`));
  assert.deepEqual(more, []);
  assert.deepEqual(partsOf(page!).filter((part) => part.kind === "gap").map((part) => part.text), ["90,000 spaces"]);
  assert.equal(all(blocksOfText("echo a line\n".repeat(2_000))).length, 1);
});

test("every field of an input has a block, including empty ones", () => {
  const labels = (input: unknown) => blocksOf(input).map((block) => (block.kind === "text" ? `${block.label}: ${block.text}` : block.kind === "heading" ? `heading: ${block.text}` : `change of ${block.lines.length} lines`));
  assert.deepEqual(labels({ command: "" }), ["command: "]);
  assert.deepEqual(labels({ file_path: "f", content: "" }), ["heading: f", "change of 0 lines"]);
  assert.deepEqual(labels({ file_path: "", old_string: "", new_string: "", replace_all: null }), ["heading: ", "change of 0 lines", 'and with it: {\n  "replace_all": null\n}']);
  assert.deepEqual(labels({ file_path: "f", edits: [] }), ['json: {\n  "file_path": "f",\n  "edits": []\n}']);
  assert.deepEqual(labels({ command: null }), ['json: {\n  "command": null\n}']);
  for (const [input, label] of [["", "text: "], [null, "json: null"], [{}, "json: {}"], [[], "json: []"], [false, "json: false"]] as const) assert.deepEqual(labels(input), [label]);
  // A change that is too long for a diff is shown as two texts.
  const long = "x\n".repeat(40_000);
  assert.deepEqual(blocksOf({ file_path: "f", content: long }).map((block) => block.kind === "text" && block.text.length), [false, 80_000]);
  assert.deepEqual(blocksOf({ file_path: "f", old_string: long, new_string: "" }).map((block) => block.kind === "text" && block.text.length), [false, 80_000, 0]);
});

test("deep nesting does not make the indented text of a short input long", () => {
  const deep = JSON.parse(`${"[".repeat(100)}${"0,".repeat(20_000)}0${"]".repeat(100)}`) as unknown;
  assert.ok(pretty(deep).length < 100_000);
  assert.equal(pretty({ a: [1] }), '{\n  "a": [\n    1\n  ]\n}');
});
