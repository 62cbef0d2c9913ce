import assert from "node:assert/strict";
import { test } from "node:test";
import { ARMED_AFTER_MS, Arming } from "../../src/page/consent/arming.ts";
import { describeHidden, hiddenBelow, excerpt } from "../../src/page/consent/seen.ts";

function arming() {
  let now = 1000;
  const it = new Arming(() => now);
  return { it, pass: (ms: number) => { now += ms; } };
}

test("a prompt takes no answer before its time, and none again after it changed", () => {
  const { it, pass } = arming();
  pass(ARMED_AFTER_MS - 1);
  assert.deepEqual([it.armed, it.remainingMs], [false, 1]);
  pass(1);
  assert.ok(it.armed);
  it.changed();
  assert.deepEqual([it.armed, it.remainingMs], [false, ARMED_AFTER_MS]);
});

test("type-ahead puts the time off until nobody types", () => {
  const { it, pass } = arming();
  for (let key = 0; key < 50; key += 1) {
    pass(ARMED_AFTER_MS - 100);
    it.pressed(false);
    pass(50);
    it.released();
    assert.ok(!it.armed);
  }
  pass(ARMED_AFTER_MS);
  assert.ok(it.armed);
});

test("a key or finger that was down before never answers by being held or let go", () => {
  const { it, pass } = arming();
  it.pressed(false);
  pass(60_000);
  assert.deepEqual([it.armed, it.remainingMs], [false, undefined]);
  it.released();
  assert.ok(!it.armed, "the click comes with the release");
  pass(ARMED_AFTER_MS);
  assert.ok(it.armed);
  // One whose beginning was never seen.
  it.pressed(true);
  pass(60_000);
  assert.ok(!it.armed);
});

test("a press once it is armed answers", () => {
  const { it, pass } = arming();
  pass(ARMED_AFTER_MS);
  it.pressed(false);
  assert.ok(it.armed);
  it.released();
  assert.ok(it.armed);
});

test("what is hiddenBelow the edge is counted, and nothing is once the end is in sight", () => {
  const box = { clientHeight: 200, scrollHeight: 1000, lineHeight: 20 };
  assert.deepEqual(hiddenBelow({ ...box, scrollTop: 0 }, 5000), { lines: 40, characters: 4000 });
  assert.deepEqual(hiddenBelow({ ...box, scrollTop: 795 }, 5000), { lines: 1, characters: 25 });
  assert.deepEqual(hiddenBelow({ ...box, scrollTop: 799 }, 5000), { lines: 0, characters: 0 });
  assert.deepEqual(hiddenBelow({ ...box, scrollTop: 0, scrollHeight: 200 }, 5000), { lines: 0, characters: 0 });
});

test("an excerpt says exactly what it leaves out", () => {
  assert.deepEqual(excerpt("a\nb\nc\nd", 2, 100), { text: "a\nb", lines: 2, characters: 4 });
  assert.deepEqual(excerpt("x".repeat(16_384), 3, 280), { text: "x".repeat(280), lines: 0, characters: 16_104 });
  assert.deepEqual(excerpt("short", 3, 280), { text: "short", lines: 0, characters: 0 });
  assert.equal(excerpt("\u{1f600}\u{1f600}", 3, 3).text, "\u{1f600}");
  assert.equal(describeHidden({ lines: 58, characters: 3412 }), "58 more lines, 3,412 characters");
  assert.equal(describeHidden({ lines: 0, characters: 1 }), "1 more character");
});
