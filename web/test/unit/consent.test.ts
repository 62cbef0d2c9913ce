import assert from "node:assert/strict";
import { test } from "node:test";
import { ARMED_AFTER_MS, Arming } from "../../src/page/consent/arming.ts";
import { describeHidden, hiddenBelow, excerpt } from "../../src/page/consent/seen.ts";

function arming() {
  let now = 1000;
  const client = new Arming(() => now);
  return { client, pass: (ms: number) => { now += ms; } };
}

test("a request takes no answer before its time, nor soon after it changed", () => {
  const { client, pass } = arming();
  pass(ARMED_AFTER_MS - 1);
  assert.deepEqual([client.armed, client.remainingMs], [false, 1]);
  pass(1);
  assert.ok(client.armed);
  client.changed();
  assert.deepEqual([client.armed, client.remainingMs], [false, ARMED_AFTER_MS]);
});

test("key presses delay the arming until they end", () => {
  const { client, pass } = arming();
  for (let key = 0; key < 50; key += 1) {
    pass(ARMED_AFTER_MS - 100);
    client.pressed(false);
    pass(50);
    client.released();
    assert.ok(!client.armed);
  }
  pass(ARMED_AFTER_MS);
  assert.ok(client.armed);
});

test("a key or pointer that was down before does not answer by being held or released", () => {
  const { client, pass } = arming();
  client.pressed(false);
  pass(60_000);
  assert.deepEqual([client.armed, client.remainingMs], [false, undefined]);
  client.released();
  assert.ok(!client.armed, "the click comes with the release");
  pass(ARMED_AFTER_MS);
  assert.ok(client.armed);
  // A release without a press: the press happened in another window.
  client.pressed(true);
  pass(60_000);
  assert.ok(!client.armed);
});

test("a press after the arming answers", () => {
  const { client, pass } = arming();
  pass(ARMED_AFTER_MS);
  client.pressed(false);
  assert.ok(client.armed);
  client.released();
  assert.ok(client.armed);
});

test("the content below the lower edge is counted, and is zero once the end is visible", () => {
  const box = { clientHeight: 200, scrollHeight: 1000, lineHeight: 20 };
  assert.deepEqual(hiddenBelow({ ...box, scrollTop: 0 }, 5000), { lines: 40, characters: 4000 });
  assert.deepEqual(hiddenBelow({ ...box, scrollTop: 795 }, 5000), { lines: 1, characters: 25 });
  assert.deepEqual(hiddenBelow({ ...box, scrollTop: 799 }, 5000), { lines: 0, characters: 0 });
  assert.deepEqual(hiddenBelow({ ...box, scrollTop: 0, scrollHeight: 200 }, 5000), { lines: 0, characters: 0 });
});

test("an excerpt counts exactly the lines and characters that it leaves out", () => {
  assert.deepEqual(excerpt("a\nb\nc\nd", 2, 100), { text: "a\nb", lines: 2, characters: 4 });
  assert.deepEqual(excerpt("x".repeat(16_384), 3, 280), { text: "x".repeat(280), lines: 0, characters: 16_104 });
  assert.deepEqual(excerpt("short", 3, 280), { text: "short", lines: 0, characters: 0 });
  assert.equal(excerpt("\u{1f600}\u{1f600}", 3, 3).text, "\u{1f600}");
  assert.equal(describeHidden({ lines: 58, characters: 3412 }), "58 more lines, 3,412 characters");
  assert.equal(describeHidden({ lines: 0, characters: 1 }), "1 more character");
});
