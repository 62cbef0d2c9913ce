import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { defaultEnvironment, openRequests } from "../../src/client/index.ts";
import { delta, turnEnd, log, userMessage } from "./log.ts";
import { newClient, completeHandshake, MemoryStore, type FakeEnvironment, READY } from "./harness.ts";

const attached = (head: number, recovered: boolean, epoch = "e1") => ({ event: "attached", chat_id: "c", epoch, head, recovered });
const replayEnd = (seq: number, epoch = "e1") => ({ event: "replay_end", chat_id: "c", epoch, seq });
const snapshot = (events: object[], seq: number) => ({ event: "snapshot", chat_id: "c", epoch: "e1", seq, part: 0, more: false, events });
const accepted = (turn_id: string, seq: number, rest = {}) => ({ event: "message_accepted", chat_id: "c", turn_id, starts_turn: true, epoch: "e1", seq, ...rest });
const refusal = (code: string, retryable: boolean, rest = {}) => ({ event: "error", code, detail: "no", retryable, chat_id: "c", ...rest });

/** A client that has attached chat `c`, whose only turn ends at sequence number 3. */
function attachedClient(store = new MemoryStore()) {
  const fakes = newClient(store);
  fakes.client.open("c");
  fakes.client.start();
  completeHandshake(fakes.environment);
  fakes.environment.socket.deliver(attached(3, false), snapshot(log([userMessage("old"), delta("answer"), turnEnd()]), 3), replayEnd(3));
  return fakes;
}

/** Loses the connection and completes the handshake of the next one. Gives the frames that were sent after it. */
function reconnect(environment: FakeEnvironment, code = 1006) {
  environment.socket.drop(code);
  environment.advance(20_000);
  return completeHandshake(environment);
}

test("the token is sent first, and chats are attached after ready", () => {
  const { environment, client } = newClient();
  client.open("c");
  client.start();
  environment.socket.onopen?.();
  assert.deepEqual(environment.socket.sent(), [{ type: "authenticate", token: "secret" }]);
  environment.socket.onclose = null;
  assert.deepEqual(completeHandshake(environment), [{ type: "attach", chat_id: "c" }]);
  assert.equal(client.status.state, "online");
});

test("a failed first connection is retried with growing waits", () => {
  const { environment, client } = newClient();
  client.start();
  const waits: number[] = [];
  for (let attempt = 0; attempt < 9; attempt += 1) {
    environment.socket.drop();
    assert.ok(client.status.state === "waiting");
    waits.push(client.status.retryAt - environment.now());
    environment.advance(waits.at(-1)!);
  }
  assert.deepEqual(waits, [250, 500, 1000, 2000, 4000, 7500, 7500, 7500, 7500]);
  assert.equal(environment.sockets.length, 10);
});

test("a connection on which nothing arrives is given up", () => {
  const { environment, client } = newClient();
  client.start();
  environment.advance(10_000);
  assert.equal(client.status.state, "waiting");
  assert.ok(environment.sockets[0]!.closed);
});

test("waking up ends the wait before a retry", () => {
  const { environment, client } = newClient();
  client.start();
  environment.socket.drop();
  client.wake();
  assert.equal(environment.sockets.length, 2);
});

test("after refused credentials or a replaced connection there are no more attempts", () => {
  for (const [code, reason] of [[4401, "unauthorized"], [4409, "replaced"]] as const) {
    const { environment, client } = attachedClient();
    environment.socket.drop(code);
    environment.advance(60_000);
    assert.deepEqual(client.status, { state: "stopped", reason, closed: { code, reason: "" } });
    assert.equal(environment.sockets.length, 1);
    client.start();
    assert.deepEqual(completeHandshake(environment), [{ type: "attach", chat_id: "c", after: { epoch: "e1", seq: 3 } }]);
  }
});

test("without a token, silence means that the gateway needs one", () => {
  const { environment, client } = newClient(new MemoryStore(), "");
  const { environment: bare, client: tokenless } = clientWithoutToken();
  tokenless.start();
  bare.socket.onopen?.();
  assert.deepEqual(bare.socket.sent(), []);
  bare.advance(1_500);
  assert.deepEqual(tokenless.status, { state: "stopped", reason: "unauthorized", closed: { code: 4401, reason: "" } });
  client.start();
  completeHandshake(environment);
  assert.equal(client.status.state, "online");
});

function clientWithoutToken() {
  const fakes = newClient();
  const client = new (fakes.client.constructor as typeof import("../../src/client/client.ts").Client)({ url: () => "ws://x", token: () => undefined, environment: fakes.environment });
  return { environment: fakes.environment, client };
}

test("silence leads to a ping, and without an answer to a new connection", () => {
  const { environment, client } = attachedClient();
  environment.advance(20_000);
  assert.deepEqual(environment.socket.sent(), [{ type: "ping" }]);
  environment.socket.deliver({ event: "pong" });
  environment.advance(25_000);
  assert.equal(client.status.state, "online");
  environment.advance(20_000);
  assert.equal(client.status.state, "waiting", "45 s after the last frame");
});

test("a chat resumes from its cursor, and duplicate events are dropped", () => {
  const { environment, client } = attachedClient();
  assert.deepEqual(reconnect(environment), [{ type: "attach", chat_id: "c", after: { epoch: "e1", seq: 3 } }]);
  const missed = log([userMessage("new", "t2"), delta("a"), delta("b")], { first: 4, turn: "t2" });
  environment.socket.deliver(attached(6, true), ...missed, ...missed, replayEnd(6), ...missed.slice(1));
  assert.deepEqual(client.chat("c")?.cursor, { epoch: "e1", seq: 6 });
  assert.equal(client.chat("c")?.turns[1]?.items[0]?.kind === "text" && client.chat("c")?.turns[1]?.items.length, 1);
  const item = client.chat("c")!.turns[1]!.items[0]!;
  assert.equal(item.kind === "text" && item.text, "ab");
});

test("after a gap the chat is attached again, then loaded from a snapshot", () => {
  const { environment, client } = attachedClient();
  const [four, five, six, seven] = log([userMessage("new", "t2"), delta("a"), delta("b"), delta("c")], { first: 4, turn: "t2" });
  environment.socket.sent();
  environment.socket.deliver(four!, six!, seven!);
  assert.deepEqual(environment.socket.sent(), [{ type: "attach", chat_id: "c", after: { epoch: "e1", seq: 4 } }], "only one attach, however many events follow the gap");
  environment.socket.deliver(attached(7, true), five!, six!, seven!, replayEnd(7));
  assert.equal(client.chat("c")?.cursor?.seq, 7);
  environment.socket.deliver({ ...seven!, seq: 9 }, attached(9, true), replayEnd(9));
  assert.deepEqual(environment.socket.sent(), [{ type: "attach", chat_id: "c", after: { epoch: "e1", seq: 7 } }, { type: "attach", chat_id: "c" }]);
});

test("message_accepted stands for the user_message of the sender", () => {
  const { environment, client, store } = attachedClient();
  environment.socket.sent();
  const turn_id = client.send("c", "hello");
  assert.deepEqual(environment.socket.sent(), [{ type: "message", chat_id: "c", content: "hello", turn_id }]);
  assert.equal(client.unsent("c").length, 1);
  environment.socket.deliver(accepted(turn_id, 4), ...log([delta("hi")], { first: 5, turn: turn_id }));
  assert.deepEqual([client.unsent("c"), store.map.size], [[], 0]);
  assert.deepEqual(client.chat("c")?.turns.map((turn) => turn.user?.text), ["old", "hello"]);
  assert.equal(client.chat("c")?.cursor?.seq, 5);
});

test("an unacknowledged message is sent again under its id, also by the next page", () => {
  const { environment, client, store } = attachedClient();
  const turn_id = client.send("c", "hello");
  assert.deepEqual(reconnect(environment)[1], { type: "message", chat_id: "c", content: "hello", turn_id });
  const next = newClient(store);
  next.client.start();
  assert.deepEqual(completeHandshake(next.environment), [{ type: "message", chat_id: "c", content: "hello", turn_id }]);
  next.environment.socket.deliver(accepted(turn_id, 4, { duplicate: true }));
  assert.deepEqual([next.client.unsent("c"), store.map.size], [[], 0]);
});

test("a duplicate moves no cursor, and a message in the replay is no longer unsent", () => {
  const { environment, client } = attachedClient();
  const turn_id = client.send("c", "hello");
  reconnect(environment);
  environment.socket.deliver(attached(4, true), ...log([userMessage("hello", turn_id)], { first: 4, turn: turn_id }), replayEnd(4));
  assert.deepEqual(client.unsent("c"), []);
  environment.socket.deliver(accepted(turn_id, 4, { duplicate: true }));
  assert.equal(client.chat("c")?.cursor?.seq, 4);
  assert.equal(client.chat("c")?.turns.length, 2);
});

test("the next message of a chat waits until the one before is acknowledged", () => {
  const { environment, client } = attachedClient();
  environment.socket.sent();
  const [a, b] = [client.send("c", "a"), client.send("c", "b")];
  assert.equal(environment.socket.sent().length, 1);
  environment.socket.deliver(refusal("rate_limited", true, { turn_id: a, retry_after_ms: 3000 }));
  assert.equal(client.unsent("c")[0]?.delay?.code, "rate_limited");
  environment.advance(2_999);
  assert.deepEqual(environment.socket.sent(), [], "not before the time that the gateway gave, and b stays behind a");
  environment.advance(20_000);
  assert.deepEqual(environment.socket.sent().filter((each) => each.type === "message").map((each) => each.type === "message" && each.turn_id), [a]);
  environment.socket.deliver(accepted(a, 4));
  assert.equal(environment.socket.sent()[0]?.type === "message" && client.unsent("c")[0]?.turnId, b);
});

test("a message refused for good stays in the outbox, and the next one is sent", () => {
  const { environment, client } = attachedClient();
  const a = client.send("c", "a");
  client.send("c", "b");
  environment.socket.deliver(refusal("turn_conflict", false, { turn_id: a }));
  assert.equal(client.unsent("c")[0]?.failure?.code, "turn_conflict");
  environment.socket.sent();
  environment.socket.deliver(accepted("id2", 4));
  assert.deepEqual(environment.socket.sent(), [], "a message refused for good is not sent again");
  client.discard(a);
  assert.deepEqual(client.unsent("c"), []);
});

test("a message over the gateway's limit is not sent", () => {
  const { environment, client } = attachedClient();
  environment.socket.sent();
  client.send("c", "ä".repeat(51));
  assert.deepEqual(environment.socket.sent(), []);
  assert.equal(client.unsent("c")[0]?.failure?.code, "too_large");
});

test("a message that makes the gateway close the connection is not sent again", () => {
  const { environment, client } = attachedClient();
  client.send("c", "big");
  assert.deepEqual(reconnect(environment, 1009).map((each) => each.type), ["attach"]);
  assert.equal(client.unsent("c")[0]?.failure?.code, "too_large");
});

test("the first message creates a new chat, even if it is sent after a delay", () => {
  const { environment, client } = newClient();
  client.open("c", true);
  client.start();
  assert.deepEqual(completeHandshake(environment), [], "a chat that does not exist yet is not attached");
  const turn_id = client.send("c", "first");
  assert.equal(environment.socket.sent()[0]?.type, "message");
  environment.socket.deliver(attached(0, false), replayEnd(0), accepted(turn_id, 1));
  assert.equal(client.chat("c")?.phase, "live");
  assert.equal(client.chat("c")?.turns[0]?.user?.text, "first");
});

test("after a refused first message, the next one creates the chat", () => {
  const { environment, client } = newClient();
  client.open("c", true);
  client.start();
  completeHandshake(environment);
  const turn_id = client.send("c", "first");
  environment.socket.deliver(refusal("limit_reached", false, { turn_id }));
  assert.equal(client.chat("c")?.phase, "new");
  client.discard(turn_id);
  assert.deepEqual(reconnect(environment), [], "a chat that does not exist yet is not attached");
  const second = client.send("c", "second");
  environment.socket.deliver(attached(0, false), replayEnd(0), accepted(second, 1));
  assert.equal(client.chat("c")?.turns[0]?.user?.text, "second");
});

test("an answer is sent once and never stored for later", () => {
  const { environment, client } = attachedClient();
  environment.socket.sent();
  assert.ok(client.respond("c", "p", { decision: "deny", message: "no" }));
  assert.deepEqual(environment.socket.sent(), [{ type: "respond", chat_id: "c", request_id: "p", decision: "deny", message: "no" }]);
  assert.ok(client.isResponding("c", "p"));
  environment.socket.drop();
  assert.ok(!client.isResponding("c", "p"));
  assert.ok(!client.respond("c", "p", { decision: "allow" }));
});

test("an unknown chat gets phase unknown and leaves the list", () => {
  const { environment, client, errors } = newClient();
  client.open("c");
  client.start();
  completeHandshake(environment);
  environment.socket.deliver(refusal("unknown_chat", false));
  assert.equal(client.chat("c")?.phase, "unknown");
  assert.deepEqual(errors, []);
});

test("history is requested once at a time, and an answer that is not awaited is dropped", () => {
  const { environment, client } = attachedClient();
  environment.socket.deliver({ ...snapshot(log([delta("x")], { first: 3 }), 3), before: "p1" });
  environment.socket.sent();
  client.loadOlder("c");
  client.loadOlder("c");
  assert.deepEqual(environment.socket.sent(), [{ type: "history", chat_id: "c", before: "p1", limit: 500 }]);
  const page = { event: "history", chat_id: "c", events: log([userMessage("old"), delta("y")]) };
  environment.socket.deliver(page, page);
  const item = client.chat("c")!.turns[0]!.items[0]!;
  assert.equal(item.kind === "text" && item.text, "yx");
});

test("a refused page of history is not requested again automatically", () => {
  const { environment, client, errors } = attachedClient();
  environment.socket.deliver({ ...snapshot(log([delta("x")], { first: 3 }), 3), before: "p1" }, replayEnd(3));
  client.loadOlder("c");
  environment.socket.deliver(refusal("damaged", false));
  assert.deepEqual([client.olderError("c")?.code, client.chat("c")?.phase, client.isLoadingOlder("c"), errors], ["damaged", "live", false, []]);
  client.loadOlder("c");
  assert.equal(client.olderError("c"), undefined, "only a new call of loadOlder requests the page again");
});

test("a damaged chat is not attached again, and its turns stay visible", () => {
  const { environment, client, errors } = attachedClient();
  environment.socket.deliver(...log([userMessage("hello")], { first: 4 }), refusal("damaged", false));
  assert.deepEqual([client.chat("c")?.phase, client.chat("c")?.turns.length, errors], ["damaged", 1, []]);
  assert.deepEqual(reconnect(environment), []);
  client.open("c");
  assert.deepEqual(environment.socket.sent(), [{ type: "attach", chat_id: "c" , after: { epoch: "e1", seq: 4 } }], "opened again, it is attached");
});

test("a subscription that is refused for now is retried", () => {
  const { environment, client } = newClient();
  client.open("c");
  client.start();
  completeHandshake(environment);
  for (const wait of [2_000 + 250, 2_000 + 500]) {
    environment.socket.deliver({ ...refusal("unavailable", true), retry_after_ms: 2_000 });
    environment.advance(wait - 1);
    assert.deepEqual(environment.socket.sent(), []);
    environment.advance(1);
    assert.deepEqual(environment.socket.sent(), [{ type: "attach", chat_id: "c" }]);
  }
});

test("several changes of other chats lead to one listing, and not while an answer is awaited", () => {
  const { environment, client } = attachedClient();
  const created = (chat_id: string) => ({ event: "session_updated", chat_id, scope: "metadata" });
  environment.socket.deliver({ event: "chats", chats: [] });
  environment.socket.sent();
  environment.socket.deliver(created("a"), created("b"), { event: "chats_changed" });
  assert.deepEqual([environment.socket.sent(), client.chats.items], [[], []], "only the chat list has their time and state");
  environment.advance(200);
  assert.deepEqual(environment.socket.sent().map((each) => each.type), ["list_chats"]);
  environment.socket.deliver(created("late"));
  environment.advance(1_000);
  assert.deepEqual(environment.socket.sent(), []);
  environment.socket.deliver({ event: "chats", chats: [] });
  environment.advance(200);
  assert.deepEqual(environment.socket.sent().map((each) => each.type), ["list_chats"]);
  environment.socket.deliver({ event: "chats", chats: [] }, { event: "chats_changed" });
  environment.advance(200);
  assert.deepEqual(environment.socket.sent().map((each) => each.type), ["list_chats"]);
});

test("the reason for the end of a connection is kept until the next one is ready", () => {
  const { environment, client } = attachedClient();
  environment.socket.drop(1013, "The limit is 20.");
  const closed = { code: 1013, reason: "The limit is 20." };
  assert.deepEqual(client.status.state === "waiting" && client.status.closed, closed);
  client.wake();
  assert.deepEqual(client.status, { state: "connecting", closed });
  completeHandshake(environment);
  assert.deepEqual(client.status, { state: "online" });
  environment.socket.drop();
  assert.deepEqual(client.status.state === "waiting" && client.status.closed, { code: 1006, reason: "" });
});

test("frames that are not JSON, and events of newer gateways, are ignored", () => {
  const { environment, client } = attachedClient();
  environment.socket.onmessage?.({ data: "{" });
  environment.socket.onmessage?.({ data: new ArrayBuffer(2) });
  environment.socket.deliver({ event: "of_tomorrow", chat_id: "c" }, ...log([{ event: "of_tomorrow" as "delta" }], { first: 4 }));
  assert.equal(client.chat("c")?.cursor?.seq, 4);
});

test("messages that wait to be sent to a deleted chat are dropped", () => {
  const { environment, client, store } = attachedClient();
  client.chats.receive({ event: "chats", chats: [{ chat_id: "c", title: "C", updated_at_ms: 1, running: false, head: { epoch: "e1", seq: 3 } }] });
  client.send("c", "too late");
  client.send("c", "later still");
  assert.ok(client.delete("c"));
  assert.deepEqual(environment.socket.sent().at(-1), { type: "delete_chat", chat_id: "c" });
  environment.socket.deliver({ event: "session_updated", chat_id: "c", scope: "deleted" });
  assert.deepEqual([client.chat("c")?.phase, client.chat("c")?.deleted], ["unknown", true]);
  assert.deepEqual([client.unsent("c"), client.chats.items, store.keys()], [[], [], []]);
  assert.deepEqual(reconnect(environment), [], "the deleted chat is not attached again");
  client.open("c");
  environment.socket.deliver({ event: "error", code: "unknown_chat", detail: "none", retryable: false, chat_id: "c" });
  assert.deepEqual([client.chat("c")?.phase, client.chat("c")?.deleted], ["unknown", true]);
});

test("a new title changes the chat and its entry in the list", () => {
  const { environment, client } = attachedClient();
  assert.ok(client.rename("c", "New"));
  assert.deepEqual(environment.socket.sent().at(-1), { type: "rename_chat", chat_id: "c", title: "New" });
  environment.socket.deliver({ event: "session_updated", chat_id: "c", scope: "metadata", title: "New" });
  assert.equal(client.chat("c")?.title, "New");
  environment.socket.deliver({ event: "session_updated", chat_id: "old", scope: "metadata", title: "Far down" });
  assert.ok(!client.chats.has("old"));
});

test("chats with the same time of activity keep their order over several pages", () => {
  const { environment, client } = attachedClient();
  const at = (chat_id: string, updated_at_ms: number) => ({ chat_id, updated_at_ms, running: false, head: { epoch: "e1", seq: 0 } });
  const ids = () => client.chats.items.map((chat) => chat.chat_id);
  environment.socket.deliver({ event: "chats", chats: [at("z", 9), at("y", 5)], before: "p" });
  client.listChats(true);
  environment.socket.deliver({ event: "chats", chats: [at("x", 5), at("b", 1)] });
  assert.deepEqual(ids(), ["z", "y", "x", "b"]);
  client.listChats();
  environment.socket.deliver({ event: "chats", chats: [at("z", 9), at("y", 5)], before: "p" });
  assert.deepEqual(ids(), ["z", "y", "x", "b"], "the older page stays in the list");
});

test("an answer counts as being sent only until its request is resolved, so a reused request id can be answered", () => {
  const { environment, client } = newClient();
  client.open("c");
  client.start();
  completeHandshake(environment);
  const place = { chat_id: "c", epoch: "e1", turn_id: "t1" };
  environment.socket.deliver({ event: "attached", chat_id: "c", epoch: "e1", head: 0, recovered: false }, { event: "replay_end", chat_id: "c", epoch: "e1", seq: 0 });
  const permission = { event: "permission_request", request_id: "p", tool: "Bash", input: {} };
  environment.socket.deliver({ ...permission, ...place, seq: 1 });
  client.respond("c", "p", { decision: "allow" });
  assert.ok(client.isResponding("c", "p"));
  environment.socket.deliver({ event: "request_resolved", request_id: "p", resolution: "allowed", ...place, seq: 2 });
  assert.ok(!client.isResponding("c", "p"));
  // The same request id again, although the first request was never resolved.
  environment.socket.deliver({ ...permission, ...place, seq: 3 });
  client.respond("c", "p", { decision: "allow" });
  environment.socket.deliver({ ...permission, ...place, seq: 4 });
  assert.ok(!client.isResponding("c", "p"));
});

test("an input is loaded page by page, and fails if the pages do not continue each other", () => {
  const request = { chat_id: "c", request_id: "p" };
  const cut = { request_id: "p", tool: "Bash", input: {}, truncated: true, input_bytes: 11, input_sha256: "ab" };
  const text = "a\u00e9\u20ac\u{1f600}z";
  const page = (offset: number, part: string, next?: number, rest = {}) =>
    ({ event: "request_input", ...request, offset, text: part, input_bytes: 11, input_sha256: "ab", ...(next !== undefined && { next }), ...rest });
  const { environment, client } = attachedClient();
  environment.socket.sent();
  client.loadInput("c", cut);
  client.loadInput("c", cut);
  assert.deepEqual(environment.socket.sent(), [{ type: "request_input", ...request, offset: 0 }]);
  environment.socket.deliver(page(0, "a\u00e9", 3));
  assert.deepEqual(environment.socket.sent(), [{ type: "request_input", ...request, offset: 3 }]);
  assert.equal(client.input("c", "p")?.phase, "loading");
  environment.socket.deliver(page(3, "\u20ac\u{1f600}z"));
  assert.deepEqual(client.input("c", "p"), { text, next: 11, phase: "whole", announcedSha256: "ab", sha256: "ab" });
  assert.deepEqual(environment.socket.sent(), []);
  client.respond("c", "p", { decision: "allow", input_sha256: "ab" });
  assert.deepEqual(environment.socket.sent(), [{ type: "respond", ...request, decision: "allow", input_sha256: "ab" }]);

  const bad = [
    [page(1, text)], [page(0, "short")], [page(0, "a", 0)], [page(0, "a", 2)], [page(0, "", 0)], [page(0, `${text}more`)],
    [page(0, "a", 1), page(1, text.slice(1), undefined, { input_sha256: "cd" })], [page(0, "a", 1), page(0, text)],
  ];
  for (const pages of bad) {
    client.loadInput("c", cut);
    environment.socket.deliver(...pages);
    assert.equal(client.input("c", "p")?.phase, "failed", JSON.stringify(pages));
  }
  client.loadInput("c", cut);
  environment.socket.deliver({ event: "error", code: "unknown_request", detail: "", retryable: false, ...request });
  assert.equal(client.input("c", "p"), undefined);
});

test("the hash is computed from the loaded text, and an input with another hash than announced fails", async () => {
  const sha256 = async (text: string) => createHash("sha256").update(text).digest("hex");
  const text = `{"command":"l\u20acs"}`;
  const right = await sha256(text);
  const settled = () => new Promise((done) => setImmediate(done));
  for (const announced of [right, "5a".repeat(32)]) {
    const { environment, client } = attachedClient();
    environment.sha256 = sha256;
    const request = { request_id: "p", tool: "Bash", input: {}, input_bytes: 19, input_sha256: announced };
    const page = { event: "request_input", chat_id: "c", request_id: "p", offset: 0, text, input_bytes: 19, input_sha256: announced };
    client.loadInput("c", { ...request, truncated: true });
    environment.socket.sent();
    environment.socket.deliver(page);
    assert.equal(client.input("c", "p")?.phase, "read");
    client.loadInput("c", { ...request, truncated: true });
    assert.deepEqual(environment.socket.sent(), [], "the hash is being computed");
    await settled();
    assert.equal(client.input("c", "p")?.phase, announced === right ? "whole" : "failed");
    assert.equal(client.input("c", "p")?.sha256, announced === right ? right : undefined);

    // An event with the whole text needs no pages.
    client.loadInput("c", { ...request, request_id: "r", raw: true, input: text });
    assert.deepEqual(environment.socket.sent(), []);
    await settled();
    assert.equal(client.input("c", "r")?.phase, announced === right ? "whole" : "failed");
  }
  // A page that arrives after the request was resolved changes nothing.
  const { environment, client } = attachedClient();
  environment.sha256 = sha256;
  client.loadInput("c", { request_id: "r", tool: "Bash", raw: true, input: text, input_bytes: 19, input_sha256: right });
  environment.socket.drop();
  await settled();
  assert.equal(client.input("c", "r"), undefined);
});

test("the default environment has SHA-256 where the runtime does", async () => {
  assert.equal(await defaultEnvironment().sha256?.("\u20ac"), createHash("sha256").update("\u20ac").digest("hex"));
});

test("a refused answer leaves its request open, and the refusal can be read", () => {
  const { environment, client, errors } = attachedClient();
  const place = { chat_id: "c", epoch: "e1", turn_id: "t1" };
  const cut = { request_id: "p", tool: "Bash", input: {}, truncated: true, input_bytes: 1, input_sha256: "ab" };
  environment.socket.deliver({ event: "permission_request", ...cut, ...place, seq: 4 });
  client.loadInput("c", cut);
  environment.socket.deliver({ event: "request_input", chat_id: "c", request_id: "p", offset: 0, text: "1", input_bytes: 1, input_sha256: "ab" });
  let nth = 0;
  for (const code of ["invalid_field", "input_unseen", "unavailable", "input_unseen"]) {
    client.respond("c", "p", { decision: "allow", input_sha256: "ab" });
    assert.ok(client.isResponding("c", "p"));
    environment.socket.deliver(refusal(code, false, { request_id: "p" }));
    assert.ok(!client.isResponding("c", "p"));
    const latest = client.refusal("c", "p")!;
    assert.deepEqual([latest.code, latest.detail], [code, "no"]);
    assert.ok(latest.nth > nth, "a new refusal");
    nth = latest.nth;
    assert.equal(client.input("c", "p") === undefined, nth > 1, "after input_unseen the input has to be loaded again");
    assert.equal(openRequests(client.chat("c")!).length, 1);
  }
  assert.deepEqual(errors, [], "the refusal is shown at the request");
  environment.socket.deliver({ event: "request_resolved", request_id: "p", resolution: "withdrawn", ...place, seq: 5 });
  assert.equal(client.refusal("c", "p"), undefined);
  client.respond("c", "p", { decision: "deny" });
  environment.socket.deliver(refusal("already_resolved", false, { request_id: "p" }));
  assert.equal(client.refusal("c", "p"), undefined);
  assert.equal(errors.length, 1);
});

test("a degraded gateway is reported until it recovers, and again after a reconnect", () => {
  const { environment, client } = newClient();
  client.start();
  completeHandshake(environment);
  const notice = { event: "notice", code: "degraded", text: "Nothing can be kept: the disk is full." };
  environment.socket.deliver({ ...notice, level: "error" });
  assert.equal(client.degraded, notice.text);
  environment.socket.deliver({ ...notice, level: "info", text: "It can be kept again." });
  assert.equal(client.degraded, undefined);
  environment.socket.deliver({ ...notice, level: "error" });
  environment.socket.drop();
  assert.equal(client.degraded, undefined, "a new connection gets the notice again");
});

test("the gateway's default agent applies until a chat has its own; older gateways send none", () => {
  const { environment, client } = newClient();
  client.open("c");
  client.start();
  environment.socket.onopen?.();
  environment.socket.deliver({ ...READY, agent: { agent: "claude", workspace: "~/src/x", sandbox: "shield", more: 1 } });
  assert.deepEqual(client.agent, { agent: "claude", workspace: "~/src/x", sandbox: "shield" });
  environment.socket.deliver({ event: "attached", chat_id: "c", epoch: "e1", head: 3, recovered: false });
  assert.equal(client.chat("c")?.agent, undefined);
  environment.socket.deliver({ event: "agent_state", chat_id: "c", agent: "demo", sandbox: "off" });
  assert.deepEqual(client.chat("c")?.agent, { agent: "demo", sandbox: "off" });
  const part = { event: "snapshot", chat_id: "c", epoch: "e1", seq: 3, part: 0, more: false, events: [] };
  environment.socket.deliver({ ...part, state: { queue: [], requests: [] } });
  assert.equal(client.chat("c")?.agent?.agent, "demo", "a snapshot without an agent keeps the one before");
  environment.socket.deliver({ ...part, state: { queue: [], requests: [], agent: { agent: "codex" } } });
  assert.deepEqual(client.chat("c")?.agent, { agent: "codex" });
  environment.socket.drop();
  environment.advance(20_000);
  completeHandshake(environment);
  assert.equal(client.agent, undefined);
});

test("a turn that is being stopped has no open requests, unless the stop is refused; after a lost connection the stop is sent again", () => {
  const { environment, client } = attachedClient();
  const asks = (seq: number, request_id: string) => ({ event: "permission_request", chat_id: "c", epoch: "e1", seq, turn_id: "t2", request_id, tool: "Bash", input: {} });
  const open = () => openRequests(client.chat("c")!).map(({ requestId }) => requestId);
  const begin = { chat_id: "c", epoch: "e1", turn_id: "t2" };
  environment.socket.deliver({ ...begin, event: "user_message", seq: 4, text: "go", starts_turn: true, created_at_ms: 1 }, { ...begin, event: "turn_started", seq: 5, started_at_ms: 1 }, asks(6, "r1"));
  assert.deepEqual(open(), ["r1"]);
  environment.socket.sent();
  const cancel = { type: "cancel", chat_id: "c", turn_id: "t2" };
  client.cancel("c", "t9");
  assert.deepEqual(client.chat("c")?.stopping, [], "a queued turn ends at once, so it is not marked as stopping");
  environment.socket.sent();
  client.cancel("c", "t2");
  assert.deepEqual(environment.socket.sent(), [cancel]);
  environment.socket.deliver(asks(7, "r2"));
  assert.deepEqual([client.chat("c")?.stopping, open()], [["t2"], []]);
  environment.socket.deliver(refusal("rate_limited", true, { turn_id: "t2" }));
  assert.deepEqual([client.chat("c")?.stopping, open()], [[], ["r1", "r2"]]);
  client.cancel("c", "t2");
  reconnect(environment);
  environment.socket.deliver(attached(7, true), replayEnd(7));
  assert.deepEqual(environment.socket.sent().filter((each) => each.type === "cancel"), [cancel]);
  reconnect(environment);
  environment.socket.deliver(attached(8, true), { ...begin, event: "turn_end", seq: 8, outcome: "cancelled", latency_ms: 1 }, replayEnd(8));
  assert.deepEqual(environment.socket.sent().filter((each) => each.type === "cancel"), []);
  assert.deepEqual(client.chat("c")?.stopping, []);
});
