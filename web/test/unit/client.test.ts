import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { defaultEnvironment, openRequests } from "../../src/client/index.ts";
import { delta, ended, log, said } from "./log.ts";
import { client, greet, MemoryStore, type World, READY } from "./world.ts";

const attached = (head: number, recovered: boolean, epoch = "e1") => ({ event: "attached", chat_id: "c", epoch, head, recovered });
const replayEnd = (seq: number, epoch = "e1") => ({ event: "replay_end", chat_id: "c", epoch, seq });
const snapshot = (events: object[], seq: number) => ({ event: "snapshot", chat_id: "c", epoch: "e1", seq, part: 0, more: false, events });
const accepted = (turn_id: string, seq: number, rest = {}) => ({ event: "message_accepted", chat_id: "c", turn_id, starts_turn: true, epoch: "e1", seq, ...rest });
const refusal = (code: string, retryable: boolean, rest = {}) => ({ event: "error", code, detail: "no", retryable, chat_id: "c", ...rest });

/** A client that follows chat `c`, which has one turn and stands at 3. */
function following(store = new MemoryStore()) {
  const all = client(store);
  all.it.open("c");
  all.it.start();
  greet(all.world);
  all.world.socket.deliver(attached(3, false), snapshot(log([said("old"), delta("answer"), ended()]), 3), replayEnd(3));
  return all;
}

/** Loses the connection and gets the next one as far as `ready`; returns what was sent then. */
function reconnect(world: World, code = 1006) {
  world.socket.drop(code);
  world.pass(20_000);
  return greet(world);
}

test("the token goes first, chats are attached at ready", () => {
  const { world, it } = client();
  it.open("c");
  it.start();
  world.socket.onopen?.();
  assert.deepEqual(world.socket.sent(), [{ type: "authenticate", token: "secret" }]);
  world.socket.onclose = null;
  assert.deepEqual(greet(world), [{ type: "attach", chat_id: "c" }]);
  assert.equal(it.status.state, "online");
});

test("a first connection that fails is tried again, with growing waits", () => {
  const { world, it } = client();
  it.start();
  const waits: number[] = [];
  for (let attempt = 0; attempt < 9; attempt += 1) {
    world.socket.drop();
    assert.ok(it.status.state === "waiting");
    waits.push(it.status.retryAt - world.now());
    world.pass(waits.at(-1)!);
  }
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 7500, 7500, 7500, 7500]);
  assert.equal(world.sockets.length, 10);
});

test("a connection that never answers is given up", () => {
  const { world, it } = client();
  it.start();
  world.pass(10_000);
  assert.equal(it.status.state, "waiting");
  assert.ok(world.sockets[0]!.closed);
});

test("waking up ends the wait", () => {
  const { world, it } = client();
  it.start();
  world.socket.drop();
  it.wake();
  assert.equal(world.sockets.length, 2);
});

test("refused credentials and a replaced connection end the attempts", () => {
  for (const [code, reason] of [[4401, "unauthorized"], [4409, "replaced"]] as const) {
    const { world, it } = following();
    world.socket.drop(code);
    world.pass(60_000);
    assert.deepEqual(it.status, { state: "stopped", reason, closed: { code, reason: "" } });
    assert.equal(world.sockets.length, 1);
    it.start();
    assert.deepEqual(greet(world), [{ type: "attach", chat_id: "c", after: { epoch: "e1", seq: 3 } }]);
  }
});

test("without a token, a silent gateway wants one", () => {
  const { world, it } = client(new MemoryStore(), "");
  const { world: bare, it: none } = clientWithoutToken();
  none.start();
  bare.socket.onopen?.();
  assert.deepEqual(bare.socket.sent(), []);
  bare.pass(1_500);
  assert.deepEqual(none.status, { state: "stopped", reason: "unauthorized", closed: { code: 4401, reason: "" } });
  it.start();
  greet(world);
  assert.equal(it.status.state, "online");
});

function clientWithoutToken() {
  const all = client();
  const it = new (all.it.constructor as typeof import("../../src/client/client.ts").Client)({ url: () => "ws://x", token: () => undefined, environment: all.world });
  return { world: all.world, it };
}

test("silence is asked about, then ends the connection", () => {
  const { world, it } = following();
  world.pass(20_000);
  assert.deepEqual(world.socket.sent(), [{ type: "ping" }]);
  world.socket.deliver({ event: "pong" });
  world.pass(25_000);
  assert.equal(it.status.state, "online");
  world.pass(20_000);
  assert.equal(it.status.state, "waiting", "45 s after the last frame");
});

test("a chat goes on at its cursor; what it has already is dropped", () => {
  const { world, it } = following();
  assert.deepEqual(reconnect(world), [{ type: "attach", chat_id: "c", after: { epoch: "e1", seq: 3 } }]);
  const missed = log([said("new", "t2"), delta("a"), delta("b")], { first: 4, turn: "t2" });
  world.socket.deliver(attached(6, true), ...missed, ...missed, replayEnd(6), ...missed.slice(1));
  assert.deepEqual(it.chat("c")?.cursor, { epoch: "e1", seq: 6 });
  assert.equal(it.chat("c")?.turns[1]?.items[0]?.kind === "text" && it.chat("c")?.turns[1]?.items.length, 1);
  const item = it.chat("c")!.turns[1]!.items[0]!;
  assert.equal(item.kind === "text" && item.text, "ab");
});

test("a hole is healed by attaching once more, then by a snapshot", () => {
  const { world, it } = following();
  const [four, five, six, seven] = log([said("new", "t2"), delta("a"), delta("b"), delta("c")], { first: 4, turn: "t2" });
  world.socket.sent();
  world.socket.deliver(four!, six!, seven!);
  assert.deepEqual(world.socket.sent(), [{ type: "attach", chat_id: "c", after: { epoch: "e1", seq: 4 } }], "once, however much follows");
  world.socket.deliver(attached(7, true), five!, six!, seven!, replayEnd(7));
  assert.equal(it.chat("c")?.cursor?.seq, 7);
  world.socket.deliver({ ...seven!, seq: 9 }, attached(9, true), replayEnd(9));
  assert.deepEqual(world.socket.sent(), [{ type: "attach", chat_id: "c", after: { epoch: "e1", seq: 7 } }, { type: "attach", chat_id: "c" }]);
});

test("a message is acknowledged in place of its user_message", () => {
  const { world, it, store } = following();
  world.socket.sent();
  const turn_id = it.send("c", "hello");
  assert.deepEqual(world.socket.sent(), [{ type: "message", chat_id: "c", content: "hello", turn_id }]);
  assert.equal(it.unsent("c").length, 1);
  world.socket.deliver(accepted(turn_id, 4), ...log([delta("hi")], { first: 5, turn: turn_id }));
  assert.deepEqual([it.unsent("c"), store.map.size], [[], 0]);
  assert.deepEqual(it.chat("c")?.turns.map((turn) => turn.user?.text), ["old", "hello"]);
  assert.equal(it.chat("c")?.cursor?.seq, 5);
});

test("an unacknowledged message is sent again under its id, also by the next page", () => {
  const { world, it, store } = following();
  const turn_id = it.send("c", "hello");
  assert.deepEqual(reconnect(world)[1], { type: "message", chat_id: "c", content: "hello", turn_id });
  const next = client(store);
  next.it.start();
  assert.deepEqual(greet(next.world), [{ type: "message", chat_id: "c", content: "hello", turn_id }]);
  next.world.socket.deliver(accepted(turn_id, 4, { duplicate: true }));
  assert.deepEqual([next.it.unsent("c"), store.map.size], [[], 0]);
});

test("a duplicate moves no cursor, and a message seen in the replay is not pending", () => {
  const { world, it } = following();
  const turn_id = it.send("c", "hello");
  reconnect(world);
  world.socket.deliver(attached(4, true), ...log([said("hello", turn_id)], { first: 4, turn: turn_id }), replayEnd(4));
  assert.deepEqual(it.unsent("c"), []);
  world.socket.deliver(accepted(turn_id, 4, { duplicate: true }));
  assert.equal(it.chat("c")?.cursor?.seq, 4);
  assert.equal(it.chat("c")?.turns.length, 2);
});

test("messages of a chat keep their order: the next waits for the acknowledgement", () => {
  const { world, it } = following();
  world.socket.sent();
  const [a, b] = [it.send("c", "a"), it.send("c", "b")];
  assert.equal(world.socket.sent().length, 1);
  world.socket.deliver(refusal("rate_limited", true, { turn_id: a, retry_after_ms: 3000 }));
  assert.equal(it.unsent("c")[0]?.delay?.code, "rate_limited");
  world.pass(2_999);
  assert.deepEqual(world.socket.sent(), [], "not sooner than told, and b does not overtake");
  world.pass(20_000);
  assert.deepEqual(world.socket.sent().filter((each) => each.type === "message").map((each) => each.type === "message" && each.turn_id), [a]);
  world.socket.deliver(accepted(a, 4));
  assert.equal(world.socket.sent()[0]?.type === "message" && it.unsent("c")[0]?.turnId, b);
});

test("a message refused for good waits for a person and lets the next one pass", () => {
  const { world, it } = following();
  const a = it.send("c", "a");
  it.send("c", "b");
  world.socket.deliver(refusal("turn_conflict", false, { turn_id: a }));
  assert.equal(it.unsent("c")[0]?.failure?.code, "turn_conflict");
  world.socket.sent();
  world.socket.deliver(accepted("id2", 4));
  assert.deepEqual(world.socket.sent(), [], "it would be refused again");
  it.discard(a);
  assert.deepEqual(it.unsent("c"), []);
});

test("a message over the gateway's limit is not sent at all", () => {
  const { world, it } = following();
  world.socket.sent();
  it.send("c", "ä".repeat(51));
  assert.deepEqual(world.socket.sent(), []);
  assert.equal(it.unsent("c")[0]?.failure?.code, "too_large");
});

test("a message that closes the connection is not sent again and again", () => {
  const { world, it } = following();
  it.send("c", "big");
  assert.deepEqual(reconnect(world, 1009).map((each) => each.type), ["attach"]);
  assert.equal(it.unsent("c")[0]?.failure?.code, "too_large");
});

test("a new chat comes into being with its first message, whenever that arrives", () => {
  const { world, it } = client();
  it.open("c", true);
  it.start();
  assert.deepEqual(greet(world), [], "nothing to attach to yet");
  const turn_id = it.send("c", "first");
  assert.equal(world.socket.sent()[0]?.type, "message");
  world.socket.deliver(attached(0, false), replayEnd(0), accepted(turn_id, 1));
  assert.equal(it.chat("c")?.phase, "live");
  assert.equal(it.chat("c")?.turns[0]?.user?.text, "first");
});

test("a refused first message leaves a chat that can still be begun", () => {
  const { world, it } = client();
  it.open("c", true);
  it.start();
  greet(world);
  const turn_id = it.send("c", "first");
  world.socket.deliver(refusal("limit_reached", false, { turn_id }));
  assert.equal(it.chat("c")?.phase, "new");
  it.discard(turn_id);
  assert.deepEqual(reconnect(world), [], "there is nothing to attach to");
  const second = it.send("c", "second");
  world.socket.deliver(attached(0, false), replayEnd(0), accepted(second, 1));
  assert.equal(it.chat("c")?.turns[0]?.user?.text, "second");
});

test("an answer is sent once and not kept: the prompt may be gone by then", () => {
  const { world, it } = following();
  world.socket.sent();
  assert.ok(it.respond("c", "p", { decision: "deny", message: "no" }));
  assert.deepEqual(world.socket.sent(), [{ type: "respond", chat_id: "c", request_id: "p", decision: "deny", message: "no" }]);
  assert.ok(it.isResponding("c", "p"));
  world.socket.drop();
  assert.ok(!it.isResponding("c", "p"));
  assert.ok(!it.respond("c", "p", { decision: "allow" }));
});

test("an unknown chat says so and leaves the list", () => {
  const { world, it, errors } = client();
  it.open("c");
  it.start();
  greet(world);
  world.socket.deliver(refusal("unknown_chat", false));
  assert.equal(it.chat("c")?.phase, "unknown");
  assert.deepEqual(errors, []);
});

test("history is asked for once, and an answer that nobody waits for is dropped", () => {
  const { world, it } = following();
  world.socket.deliver({ ...snapshot(log([delta("x")], { first: 3 }), 3), before: "p1" });
  world.socket.sent();
  it.loadOlder("c");
  it.loadOlder("c");
  assert.deepEqual(world.socket.sent(), [{ type: "history", chat_id: "c", before: "p1", limit: 500 }]);
  const page = { event: "history", chat_id: "c", events: log([said("old"), delta("y")]) };
  world.socket.deliver(page, page);
  const item = it.chat("c")!.turns[0]!.items[0]!;
  assert.equal(item.kind === "text" && item.text, "yx");
});

test("a page of history that is refused is not asked for again by itself", () => {
  const { world, it, errors } = following();
  world.socket.deliver({ ...snapshot(log([delta("x")], { first: 3 }), 3), before: "p1" }, replayEnd(3));
  it.loadOlder("c");
  world.socket.deliver(refusal("damaged", false));
  assert.deepEqual([it.olderError("c")?.code, it.chat("c")?.phase, it.isLoadingOlder("c"), errors], ["damaged", "live", false, []]);
  it.loadOlder("c");
  assert.equal(it.olderError("c"), undefined, "somebody asks again");
});

test("a damaged chat is not followed any more, and keeps what was seen of it", () => {
  const { world, it, errors } = following();
  world.socket.deliver(...log([said("hello")], { first: 4 }), refusal("damaged", false));
  assert.deepEqual([it.chat("c")?.phase, it.chat("c")?.turns.length, errors], ["damaged", 1, []]);
  assert.deepEqual(reconnect(world), []);
  it.open("c");
  assert.deepEqual(world.socket.sent(), [{ type: "attach", chat_id: "c" , after: { epoch: "e1", seq: 4 } }], "asked for, it is tried");
});

test("a subscription that is refused for now is tried again", () => {
  const { world, it } = client();
  it.open("c");
  it.start();
  greet(world);
  for (const wait of [2_000 + 250, 2_000 + 500]) {
    world.socket.deliver({ ...refusal("unavailable", true), retry_after_ms: 2_000 });
    world.pass(wait - 1);
    assert.deepEqual(world.socket.sent(), []);
    world.pass(1);
    assert.deepEqual(world.socket.sent(), [{ type: "attach", chat_id: "c" }]);
  }
});

test("chats that others make are asked for together, and not while an answer is awaited", () => {
  const { world, it } = following();
  const made = (chat_id: string) => ({ event: "session_updated", chat_id, scope: "metadata" });
  world.socket.deliver({ event: "chats", chats: [] });
  world.socket.sent();
  world.socket.deliver(made("a"), made("b"));
  assert.deepEqual([world.socket.sent(), it.chats.items], [[], []], "when they were made and whether they run the list knows");
  world.pass(200);
  assert.deepEqual(world.socket.sent().map((each) => each.type), ["list_chats"]);
  world.socket.deliver(made("late"));
  world.pass(1_000);
  assert.deepEqual(world.socket.sent(), []);
  world.socket.deliver({ event: "chats", chats: [] });
  world.pass(200);
  assert.deepEqual(world.socket.sent().map((each) => each.type), ["list_chats"]);
});

test("why the gateway ended a connection is known until there is one again", () => {
  const { world, it } = following();
  world.socket.drop(1013, "The limit is 20.");
  const closed = { code: 1013, reason: "The limit is 20." };
  assert.deepEqual(it.status.state === "waiting" && it.status.closed, closed);
  it.wake();
  assert.deepEqual(it.status, { state: "connecting", closed });
  greet(world);
  assert.deepEqual(it.status, { state: "online" });
  world.socket.drop();
  assert.deepEqual(it.status.state === "waiting" && it.status.closed, { code: 1006, reason: "" });
});

test("what is not JSON, or of a newer gateway, is let be", () => {
  const { world, it } = following();
  world.socket.onmessage?.({ data: "{" });
  world.socket.onmessage?.({ data: new ArrayBuffer(2) });
  world.socket.deliver({ event: "of_tomorrow", chat_id: "c" }, ...log([{ event: "of_tomorrow" as "delta" }], { first: 4 }));
  assert.equal(it.chat("c")?.cursor?.seq, 4);
});

test("a deleted chat goes with what was about to be sent to it", () => {
  const { world, it, store } = following();
  it.chats.receive({ event: "chats", chats: [{ chat_id: "c", title: "C", updated_at_ms: 1, running: false, head: { epoch: "e1", seq: 3 } }] });
  it.send("c", "too late");
  it.send("c", "later still");
  assert.ok(it.delete("c"));
  assert.deepEqual(world.socket.sent().at(-1), { type: "delete_chat", chat_id: "c" });
  world.socket.deliver({ event: "session_updated", chat_id: "c", scope: "deleted" });
  assert.equal(it.chat("c")?.phase, "unknown");
  assert.deepEqual([it.unsent("c"), it.chats.items, store.keys()], [[], [], []]);
  assert.deepEqual(reconnect(world), [], "nothing asks for it again");
});

test("a new title shows where the chat is shown, and nowhere else", () => {
  const { world, it } = following();
  assert.ok(it.rename("c", "New"));
  assert.deepEqual(world.socket.sent().at(-1), { type: "rename_chat", chat_id: "c", title: "New" });
  world.socket.deliver({ event: "session_updated", chat_id: "c", scope: "metadata", title: "New" });
  assert.equal(it.chat("c")?.title, "New");
  world.socket.deliver({ event: "session_updated", chat_id: "old", scope: "metadata", title: "Far down" });
  assert.ok(!it.chats.has("old"));
});

test("pages of chats that were active at the same moment keep their order", () => {
  const { world, it } = following();
  const at = (chat_id: string, updated_at_ms: number) => ({ chat_id, updated_at_ms, running: false, head: { epoch: "e1", seq: 0 } });
  const ids = () => it.chats.items.map((chat) => chat.chat_id);
  world.socket.deliver({ event: "chats", chats: [at("z", 9), at("y", 5)], before: "p" });
  it.listChats(true);
  world.socket.deliver({ event: "chats", chats: [at("x", 5), at("b", 1)] });
  assert.deepEqual(ids(), ["z", "y", "x", "b"]);
  it.listChats();
  world.socket.deliver({ event: "chats", chats: [at("z", 9), at("y", 5)], before: "p" });
  assert.deepEqual(ids(), ["z", "y", "x", "b"], "the older page stays");
});

test("an answer is on its way only until its request is resolved, so an id that comes again can be answered", () => {
  const { world, it } = client();
  it.open("c");
  it.start();
  greet(world);
  const place = { chat_id: "c", epoch: "e1", turn_id: "t1" };
  world.socket.deliver({ event: "attached", chat_id: "c", epoch: "e1", head: 0, recovered: false }, { event: "replay_end", chat_id: "c", epoch: "e1", seq: 0 });
  const asked = { event: "permission_request", request_id: "p", tool: "Bash", input: {} };
  world.socket.deliver({ ...asked, ...place, seq: 1 });
  it.respond("c", "p", { decision: "allow" });
  assert.ok(it.isResponding("c", "p"));
  world.socket.deliver({ event: "request_resolved", request_id: "p", resolution: "allowed", ...place, seq: 2 });
  assert.ok(!it.isResponding("c", "p"));
  // Asked again although it was never resolved.
  world.socket.deliver({ ...asked, ...place, seq: 3 });
  it.respond("c", "p", { decision: "allow" });
  world.socket.deliver({ ...asked, ...place, seq: 4 });
  assert.ok(!it.isResponding("c", "p"));
});

test("a whole input comes page by page, and only pages that fit together make one", () => {
  const request = { chat_id: "c", request_id: "p" };
  const cut = { request_id: "p", tool: "Bash", input: {}, truncated: true, input_bytes: 11, input_sha256: "ab" };
  const text = "a\u00e9\u20ac\u{1f600}z";
  const page = (offset: number, part: string, next?: number, rest = {}) =>
    ({ event: "request_input", ...request, offset, text: part, input_bytes: 11, input_sha256: "ab", ...(next !== undefined && { next }), ...rest });
  const { world, it } = following();
  world.socket.sent();
  it.loadInput("c", cut);
  it.loadInput("c", cut);
  assert.deepEqual(world.socket.sent(), [{ type: "request_input", ...request, offset: 0 }]);
  world.socket.deliver(page(0, "a\u00e9", 3));
  assert.deepEqual(world.socket.sent(), [{ type: "request_input", ...request, offset: 3 }]);
  assert.equal(it.input("c", "p")?.phase, "loading");
  world.socket.deliver(page(3, "\u20ac\u{1f600}z"));
  assert.deepEqual(it.input("c", "p"), { text, next: 11, phase: "whole", announcedSha256: "ab", sha256: "ab" });
  assert.deepEqual(world.socket.sent(), []);
  it.respond("c", "p", { decision: "allow", input_sha256: "ab" });
  assert.deepEqual(world.socket.sent(), [{ type: "respond", ...request, decision: "allow", input_sha256: "ab" }]);

  const bad = [
    [page(1, text)], [page(0, "short")], [page(0, "a", 0)], [page(0, "a", 2)], [page(0, "", 0)], [page(0, `${text}more`)],
    [page(0, "a", 1), page(1, text.slice(1), undefined, { input_sha256: "cd" })], [page(0, "a", 1), page(0, text)],
  ];
  for (const pages of bad) {
    it.loadInput("c", cut);
    world.socket.deliver(...pages);
    assert.equal(it.input("c", "p")?.phase, "failed", JSON.stringify(pages));
  }
  it.loadInput("c", cut);
  world.socket.deliver({ event: "error", code: "unknown_request", detail: "", retryable: false, ...request });
  assert.equal(it.input("c", "p"), undefined);
});

test("the hash is of the text that was read, and another one than announced is no input", async () => {
  const sha256 = async (text: string) => createHash("sha256").update(text).digest("hex");
  const text = `{"command":"l\u20acs"}`;
  const right = await sha256(text);
  const settled = () => new Promise((done) => setImmediate(done));
  for (const announced of [right, "5a".repeat(32)]) {
    const { world, it } = following();
    world.sha256 = sha256;
    const request = { request_id: "p", tool: "Bash", input: {}, input_bytes: 19, input_sha256: announced };
    const page = { event: "request_input", chat_id: "c", request_id: "p", offset: 0, text, input_bytes: 19, input_sha256: announced };
    it.loadInput("c", { ...request, truncated: true });
    world.socket.sent();
    world.socket.deliver(page);
    assert.equal(it.input("c", "p")?.phase, "read");
    it.loadInput("c", { ...request, truncated: true });
    assert.deepEqual(world.socket.sent(), [], "it is being checked");
    await settled();
    assert.equal(it.input("c", "p")?.phase, announced === right ? "whole" : "failed");
    assert.equal(it.input("c", "p")?.sha256, announced === right ? right : undefined);

    // An event that has the whole text needs no pages.
    it.loadInput("c", { ...request, request_id: "r", raw: true, input: text });
    assert.deepEqual(world.socket.sent(), []);
    await settled();
    assert.equal(it.input("c", "r")?.phase, announced === right ? "whole" : "failed");
  }
  // What comes after the request is gone changes nothing.
  const { world, it } = following();
  world.sha256 = sha256;
  it.loadInput("c", { request_id: "r", tool: "Bash", raw: true, input: text, input_bytes: 19, input_sha256: right });
  world.socket.drop();
  await settled();
  assert.equal(it.input("c", "r"), undefined);
});

test("browsers and runtimes give SHA-256 where they have it", async () => {
  assert.equal(await defaultEnvironment().sha256?.("\u20ac"), createHash("sha256").update("\u20ac").digest("hex"));
});

test("a refused answer leaves its request open, with the words of the refusal", () => {
  const { world, it, errors } = following();
  const place = { chat_id: "c", epoch: "e1", turn_id: "t1" };
  const cut = { request_id: "p", tool: "Bash", input: {}, truncated: true, input_bytes: 1, input_sha256: "ab" };
  world.socket.deliver({ event: "permission_request", ...cut, ...place, seq: 4 });
  it.loadInput("c", cut);
  world.socket.deliver({ event: "request_input", chat_id: "c", request_id: "p", offset: 0, text: "1", input_bytes: 1, input_sha256: "ab" });
  let nth = 0;
  for (const code of ["invalid_field", "input_unseen", "unavailable", "input_unseen"]) {
    it.respond("c", "p", { decision: "allow", input_sha256: "ab" });
    assert.ok(it.isResponding("c", "p"));
    world.socket.deliver(refusal(code, false, { request_id: "p" }));
    assert.ok(!it.isResponding("c", "p"));
    const said = it.refusal("c", "p")!;
    assert.deepEqual([said.code, said.detail], [code, "no"]);
    assert.ok(said.nth > nth, "another one than before");
    nth = said.nth;
    assert.equal(it.input("c", "p") === undefined, nth > 1, "what was not seen is to be read again");
    assert.equal(openRequests(it.chat("c")!).length, 1);
  }
  assert.deepEqual(errors, [], "said where it is asked");
  world.socket.deliver({ event: "request_resolved", request_id: "p", resolution: "withdrawn", ...place, seq: 5 });
  assert.equal(it.refusal("c", "p"), undefined);
  it.respond("c", "p", { decision: "deny" });
  world.socket.deliver(refusal("already_resolved", false, { request_id: "p" }));
  assert.equal(it.refusal("c", "p"), undefined);
  assert.equal(errors.length, 1);
});

test("a gateway that can keep nothing says so until it can, and to each connection", () => {
  const { world, it } = client();
  it.start();
  greet(world);
  const notice = { event: "notice", code: "degraded", text: "Nothing can be kept: the disk is full." };
  world.socket.deliver({ ...notice, level: "error" });
  assert.equal(it.degraded, notice.text);
  world.socket.deliver({ ...notice, level: "info", text: "It can be kept again." });
  assert.equal(it.degraded, undefined);
  world.socket.deliver({ ...notice, level: "error" });
  world.socket.drop();
  assert.equal(it.degraded, undefined, "the next connection gets its own");
});

test("the agent is the gateway's until a chat tells its own, and no agent is known of an older gateway", () => {
  const { world, it } = client();
  it.open("c");
  it.start();
  world.socket.onopen?.();
  world.socket.deliver({ ...READY, agent: { agent: "claude", workspace: "~/src/x", sandbox: "shield", more: 1 } });
  assert.deepEqual(it.agent, { agent: "claude", workspace: "~/src/x", sandbox: "shield" });
  world.socket.deliver({ event: "attached", chat_id: "c", epoch: "e1", head: 3, recovered: false });
  assert.equal(it.chat("c")?.agent, undefined);
  world.socket.deliver({ event: "agent_state", chat_id: "c", agent: "demo", sandbox: "off" });
  assert.deepEqual(it.chat("c")?.agent, { agent: "demo", sandbox: "off" });
  const part = { event: "snapshot", chat_id: "c", epoch: "e1", seq: 3, part: 0, more: false, events: [] };
  world.socket.deliver({ ...part, state: { queue: [], requests: [] } });
  assert.equal(it.chat("c")?.agent?.agent, "demo", "a snapshot that says nothing takes nothing");
  world.socket.deliver({ ...part, state: { queue: [], requests: [], agent: { agent: "codex" } } });
  assert.deepEqual(it.chat("c")?.agent, { agent: "codex" });
  world.socket.drop();
  world.pass(20_000);
  greet(world);
  assert.equal(it.agent, undefined);
});

test("a turn that is being stopped asks nothing, until its stop is refused; after a lost connection it is stopped again", () => {
  const { world, it } = following();
  const asks = (seq: number, request_id: string) => ({ event: "permission_request", chat_id: "c", epoch: "e1", seq, turn_id: "t2", request_id, tool: "Bash", input: {} });
  const open = () => openRequests(it.chat("c")!).map(({ requestId }) => requestId);
  const begin = { chat_id: "c", epoch: "e1", turn_id: "t2" };
  world.socket.deliver({ ...begin, event: "user_message", seq: 4, text: "go", starts_turn: true, created_at_ms: 1 }, { ...begin, event: "turn_started", seq: 5, started_at_ms: 1 }, asks(6, "r1"));
  assert.deepEqual(open(), ["r1"]);
  world.socket.sent();
  const cancel = { type: "cancel", chat_id: "c", turn_id: "t2" };
  it.cancel("c", "t9");
  assert.equal(it.chat("c")?.stopping, undefined, "one that waits ends at once");
  world.socket.sent();
  it.cancel("c", "t2");
  assert.deepEqual(world.socket.sent(), [cancel]);
  world.socket.deliver(asks(7, "r2"));
  assert.deepEqual([it.chat("c")?.stopping, open()], ["t2", []]);
  world.socket.deliver(refusal("rate_limited", true, { turn_id: "t2" }));
  assert.deepEqual([it.chat("c")?.stopping, open()], [undefined, ["r1", "r2"]]);
  it.cancel("c", "t2");
  reconnect(world);
  world.socket.deliver(attached(7, true), replayEnd(7));
  assert.deepEqual(world.socket.sent().filter((each) => each.type === "cancel"), [cancel]);
  reconnect(world);
  world.socket.deliver(attached(8, true), { ...begin, event: "turn_end", seq: 8, outcome: "cancelled", latency_ms: 1 }, replayEnd(8));
  assert.deepEqual(world.socket.sent().filter((each) => each.type === "cancel"), []);
  assert.equal(it.chat("c")?.stopping, undefined);
});
