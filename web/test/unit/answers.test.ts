import assert from "node:assert/strict";
import { test } from "node:test";
import type { QuestionItem } from "../../src/client/index.ts";
import { answersTo, optionsOf, placeholder, rangeOf, takesText, textError, countError } from "../../src/page/text/answers.ts";

const own = (text: string, ...chosen: string[]) => ({ chosen, own: text });

test("every question but the optional ones needs an answer", () => {
  const items: QuestionItem[] = [{ question: "a" }, { question: "b", optional: true }, { question: "__proto__", optional: true }];
  assert.equal(answersTo(items, {}), undefined);
  assert.equal(answersTo(items, { 0: own("  "), 1: own("x") }), undefined);
  assert.deepEqual(answersTo(items, { 0: own(" x ") }), { a: ["x"] });
  assert.deepEqual(Object.entries(answersTo(items, { 0: own("x"), 2: own("y") })!), [["a", ["x"]], ["__proto__", ["y"]]]);
  assert.deepEqual(answersTo([{ question: "a", optional: true }], {}), {});
  assert.deepEqual(answersTo([{ question: "a", multi_select: true }], { 0: own("c", "b") }), { a: ["b", "c"] });
});

test("a boolean question has two options, and closed questions take no text", () => {
  const either: QuestionItem = { question: "a", format: "boolean" };
  assert.deepEqual(optionsOf(either).map(({ label }) => label), ["true", "false"]);
  assert.deepEqual(optionsOf({ ...either, options: [{ label: "true" }] }).length, 1, "the options of the gateway replace the default ones");
  assert.ok(!takesText(either) && !takesText({ question: "a", format: "option" }) && takesText({ question: "a" }) && takesText({ question: "a", format: "integer" }));
  assert.equal(answersTo([either], { 0: own("true") }), undefined);
  assert.deepEqual(answersTo([either], { 0: own("", "false") }), { a: ["false"] });
});

test("questions for numbers take only numbers", () => {
  const cases = {
    integer: [["0", "-3", "9223372036854775807", "-9223372036854775808"], ["x", "1.5", "1e3", "0x10", "3 4", "9223372036854775808", "--1", "٣"]],
    number: [["0", "2.5", "-1e3", "1E-7"], ["x", "Infinity", "NaN", "1,5", "1e999", "0x1", ""]],
  } as const;
  for (const [format, [right, bad]] of Object.entries(cases)) {
    const item: QuestionItem = { question: "a", format: format as "integer" };
    for (const text of right) {
      assert.equal(textError(item, text), undefined, text);
      assert.deepEqual(answersTo([item], { 0: own(text) }), { a: [text] });
    }
    for (const text of bad) assert.equal(answersTo([{ ...item, optional: text !== "" }], { 0: own(text) }), undefined, text);
    assert.match(placeholder(item), /number/);
  }
});

test("the bounds of values, lengths and numbers of choices are checked", () => {
  const cases: [Partial<QuestionItem>, string[], string[], string][] = [
    [{ format: "integer", min: 1, max: 9 }, ["1", "9"], ["0", "10", "-3"], "from 1 to 9"],
    [{ format: "number", min: 0.5 }, ["0.5", "1e3"], ["0.4"], "at least 0.5"],
    [{ max: 3 }, ["äöü", "𝒳𝒳𝒳"], ["four"], "at most 3 characters"],
    [{ min: 2, max: 2 }, ["ab"], ["a", "abc"], "exactly 2 characters"],
  ];
  for (const [rest, right, bad, range] of cases) {
    const item: QuestionItem = { question: "a", ...rest };
    assert.equal(rangeOf(item), range);
    for (const text of right) assert.deepEqual(answersTo([item], { 0: own(text) }), { a: [text] });
    for (const text of bad) {
      assert.equal(textError(item, text), `The answer has to be ${range}.`);
      assert.equal(answersTo([item], { 0: own(text) }), undefined, text);
    }
  }
  const some: QuestionItem = { question: "a", multi_select: true, min: 2, max: 2, options: [{ label: "b" }, { label: "c" }] };
  for (const drafts of [own("", "b"), own("b", "b"), own("d", "b", "c")]) {
    assert.equal(countError(some, drafts), "Choose exactly 2 of them.");
    assert.equal(answersTo([some], { 0: drafts }), undefined);
  }
  assert.equal(countError(some, own("")), undefined, "nothing is chosen yet");
  assert.deepEqual(answersTo([some], { 0: own("long", "b") }), { a: ["b", "long"] });
});
