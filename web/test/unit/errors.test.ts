import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { ErrorCode } from "../../src/client/index.ts";
import { explain, explainClose } from "../../src/page/text/errors.ts";

/** Tests run in the directory `web`. */
const project = (path: string) => readFileSync(`../${path}`, "utf8");
const CODES = [.../export type ErrorCode = ([^;]+);/.exec(project("docs/schema/wire.ts"))![1]!.matchAll(/"(\w+)"/g)].map(([, code]) => code as ErrorCode);

test("every error code of the wire has a text", () => {
  assert.ok(CODES.length > 20 && CODES.includes("damaged"));
  const unknown = explain("of_tomorrow" as ErrorCode, "It says so.");
  assert.equal(unknown, "The gateway refused this: It says so.");
  for (const code of CODES) {
    for (const refused of ["message", "answer", "other"] as const) {
      const text = explain(code, "It says so.", refused);
      assert.notEqual(text, unknown, code);
      assert.match(text, /^[A-Z].*[^.]\.$/s, code);
    }
  }
});

test("the text for a code alone promises no retry", () => {
  for (const code of CODES) assert.doesNotMatch(explain(code, "x"), /sent again in|tried again by itself/, code);
  assert.match(explain("damaged", "x"), /switchboard doctor/);
  assert.match(explain("rate_limited", "the limit is 600 messages a minute; try again in 2 s"), /600 messages a minute; try again in 2 s\.$/);
});

test("every close code of the protocol has a text, or needs none", () => {
  const table = /## Close codes\n(.*?)\n## /s.exec(project("docs/transports.md"))![1]!;
  const codes = [...table.matchAll(/^\| ([\d, ]+) \|/gm)].flatMap(([, cell]) => cell!.split(", ").map(Number));
  assert.deepEqual(codes, [1000, 1001, 1002, 1007, 1008, 1009, 1012, 1013, 4401, 4408]);
  const silent = codes.filter((code) => explainClose({ code, reason: "" }) === undefined);
  assert.deepEqual(silent, [1000, 1001]);
  for (const code of [...codes, 4403, 4409]) assert.doesNotMatch(explainClose({ code, reason: "" }) ?? "", /\(code/, String(code));
  assert.match(explainClose({ code: 4999, reason: "Because." })!, /: Because \(code 4999\)\. /);
  assert.match(explainClose({ code: 1013, reason: "The limit is 20 connections." })!, /another connection: The limit is 20 connections\. This page tries again/);
  assert.match(explainClose({ code: 1013, reason: "" })!, /another connection: close another page/);
});
