import assert from "node:assert/strict";
import { test } from "node:test";
import { applyControl, applyEvent, emptyChat, openRequests, sequencePosition, runningTurn, type Chat, type Control } from "../../src/client/chat.ts";
import { applyToTurns, joinTurns, type Turn } from "../../src/client/turns.ts";
import type { ChatEvent } from "../../src/client/wire.ts";
import { CONVERSATION, delta, ended, log, said } from "./log.ts";

const reduce = (events: ChatEvent[]) => events.reduce<readonly Turn[]>(applyToTurns, []);
const live = (seq = 0): Chat => ({ ...emptyChat("c", "live"), cursor: { epoch: "e1", seq } });
const texts = (turn: Turn | undefined) => turn?.items.map((item) => (item.kind === "tool" ? item.name : item.kind === "request" ? item.requestId : item.text));

test("interleaved streams stay apart, in the order of their first word", () => {
  const [turn] = reduce(CONVERSATION);
  assert.deepEqual(texts(turn)?.slice(0, 3), ["I think", "Hello there", "world"]);
  const voids = turn!.items.flatMap((item) => ("void" in item && item.void ? [item.key] : []));
  assert.deepEqual(voids, ["text b"]);
});

test("a turn's end leaves nothing open", () => {
  const [turn] = reduce(CONVERSATION);
  assert.equal(turn!.end?.outcome, "cancelled");
  assert.ok(turn!.items.every((item) => (item.kind === "tool" ? item.status !== "running" : item.kind === "request" ? item.resolution : !("open" in item && item.open))));
  const tool = turn!.items.find((item) => item.key === "tool y");
  assert.equal(tool?.kind === "tool" && tool.status, "stopped");
});

test("a tool, its edits and its output are one item; hints for older clients are none", () => {
  const [turn] = reduce(CONVERSATION);
  const tool = turn!.items.find((item) => item.key === "tool x");
  assert.ok(tool?.kind === "tool");
  assert.deepEqual([tool.status, tool.result, tool.edits.length, tool.arguments], ["done", "ok", 1, { path: "f" }]);
  assert.equal(turn!.items.filter((item) => item.key.startsWith("message")).length, 1);
});

test("a notice stands in its turn, or alone, and begins nothing", () => {
  const notice = (rest: object = {}) => ({ event: "notice", level: "warning", code: "request_refused", text: "asked twice", ...rest }) as const;
  const turns = reduce(log([said("a", "t1", false), notice(), notice({ level: "error", text: "alone", turn_id: undefined })]));
  assert.deepEqual(turns.map((turn) => turn.phase), ["queued", "done"]);
  assert.deepEqual(turns.map((turn) => turn.items), [
    [{ kind: "notice", key: "notice e1.2", level: "warning", code: "request_refused", text: "asked twice" }],
    [{ kind: "notice", key: "notice e1.3", level: "error", code: "request_refused", text: "alone" }],
  ]);
  // A page of history that repeats it, and the turn's end.
  assert.deepEqual(joinTurns(turns, turns).map((turn) => turn.items.length), [1, 1]);
  assert.equal(reduce(log([said("a"), notice(), ended()]))[0]?.items.length, 1);
});

test("a queued turn waits, starts, and may end without having started", () => {
  const [, second] = reduce(CONVERSATION.slice(0, 20));
  assert.equal(second?.phase, "queued");
  assert.equal(reduce(CONVERSATION)[1]?.phase, "running");
  assert.equal(reduce(log([said("a", "t9", false), ended("cancelled", "t9")]))[0]?.phase, "done");
});

test("a joined delta reads like the deltas that it joins", () => {
  const apart = [delta("one "), delta("two "), delta("three")];
  const joined = log([{ ...delta("one two three"), first_seq: 1, seq: 3 }]);
  assert.deepEqual(reduce(joined), reduce(log(apart)));
  assert.equal(sequencePosition(live(0), joined[0]!), "next");
  assert.equal(sequencePosition(live(3), joined[0]!), "duplicate");
  assert.equal(sequencePosition(live(1), joined[0]!), "gap", "overlaps cannot be taken apart");
});

test("history pages join the same, wherever the page ends", () => {
  const whole = reduce(CONVERSATION);
  for (let cut = 0; cut <= CONVERSATION.length; cut += 1) {
    const joined = joinTurns(reduce(CONVERSATION.slice(0, cut)), reduce(CONVERSATION.slice(cut)));
    assert.deepEqual(joined, whole, `cut at ${cut}`);
  }
});

test("every outcome ends its turn, with what it used", () => {
  for (const outcome of ["completed", "cancelled", "failed", "interrupted"]) {
    const usage = { input_tokens: 1, output_tokens: 2, cache_read_tokens: 3, cache_write_tokens: 4 };
    const [turn] = reduce(log([said("x"), { ...ended(outcome), usage, cost: { usd: 1 }, error: { code: "c", detail: "d" } }]));
    assert.deepEqual(turn!.end, { outcome, latencyMs: 5, usage, cost: { usd: 1 }, error: { code: "c", detail: "d" } });
    assert.equal(turn!.phase, "done");
  }
});

test("a request that another client resolved is no longer open", () => {
  const asked = CONVERSATION.slice(0, 15).reduce(applyEvent, live());
  assert.deepEqual(openRequests(asked).map((request) => request.requestId), ["p"]);
  assert.deepEqual(openRequests(applyEvent(asked, CONVERSATION[15]!)), []);
});

test("a snapshot's first part replaces, later parts add, the last brings the state", () => {
  const old = applyEvent(live(), log([said("gone")])[0]!);
  const part = { event: "snapshot", chat_id: "c", epoch: "e2", seq: 40 } as const;
  const events = CONVERSATION.map((event) => ({ ...event, epoch: "e2" }));
  const first: Control<"snapshot"> = { ...part, part: 0, more: true, events: events.slice(0, 6), before: "x" };
  const halfway = applyControl(old, first);
  assert.equal(halfway.cursor, undefined, "an incomplete snapshot is nothing to resume from");
  const queued = log([said("third", "t3", false)], { first: 40, epoch: "e2" });
  const done = applyControl(halfway, { ...part, part: 1, more: false, events: events.slice(6), state: { queue: queued, requests: [], turn: { turn_id: "t2", started_at_ms: 1 }, goal_state: { active: true, objective: "ship" } } });
  assert.deepEqual(done.turns.map((turn) => [turn.id, turn.phase]), [["t1", "done"], ["t2", "running"], ["t3", "queued"]]);
  assert.deepEqual([done.cursor, done.before, done.goal?.objective], [{ epoch: "e2", seq: 40 }, "x", "ship"]);
});

test("a state's open request and running turn appear though their events are on an older page", () => {
  const [request] = log([{ event: "permission_request", request_id: "p", tool: "Bash", input: {} }], { first: 3 });
  const chat = applyControl(emptyChat("c"), {
    event: "snapshot", chat_id: "c", epoch: "e1", seq: 9, part: 0, more: false, before: "b", events: log([delta("late")], { first: 9 }),
    state: { queue: [], requests: [request!], turn: { turn_id: "t1", started_at_ms: 1 } },
  });
  assert.equal(runningTurn(chat)?.id, "t1");
  assert.deepEqual(openRequests(chat).map((each) => each.requestId), ["p"]);
});

test("an older page goes before what is there and never repeats it", () => {
  const chat = applyControl(emptyChat("c"), { event: "snapshot", chat_id: "c", epoch: "e1", seq: 27, part: 0, more: false, before: "b", events: CONVERSATION.slice(10) });
  const page: Control<"history"> = { event: "history", chat_id: "c", events: CONVERSATION.slice(0, 12) };
  const whole = applyControl(chat, page);
  assert.deepEqual(whole.turns, reduce(CONVERSATION));
  assert.equal(whole.before, undefined);
});

test("goal and stall come and go", () => {
  const goal = applyControl(live(), { event: "goal_state", chat_id: "c", goal_state: { active: true, ui_summary: "g" } });
  assert.equal(goal.goal?.ui_summary, "g");
  const [off] = log([{ event: "goal_state", goal_state: { active: false } }]);
  assert.equal(applyEvent(goal, off!).goal, undefined);
  const stalled = applyControl(live(), { event: "turn_stalled", chat_id: "c", turn_id: "t1", idle_ms: 60_000 });
  assert.equal(stalled.stalled?.idleMs, 60_000);
  assert.equal(applyEvent(stalled, log([delta("x")])[0]!).stalled, undefined);
});

const ask = (request_id: string, rest = {}) => ({ event: "permission_request" as const, request_id, tool: "Bash", input: {}, ...rest });
const resolved = (request_id: string, rest = {}) => ({ event: "request_resolved" as const, request_id, resolution: "allowed", ...rest });

test("an id that is asked again is another request, with an answer of its own, wherever a page of history ends", () => {
  const events = log([said("x"), ask("p"), resolved("p"), ask("p"), resolved("p"), ask("p")]);
  const whole = events.reduce(applyEvent, live());
  assert.deepEqual(openRequests(whole).map((request) => [request.requestId, request.at]), [["p", { epoch: "e1", seq: 6 }]]);
  assert.equal(whole.turns[0]!.items.length, 3);
  for (let cut = 0; cut <= events.length; cut += 1) {
    const joined = joinTurns(reduce(events.slice(0, cut)), reduce(events.slice(cut)));
    assert.deepEqual(openRequests({ ...live(), turns: joined }).map((request) => request.at?.seq), [6], `cut at ${cut}`);
  }
  assert.deepEqual(openRequests(applyEvent(whole, log([resolved("p")], { first: 7 })[0]!)), []);
});

test("a request outside of turns is open until it is resolved", () => {
  const outside = { turn_id: undefined };
  const events = log([said("x"), ended(), ask("p", outside), ask("q", outside)]);
  const asked = events.reduce(applyEvent, live());
  assert.deepEqual(openRequests(asked).map((request) => request.requestId), ["p", "q"]);
  const done = log([resolved("p", outside), resolved("q", outside)], { first: 5 });
  assert.deepEqual(openRequests(applyEvent(asked, done[0]!)).map((request) => request.requestId), ["q"]);
  assert.deepEqual(openRequests(done.reduce(applyEvent, asked)), []);
  const joined = joinTurns(reduce(events), reduce(done));
  assert.deepEqual(openRequests({ ...live(), turns: joined }), [], "also where the answers are on a newer page");
});
