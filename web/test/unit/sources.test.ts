import assert from "node:assert/strict";
import { test } from "node:test";
import { size } from "../../src/page/text/format.ts";
import { webLink } from "../../src/page/text/links.ts";
import { noticeTitle } from "../../src/page/text/notices.ts";
import { about } from "../../src/page/text/tools.ts";
import { reasonText, taskEndText, taskKindText } from "../../src/page/text/turns.ts";
import type { ToolItem, TurnReason } from "../../src/client/index.ts";

test("only addresses of web pages become links, with the host that they lead to", () => {
  assert.deepEqual(webLink("https://example.com/a?b#c"), { href: "https://example.com/a?b#c", host: "example.com" });
  assert.deepEqual(webLink(" HTTP://bank.example@evil.example:81/"), { href: "http://bank.example@evil.example:81/", host: "evil.example:81" });
  for (const address of ["javascript:alert(1)", "java\nscript:alert(1)", "data:text/html,x", "file:///etc/passwd", "blob:https://a.example/1", "//a.example", "a.example", "/local", "", "http:"]) {
    assert.equal(webLink(address), undefined, address);
  }
});

test("known kinds of notices have a title, others none", () => {
  assert.equal(noticeTitle("usage_limit"), "Usage limit");
  for (const code of ["other", "from_the_future", "__proto__", ""]) assert.equal(noticeTitle(code), undefined, code);
});

test("a turn of the agent's own says why it began, also for a reason of a newer gateway", () => {
  assert.equal(reasonText("background"), "The agent went on by itself: background work ended.");
  assert.equal(reasonText("other"), reasonText("tomorrow" as TurnReason));
  assert.equal(reasonText(undefined), "The agent went on by itself.");
  assert.deepEqual([taskKindText("shell"), taskKindText("other"), taskEndText("failed")], ["Command", "Task", "failed"]);
});

test("a tool use is named by its title, else by what is known of it", () => {
  const use = (rest: Partial<ToolItem>): ToolItem => ({ kind: "tool", key: "tool a", callId: "a", name: "Agent", status: "running", truncated: false, edits: [], ...rest });
  assert.equal(about(use({ title: "Look around", arguments: { prompt: "Look around in all of it" } })), "Look around");
  assert.equal(about(use({ title: "Read a.rs", arguments: { file_path: "a.rs" } })), "Read a.rs");
  assert.equal(about(use({ title: "Tidy up", arguments: { command: "rm -rf ~" } })), "Tidy up: rm -rf ~", "a title does not hide a command");
  assert.equal(about(use({ arguments: { prompt: "all of it" }, locations: [{ path: "f" }] })), "all of it");
  assert.equal(about(use({ locations: [{ path: "src/a.rs", line: 3 }] })), "src/a.rs:3");
  assert.equal(about(use({})), "");
});

test("sizes are formatted for people", () => {
  assert.deepEqual([0, 999, 1000, 2048, 9_940, 999_499, 999_500, 12_000_000].map(size), ["0 B", "999 B", "1 KB", "2 KB", "9.9 KB", "999 KB", "1 MB", "12 MB"]);
});
