import assert from "node:assert/strict";
import { test } from "node:test";
import { applyControl, applyEvent, emptyChat, openRequests, sequencePosition, runningTurn, type Chat, type Control } from "../../src/client/chat.ts";
import { applyToTurns, joinTurns, type Turn } from "../../src/client/turns.ts";
import type { ChatEvent } from "../../src/client/wire.ts";
import { CONVERSATION, delta, turnEnd, log, userMessage } from "./log.ts";

const reduce = (events: ChatEvent[]) => events.reduce<readonly Turn[]>(applyToTurns, []);
const live = (seq = 0): Chat => ({ ...emptyChat("c", "live"), cursor: { epoch: "e1", seq } });
const texts = (turn: Turn | undefined) => turn?.items.map((item) => (item.kind === "tool" ? item.name : item.kind === "request" ? item.requestId : item.kind === "task" ? item.task.title : item.text));

test("interleaved streams become separate items, in the order of their first text", () => {
  const [turn] = reduce(CONVERSATION);
  assert.deepEqual(texts(turn)?.slice(0, 3), ["I think", "Hello there", "world"]);
  const voids = turn!.items.flatMap((item) => ("void" in item && item.void ? [item.key] : []));
  assert.deepEqual(voids, ["text b"]);
});

test("the end of a turn closes all of its items", () => {
  const [turn] = reduce(CONVERSATION);
  assert.equal(turn!.end?.outcome, "cancelled");
  assert.ok(turn!.items.every((item) => (item.kind === "tool" ? item.status !== "running" : item.kind === "request" ? item.resolution : !("open" in item && item.open))));
  const tool = turn!.items.find((item) => item.key === "tool y");
  assert.equal(tool?.kind === "tool" && tool.status, "stopped");
});

test("a tool call, its edits and its output become one item; tool hints become none", () => {
  const [turn] = reduce(CONVERSATION);
  const tool = turn!.items.find((item) => item.key === "tool x");
  assert.ok(tool?.kind === "tool");
  assert.deepEqual([tool.status, tool.result, tool.edits.length, tool.arguments], ["done", "ok", 1, { path: "f" }]);
  assert.equal(turn!.items.filter((item) => item.key.startsWith("message")).length, 1);
});

test("a notice belongs to its turn or stands alone, and does not start a turn", () => {
  const notice = (rest: object = {}) => ({ event: "notice", level: "warning", code: "request_refused", text: "asked twice", ...rest }) as const;
  const turns = reduce(log([userMessage("a", "t1", false), notice(), notice({ level: "error", text: "alone", turn_id: undefined })]));
  assert.deepEqual(turns.map((turn) => turn.phase), ["queued", "done"]);
  assert.deepEqual(turns.map((turn) => turn.items), [
    [{ kind: "notice", key: "notice e1.2", level: "warning", code: "request_refused", text: "asked twice" }],
    [{ kind: "notice", key: "notice e1.3", level: "error", code: "request_refused", text: "alone" }],
  ]);
  // A history page that repeats the notice, and the turn's end.
  assert.deepEqual(joinTurns(turns, turns).map((turn) => turn.items.length), [1, 1]);
  assert.equal(reduce(log([userMessage("a"), notice(), turnEnd()]))[0]?.items.length, 1);
});

test("a queued turn waits, starts, and may end without having started", () => {
  const [, second] = reduce(CONVERSATION.slice(0, 20));
  assert.equal(second?.phase, "queued");
  assert.equal(reduce(CONVERSATION)[1]?.phase, "running");
  assert.equal(reduce(log([userMessage("a", "t9", false), turnEnd("cancelled", "t9")]))[0]?.phase, "done");
});

test("a joined delta gives the same text as the deltas that it joins", () => {
  const apart = [delta("one "), delta("two "), delta("three")];
  const joined = log([{ ...delta("one two three"), first_seq: 1, seq: 3 }]);
  assert.deepEqual(reduce(joined), reduce(log(apart)));
  assert.equal(sequencePosition(live(0), joined[0]!), "next");
  assert.equal(sequencePosition(live(3), joined[0]!), "duplicate");
  assert.equal(sequencePosition(live(1), joined[0]!), "gap", "an event that overlaps the cursor cannot be split");
});

test("history pages are joined to the same turns, wherever a page ends", () => {
  const whole = reduce(CONVERSATION);
  for (let cut = 0; cut <= CONVERSATION.length; cut += 1) {
    const joined = joinTurns(reduce(CONVERSATION.slice(0, cut)), reduce(CONVERSATION.slice(cut)));
    assert.deepEqual(joined, whole, `cut at ${cut}`);
  }
});

test("every outcome ends its turn, with usage, cost and error", () => {
  for (const outcome of ["completed", "cancelled", "failed", "interrupted"]) {
    const usage = { input_tokens: 1, output_tokens: 2, cache_read_tokens: 3, cache_write_tokens: 4 };
    const [turn] = reduce(log([userMessage("x"), { ...turnEnd(outcome), usage, cost: { usd: 1 }, error: { code: "c", detail: "d" } }]));
    assert.deepEqual(turn!.end, { at: { epoch: "e1", seq: 2 }, outcome, latencyMs: 5, usage, cost: { usd: 1 }, error: { code: "c", detail: "d" } });
    assert.equal(turn!.phase, "done");
  }
});

test("the model is the one of the last turn that names one, unless a later one is told, also after a history page is loaded", () => {
  const events = log([userMessage("a"), { ...turnEnd(), model: "m1" }, userMessage("b", "t2"), { ...turnEnd("completed", "t2"), model: "m2" }, userMessage("c", "t3"), turnEnd("cancelled", "t3")]);
  const state = { queue: [], requests: [] };
  const part = { event: "snapshot", chat_id: "c", epoch: "e1", seq: 6, part: 0, more: false } as const;
  const chat = applyControl(live(), { ...part, events: events.slice(2), before: "x", state });
  assert.equal(chat.model, "m2");
  assert.equal(events.reduce(applyEvent, live()).model, "m2");
  assert.equal(applyControl(chat, { event: "history", chat_id: "c", events: events.slice(0, 2) }).model, "m2");
  assert.equal(applyControl(chat, { event: "runtime_model_updated", chat_id: "c", model_name: "m3" }).model, "m3");
});

test("a tool use failed or was stopped as its event says, however its turn ended and wherever a history page ends", () => {
  const use = (phase: string, call_id: string, rest: object = {}) => ({ event: "tool_event" as const, phase, call_id, name: "Bash", ...rest });
  const uses = [
    userMessage("x"), use("start", "a"), use("start", "b"), use("start", "c"), use("start", "a", { parent_call_id: "c" }), use("error", "a", { error: "status 1" }),
    use("error", "b", { error: "no result", stopped: true }), use("end", "c"), use("error", "a", { parent_call_id: "c", stopped: true }), use("start", "b"),
  ];
  const states = (turns: readonly Turn[]) => turns[0]!.items.flatMap((item) => (item.kind === "tool" ? [item.status] : []));
  for (const outcome of ["cancelled", "completed", "interrupted"]) {
    const events = log([...uses, turnEnd(outcome)]);
    for (let cut = 0; cut <= events.length; cut += 1) {
      assert.deepEqual(states(joinTurns(reduce(events.slice(0, cut)), reduce(events.slice(cut)))), ["error", "stopped", "done", "stopped", "stopped"], `${outcome}, cut at ${cut}`);
    }
  }
});

test("a request that another client resolved is no longer open", () => {
  const withRequest = CONVERSATION.slice(0, 15).reduce(applyEvent, live());
  assert.deepEqual(openRequests(withRequest).map((request) => request.requestId), ["p"]);
  assert.deepEqual(openRequests(applyEvent(withRequest, CONVERSATION[15]!)), []);
});

test("the first part of a snapshot replaces the turns, later parts add to them, the last has the state", () => {
  const old = applyEvent(live(), log([userMessage("gone")])[0]!);
  const part = { event: "snapshot", chat_id: "c", epoch: "e2", seq: 40 } as const;
  const events = CONVERSATION.map((event) => ({ ...event, epoch: "e2" }));
  const first: Control<"snapshot"> = { ...part, part: 0, more: true, events: events.slice(0, 6), before: "x" };
  const halfway = applyControl(old, first);
  assert.equal(halfway.cursor, undefined, "an incomplete snapshot sets no cursor");
  const queued = log([userMessage("third", "t3", false)], { first: 40, epoch: "e2" });
  const done = applyControl(halfway, { ...part, part: 1, more: false, events: events.slice(6), state: { queue: queued, requests: [], turn: { turn_id: "t2", started_at_ms: 1 }, goal_state: { active: true, objective: "ship" } } });
  assert.deepEqual(done.turns.map((turn) => [turn.id, turn.phase]), [["t1", "done"], ["t2", "running"], ["t3", "queued"]]);
  assert.deepEqual([done.cursor, done.before, done.goal?.objective], [{ epoch: "e2", seq: 40 }, "x", "ship"]);
});

test("an open request and a running turn of the state appear even if their events are on an older page", () => {
  const [request] = log([{ event: "permission_request", request_id: "p", tool: "Bash", input: {} }], { first: 3 });
  const chat = applyControl(emptyChat("c"), {
    event: "snapshot", chat_id: "c", epoch: "e1", seq: 9, part: 0, more: false, before: "b", events: log([delta("late")], { first: 9 }),
    state: { queue: [], requests: [request!], turn: { turn_id: "t1", started_at_ms: 1 } },
  });
  assert.equal(runningTurn(chat)?.id, "t1");
  assert.deepEqual(openRequests(chat).map((each) => each.requestId), ["p"]);
});

test("an older page goes before the present turns and repeats none of them", () => {
  const chat = applyControl(emptyChat("c"), { event: "snapshot", chat_id: "c", epoch: "e1", seq: 27, part: 0, more: false, before: "b", events: CONVERSATION.slice(10) });
  const page: Control<"history"> = { event: "history", chat_id: "c", events: CONVERSATION.slice(0, 12) };
  const whole = applyControl(chat, page);
  assert.deepEqual(whole.turns, reduce(CONVERSATION));
  assert.equal(whole.before, undefined);
});

test("goals and stalls are set and cleared", () => {
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

test("a request under an earlier request's id is another request with its own answer, wherever a history page ends", () => {
  const events = log([userMessage("x"), ask("p"), resolved("p"), ask("p"), resolved("p"), ask("p")]);
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
  const events = log([userMessage("x"), turnEnd(), ask("p", outside), ask("q", outside)]);
  const withRequest = events.reduce(applyEvent, live());
  assert.deepEqual(openRequests(withRequest).map((request) => request.requestId), ["p", "q"]);
  const done = log([resolved("p", outside), resolved("q", outside)], { first: 5 });
  assert.deepEqual(openRequests(applyEvent(withRequest, done[0]!)).map((request) => request.requestId), ["q"]);
  assert.deepEqual(openRequests(done.reduce(applyEvent, withRequest)), []);
  const joined = joinTurns(reduce(events), reduce(done));
  assert.deepEqual(openRequests({ ...live(), turns: joined }), [], "also if the resolutions are on a newer page");
});
