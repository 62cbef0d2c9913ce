// What an agent does by itself: its own turns, background tasks and subagents.
import assert from "node:assert/strict";
import { test } from "node:test";
import { agentTurn, applyControl, applyEvent, emptyChat, openRequests, stopRequested, subagentOf, turnToStop, type Chat, type Control } from "../../src/client/chat.ts";
import { applyToTurns, hasAnswer, joinTurns, type Turn } from "../../src/client/turns.ts";
import { shownItems } from "../../src/client/subagents.ts";
import type { ChatEvent } from "../../src/client/wire.ts";
import { nest, type Node } from "../../src/page/text/nesting.ts";
import { delta, log, turnEnd, userMessage } from "./log.ts";

const reduce = (events: ChatEvent[]) => events.reduce<readonly Turn[]>(applyToTurns, []);
const live = (): Chat => ({ ...emptyChat("c", "live"), cursor: { epoch: "e1", seq: 0 } });
const begins = { event: "turn_started", origin: "agent", reason: "background", started_at_ms: 7, turn_id: "~3.e1" } as const;
const ends = { event: "turn_end", origin: "agent", outcome: "completed", latency_ms: 4, turn_id: "~3.e1" } as const;
const asks = { event: "permission_request", request_id: "p", tool: "Bash", input: {}, turn_id: "~3.e1" } as const;
const tool = (phase: string, call_id: string, rest: object = {}) => ({ event: "tool_event", phase, call_id, name: "Agent", ...rest }) as const;
const inside = (parent_call_id: string, rest: object) => ({ event: "tool_event", phase: "start", name: "Read", parent_call_id, ...rest }) as const;
const task = (status: string, task_id = "b1") => ({ event: "task", task_id, kind: "shell", title: `make ${task_id}`, status, turn_id: undefined }) as const;
const snapshot = (state: object, events: ChatEvent[] = []) => applyControl(live(), { event: "snapshot", chat_id: "c", epoch: "e1", seq: 9, part: 0, more: false, events, state: { queue: [], requests: [], ...state } } as Control<"snapshot">);
const shape = (nodes: readonly Node[]): unknown => nodes.map(({ item, children }) => (children.length > 0 ? [item.key, shape(children)] : item.key));

/** A prompt, a turn of the agent's own beside a second prompt, and a subagent in it. */
const OWN_WORK: ChatEvent[] = log([
  userMessage("first"), { event: "turn_started", started_at_ms: 2 }, tool("start", "b"), tool("end", "b", { result: "runs" }), turnEnd(),
  begins, { ...delta("The build "), turn_id: "~3.e1" },
  userMessage("second", "t2"), { event: "turn_started", started_at_ms: 9, turn_id: "t2" },
  { ...delta("is done."), turn_id: "~3.e1" }, { event: "stream_end", stream_id: "s", sources: [{ url: "https://a.example" }], turn_id: "~3.e1" },
  tool("start", "a", { turn_id: "~3.e1" }), inside("a", { call_id: "n", turn_id: "~3.e1" }),
  { ...delta("inner"), parent_call_id: "a", turn_id: "~3.e1" },
  inside("a", { call_id: "n", phase: "end", result: "r", media: [{ media_type: "image/png", bytes: 2048 }], turn_id: "~3.e1" }),
  inside("a", { call_id: "n", turn_id: "~3.e1" }), inside("a", { call_id: "n", phase: "end", result: "again", turn_id: "~3.e1" }),
  tool("end", "a", { turn_id: "~3.e1" }),
  ends, { ...turnEnd(), turn_id: "t2" },
]);

test("a turn of the agent's own has its reason and runs beside a prompt, which ends with it", () => {
  const turns = reduce(OWN_WORK);
  assert.deepEqual(turns.map(({ id, origin, reason, user }) => [id, origin, reason, user?.text]), [
    ["t1", undefined, undefined, "first"], ["~3.e1", "agent", "background", undefined], ["t2", undefined, undefined, "second"],
  ]);
  assert.deepEqual(turns.map((turn) => turn.end?.answeredIn), [undefined, undefined, "~3.e1"]);
  assert.deepEqual(turns.map(hasAnswer), [false, true, false]);
  const beside = OWN_WORK.slice(0, 9).reduce(applyEvent, live());
  assert.deepEqual([agentTurn(beside)?.id, turnToStop(beside)?.id], ["~3.e1", "~3.e1"]);
  const stopped = stopRequested(beside, "~3.e1");
  assert.equal(turnToStop(stopped)?.id, "t2", "a second stop concerns the prompt that still waits");
  assert.deepEqual(stopRequested(stopped, undefined).stopping, ["~3.e1", "t2"]);
  assert.deepEqual(OWN_WORK.slice(9).reduce(applyEvent, stopped).stopping, []);
});

test("wherever a history page ends, turns of the agent's own and subagents are joined to the same turns", () => {
  const whole = reduce(OWN_WORK);
  for (let cut = 0; cut <= OWN_WORK.length; cut += 1) {
    assert.deepEqual(joinTurns(reduce(OWN_WORK.slice(0, cut)), reduce(OWN_WORK.slice(cut))), whole, `cut at ${cut}`);
  }
});

test("a history page leaves the turns that it does not continue as they are", () => {
  const turns = reduce(OWN_WORK);
  const joined = joinTurns(reduce(log([userMessage("before", "t0"), { ...turnEnd(), turn_id: "t0" }], { epoch: "e0" })), turns);
  assert.deepEqual(joined.slice(1).map((turn, index) => turn === turns[index]), [true, true, true]);
});

test("an answer on an older page shows that a prompt was not answered in the agent's own turn", () => {
  const events = log([userMessage("second", "t2"), { ...delta("an answer"), turn_id: "t2" }, begins, { ...delta("more"), turn_id: "~3.e1" }, ends, { ...turnEnd(), turn_id: "t2" }]);
  const newer = reduce(events.slice(2));
  assert.equal(newer.at(-1)?.end?.answeredIn, "~3.e1");
  assert.deepEqual(joinTurns(reduce(events.slice(0, 2)), newer), reduce(events));
});

test("a prompt that ends by itself after the agent's own turn was not answered in it", () => {
  const turns = reduce(log([begins, userMessage("second", "t2"), ends, { ...delta("own"), turn_id: "t2" }, { ...turnEnd(), turn_id: "t2" }]));
  assert.deepEqual(turns.map((turn) => turn.end?.answeredIn), [undefined, undefined]);
});

test("a prompt that was taken into a silent turn of the agent's own was not answered there, wherever a history page ends", () => {
  const own = (rest: object) => ({ ...tool("start", "k"), turn_id: "~3.e1", ...rest }) as const;
  const events = log([begins, userMessage("second", "t2"), own({}), own({ phase: "end" }), ends, { ...turnEnd(), turn_id: "t2" }]);
  const turns = reduce(events);
  assert.deepEqual(turns.map((turn) => turn.end?.answeredIn), [undefined, undefined]);
  for (let cut = 0; cut <= events.length; cut += 1) assert.deepEqual(joinTurns(reduce(events.slice(0, cut)), reduce(events.slice(cut))), turns, `cut at ${cut}`);
  assert.equal(reduce(events.slice(2)).at(-1)?.end?.answeredIn, "~3.e1", "what the agent said before is not known");
});

test("a snapshot's state has the agent's own turn, its requests and the tasks", () => {
  const chat = snapshot({ turn: { turn_id: "t2", started_at_ms: 3 }, agent_turn: { turn_id: "~3.e1", started_at_ms: 2, reason: "schedule" }, requests: log([asks]), tasks: [{ task_id: "b1", kind: "shell", title: "make b1", status: "running" }] });
  const own = agentTurn(chat);
  assert.deepEqual([own?.id, own?.reason, own?.startedAtMs, own?.phase], ["~3.e1", "schedule", 2, "running"]);
  assert.deepEqual(openRequests(chat).map((request) => request.requestId), ["p"]);
  assert.deepEqual(chat.tasks.map((each) => each.task_id), ["b1"]);
  assert.deepEqual(snapshot({}).tasks, []);
});

test("tasks are listed while they run, and each end is a line of the log", () => {
  const chat = log([task("running"), task("running", "b2"), { ...task("running"), title: "make again" }, task("failed", "b2")]).reduce(applyEvent, live());
  assert.deepEqual(chat.tasks, [{ task_id: "b1", kind: "shell", title: "make again", status: "running" }]);
  assert.deepEqual(chat.turns.map((turn) => [turn.phase, turn.items]), [["done", [{ kind: "task", key: "task e1.4", task: { task_id: "b2", kind: "shell", title: "make b2", status: "failed" } }]]]);
});

test("what a subagent does is below the use that began it, and keeps its identity", () => {
  const [, own] = reduce(OWN_WORK);
  const nodes = nest(own!.items);
  assert.deepEqual(shape(nodes), ["text s", ["tool a", ["tool a n", "text a s", "tool a n e1.16"]]]);
  assert.equal(nest(own!.items, nodes), nodes);
  const changed = nest(own!.items.with(0, { ...own!.items[0]! }), nodes);
  assert.deepEqual([changed[0] === nodes[0], changed[1] === nodes[1]], [false, true]);
});

test("an unknown parent is shown at the turn's level, and nesting has a limit", () => {
  const uses = [inside("nowhere", { call_id: "x" }), inside("later", { call_id: "y" }), tool("start", "later"), inside("self", { call_id: "self" })];
  assert.deepEqual(shape(nest(reduce(log(uses))[0]!.items)), ["tool nowhere x", "tool later y", "tool later", "tool self self"]);
  const deep = Array.from({ length: 5_000 }, (_, level) => inside(`c${level}`, { call_id: `c${level + 1}` }));
  const depth = (nodes: readonly Node[]): number => Math.max(0, ...nodes.map((node) => 1 + depth(node.children)));
  const nodes = nest(reduce(log(deep))[0]!.items);
  assert.equal(depth(nodes), 7);
});

test("a subagent's open request opens all folds above it, until it is resolved", () => {
  const events = log([tool("start", "a"), inside("a", { call_id: "b" }), inside("b", { call_id: "n" }), { ...asks, turn_id: "t1", call_id: "n", parent_call_id: "b" }]);
  const [turn] = reduce(events);
  const [outer] = nest(turn!.items);
  assert.deepEqual([outer?.asks, outer?.children[0]?.asks, outer?.children[0]?.children[0]?.permission?.requestId], [true, true, "p"]);
  const resolved = reduce([...events, ...log([{ event: "request_resolved", request_id: "p", resolution: "allowed", parent_call_id: "b" }], { first: 5 })]);
  assert.equal(nest(resolved[0]!.items, nest(turn!.items))[0]?.asks, false);
  const chat = events.reduce(applyEvent, live());
  assert.equal(subagentOf(chat, openRequests(chat)[0]!.parent!)?.callId, "b");
});

test("a background subagent's events outside of turns belong to the turn that began it", () => {
  const outside = (rest: object) => ({ event: "delta", stream_id: "s9", text: "x", turn_id: undefined, ...rest }) as const;
  const turns = reduce(log([tool("start", "a"), tool("end", "a"), turnEnd(), outside({ parent_call_id: "a" }), outside({ parent_call_id: "a" }), outside({}), outside({})]));
  assert.deepEqual(turns.map((turn) => [turn.id, turn.phase, turn.items.map((item) => item.kind === "text" && item.text)]), [["t1", "done", [false, "xx"]], ["e1.6", "done", ["xx"]]]);
});

test("an update replaces the arguments and appends to the output, whose end is held", () => {
  const [turn] = reduce(log([
    tool("start", "a", { title: "Build", arguments: {}, locations: [{ path: "f", line: 2 }] }), tool("update", "a", { arguments: { command: "make" } }), tool("update", "a", { output: "x".repeat(65_536) }), tool("update", "a", { output: "end" }),
  ]));
  const [item] = turn!.items;
  assert.ok(item?.kind === "tool");
  assert.deepEqual([item.status, item.title, item.arguments, item.output?.length, item.output?.slice(-4), item.outputCut], ["running", "Build", { command: "make" }, 65_536, "xend", true]);
});

test("an input that goes on is whole once an update has all of it, and what is cut of the output stays marked", () => {
  const uses = [
    tool("start", "a", { title: "Write a", arguments: { content: "o" }, truncated: true }), tool("update", "a", { arguments: { content: "one" }, truncated: true }),
    tool("update", "a", { title: "Write a.rs", arguments: { content: "one two" } }), tool("end", "a", { result: "out", truncated: true }),
  ];
  const seen = uses.map((_, index) => {
    const [item] = reduce(log(uses.slice(0, index + 1)))[0]!.items;
    return item?.kind === "tool" && [item.title, item.arguments, item.inputGoesOn, item.truncated, item.status];
  });
  assert.deepEqual(seen, [
    ["Write a", { content: "o" }, true, false, "running"],
    ["Write a", { content: "one" }, true, false, "running"],
    ["Write a.rs", { content: "one two" }, false, false, "running"],
    ["Write a.rs", { content: "one two" }, false, true, "done"],
  ]);
});

/** A subagent in the background: it reads in its own turn, in one of the agent's and outside of turns, and runs a subagent too. */
const LATER_WORK: ChatEvent[] = log([
  userMessage("first"), tool("start", "a"), inside("a", { call_id: "n" }), { ...delta("early"), parent_call_id: "a" }, { event: "stream_end", stream_id: "s", parent_call_id: "a" },
  tool("end", "a"), delta("It runs."), turnEnd(),
  begins, inside("a", { call_id: "n", phase: "end", result: "r", turn_id: "~3.e1" }), { ...delta("late"), parent_call_id: "a", turn_id: "~3.e1" },
  inside("a", { call_id: "b", turn_id: "~3.e1" }), { ...asks, call_id: "b", parent_call_id: "a" }, { ...delta("own"), stream_id: "o", turn_id: "~3.e1" }, ends,
  userMessage("second", "t2"), inside("b", { call_id: "m", turn_id: "t2" }), { ...delta("answer"), turn_id: "t2" }, { ...turnEnd(), turn_id: "t2" },
]);

/** The shown trees of each turn, and the tool uses that show the rest of it. */
function shown(turns: readonly Turn[]): unknown {
  const items = shownItems(turns, []);
  return turns.map(({ id }) => [id, shape(nest(items.get(id)!.items)), items.get(id)!.elsewhere.map((use) => use.callId)]);
}

test("what a subagent in the background does in later turns is shown below the use that began it", () => {
  const turns = reduce(LATER_WORK);
  assert.deepEqual(shown(turns), [
    ["t1", [["tool a", ["tool a n", "text a s", "~3.e1 text a s", ["~3.e1 tool a b", ["t2 tool b m"]]]], "text s"], []],
    ["~3.e1", ["text o"], ["a"]],
    ["t2", ["text s"], ["b"]],
  ]);
  const [use, read] = shownItems(turns, []).get("t1")!.items;
  assert.deepEqual([use?.kind === "tool" && use.status, read?.kind === "tool" && [read.status, read.result]], ["done", ["done", "r"]]);
  assert.equal(nest(shownItems(turns, []).get("t1")!.items)[0]?.asks, false, "the turn's end has closed the request");
  const early = reduce(LATER_WORK.slice(0, 9))[0]!.items.find((item) => item.kind === "tool" && item.callId === "n");
  assert.equal(early?.kind === "tool" && early.status, "running", "its use of a tool outlives the turn");
});

test("a later turn's part of a subagent is shown in its own turn until the page with the use is loaded", () => {
  const whole = reduce(LATER_WORK);
  for (let cut = 0; cut <= LATER_WORK.length; cut += 1) {
    const newer = reduce(LATER_WORK.slice(cut));
    if (cut === 8) assert.deepEqual(shown(newer), [["~3.e1", ["tool a n", "text a s", ["tool a b", ["t2 tool b m"]], "text o"], []], ["t2", ["text s"], ["b"]]]);
    assert.deepEqual(shown(joinTurns(reduce(LATER_WORK.slice(0, cut)), newer)), shown(whole), `cut at ${cut}`);
  }
});

test("turns that a subagent's event does not concern are shown as before", () => {
  const events = LATER_WORK.slice(0, -4);
  const known = reduce(events);
  const before = shownItems(known, []);
  const turns = applyToTurns(known, log([inside("a", { call_id: "k", turn_id: undefined })], { first: 50 })[0]!);
  const first = shownItems(turns, [], before);
  assert.equal(first.get("~3.e1"), before.get("~3.e1"));
  assert.notEqual(first.get("t1"), before.get("t1"));
  assert.equal(shownItems([...turns], [], first).get("t1"), first.get("t1"));
});

test("a tool use says whether its background task runs or how it ended, and a later use with its id does not", () => {
  const taskOfA = (status: string) => ({ ...task(status), parent_call_id: "a" });
  const events = log([tool("start", "a"), tool("end", "a"), taskOfA("running")]);
  const tasks = (each: Chat) => each.turns.flatMap((turn) => shownItems(each.turns, each.tasks).get(turn.id)!.items.flatMap((item) => (item.kind === "tool" ? [item.task] : [])));
  const chat = events.reduce(applyEvent, live());
  assert.deepEqual(tasks(chat), ["running"]);
  for (const status of ["completed", "failed", "stopped"]) {
    const ended = [...log([taskOfA(status)], { first: 4 }), ...log([userMessage("next", "t2"), tool("start", "a", { turn_id: "t2" })], { first: 5 })].reduce(applyEvent, chat);
    assert.deepEqual(tasks(ended), [status, undefined]);
  }
});

const waited = (turns: readonly Turn[]) => turns.flatMap(({ user }) => (user ? [user.waited] : []));

test("a message waited if a turn of the agent's own was open when it came, wherever a history page ends", () => {
  const events = log([
    userMessage("before", "t1"), turnEnd("completed", "t1"), begins, userMessage("beside", "t2"), { event: "turn_started", started_at_ms: 2, turn_id: "t2" },
    { ...delta("I work"), turn_id: "~3.e1" }, ends, turnEnd("completed", "t2"), userMessage("after", "t3"),
  ]);
  for (let cut = 0; cut <= events.length; cut += 1) {
    assert.deepEqual(waited(joinTurns(reduce(events.slice(0, cut)), reduce(events.slice(cut)))), [undefined, true, undefined], `cut at ${cut}`);
  }
});

test("tool uses of two turns that are below each other stay where they are", () => {
  const turns = reduce(log([inside("b", { call_id: "a" }), inside("a", { call_id: "b", turn_id: "t2" })]));
  assert.deepEqual(shown(turns), [["t1", ["tool b a"], []], ["t2", ["tool a b"], []]]);
});
