import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../../src/client/index.ts";
import { StreamSocket, type StreamGlobals } from "../../src/client/stream.ts";
import { delta, log, said } from "./log.ts";
import { FakeSocket, MemoryStore, READY, World } from "./world.ts";

const STREAM_READY = { ...READY, stream: "s" };

function client(token: string | undefined = "secret") {
  const world = new World();
  const it = new Client({ url: () => "ws://gateway/ws", fallback: () => "http://gateway/", token: () => token, environment: world, store: new MemoryStore() });
  return { world, it };
}

/** A client that follows chat `c` over the fallback. */
function fallenBack() {
  const all = client();
  all.it.open("c");
  all.it.start();
  all.world.socket.drop();
  all.world.socket.onopen?.();
  all.world.socket.deliver(STREAM_READY);
  return all;
}

const sent = (socket: FakeSocket) => socket.sent().filter((each) => each.type !== "list_chats");
const deltas = (...texts: string[]) => log([said("hi"), ...texts.map((text) => delta(text))]);

test("a WebSocket that cannot be had is replaced at once by a stream, which has the token from the beginning", () => {
  const { world, it } = fallenBack();
  assert.deepEqual(world.sockets.map(({ url }) => url), ["ws://gateway/ws", "http://gateway/sse as secret"]);
  assert.deepEqual([it.status.state, it.transport], ["online", "sse"]);
  assert.deepEqual(sent(world.socket), [{ type: "attach", chat_id: "c" }]);
});

test("so is one that stays silent, opened or not", () => {
  for (const opened of [false, true]) {
    const { world, it } = client();
    it.start();
    if (opened) world.socket.onopen?.();
    world.pass(opened ? 10_000 : 4_000);
    assert.deepEqual([world.streams.length, it.transport, world.sockets[0]!.closed], [1, "sse", true]);
  }
});

test("what the gateway says by a close code is no reason to fall back", () => {
  for (const code of [1008, 1012, 1013, 4401, 4409]) {
    const { world, it } = client();
    it.start();
    world.socket.onopen?.();
    world.socket.drop(code);
    world.pass(200);
    assert.deepEqual([world.streams.length, it.transport], [0, "websocket"], String(code));
  }
});

test("where neither can be had, both are tried again after a wait", () => {
  const { world, it } = client();
  it.start();
  for (let round = 1; round <= 3; round += 1) {
    world.socket.drop();
    world.socket.drop();
    assert.deepEqual([it.status.state, world.sockets.length], ["waiting", 2 * round]);
    world.pass(1000 * 2 ** round);
  }
  assert.equal(world.sockets.map(({ url }) => url[0]).join(""), "whwhwhwh");
});

test("a lost stream is opened again without asking for a WebSocket first, and chats go on at their cursors", () => {
  const { world, it } = fallenBack();
  const events = deltas("one", "two");
  world.socket.deliver({ event: "attached", chat_id: "c", epoch: "e1", head: 3, recovered: false }, { event: "snapshot", chat_id: "c", epoch: "e1", seq: 3, part: 0, more: false, events }, { event: "replay_end", chat_id: "c", epoch: "e1", seq: 3 });
  it.send("c", "unanswered");
  const message = sent(world.socket).at(-1);
  world.socket.drop(1012);
  assert.equal(it.status.state, "waiting");
  world.pass(1_000);
  assert.equal(world.streams.length, 2);
  world.socket.deliver(STREAM_READY);
  assert.deepEqual(sent(world.socket), [{ type: "attach", chat_id: "c", after: { epoch: "e1", seq: 3 } }, message]);
});

test("refused credentials end the attempts", () => {
  const { world, it } = client();
  it.start();
  world.socket.drop();
  world.socket.drop(4401);
  world.pass(600_000);
  assert.deepEqual([it.status, world.sockets.length], [{ state: "stopped", reason: "unauthorized", closed: { code: 4401, reason: "" } }, 2]);
});

test("a WebSocket is looked for later, and taken when it is ready, without a moment offline", () => {
  const { world, it } = fallenBack();
  const stream = world.socket;
  const states: string[] = [];
  it.onChange(() => states.push(it.status.state));
  world.pass(20_000);
  const first = world.socket;
  first.drop();
  assert.deepEqual([it.transport, stream.closed], ["sse", false], "the stream goes on");
  for (let passed = 0; passed < 300_000; passed += 10_000) {
    stream.onmessage?.({ data: "" }); // comments
    world.pass(10_000);
  }
  const second = world.socket;
  assert.notEqual(second, first);
  second.onopen?.();
  assert.deepEqual(second.sent(), [{ type: "authenticate", token: "secret" }]);
  assert.equal(stream.closed, false);
  second.deliver(READY);
  assert.deepEqual([it.transport, stream.closed], ["websocket", true]);
  assert.deepEqual(sent(second), [{ type: "attach", chat_id: "c" }]);
  assert.deepEqual([...new Set(states)], ["online"]);
  const { length } = world.sockets;
  second.onmessage?.({ data: JSON.stringify({ event: "pong" }) });
  world.pass(19_000);
  assert.equal(world.sockets.length, length, "nothing is looked for any more");
});

test("what is on its way out over the stream goes before a WebSocket replaces it", () => {
  const { world, it } = fallenBack();
  const stream = world.socket;
  stream.bufferedAmount = 10;
  world.pass(20_000);
  world.socket.onopen?.();
  world.socket.deliver(READY);
  assert.deepEqual([it.transport, stream.closed, world.socket.closed], ["sse", false, true]);
  stream.bufferedAmount = 0;
  stream.onmessage?.({ data: "" });
  world.pass(20_000);
  world.socket.deliver(READY);
  assert.deepEqual([it.transport, stream.closed], ["websocket", true]);
});

test("comments are signs of life", () => {
  const { world, it } = fallenBack();
  const stream = world.socket;
  stream.sent();
  for (let passed = 0; passed < 120_000; passed += 15_000) {
    world.pass(15_000);
    stream.onmessage?.({ data: "" });
  }
  assert.equal(it.status.state, "online");
  assert.deepEqual(stream.sent(), []);
});

/** A server whose answers the test writes. */
class FakeGlobals implements StreamGlobals {
  requests: { url: string; init: { method: string; headers: Record<string, string>; body?: string }; answer(status: number, headers?: Record<string, string>): void }[] = [];
  aborted = 0;
  #push: (bytes: Uint8Array | undefined) => void = () => {};
  #waiting: (Uint8Array | undefined)[] = [];
  TextDecoder = TextDecoder as StreamGlobals["TextDecoder"];
  AbortController: StreamGlobals["AbortController"];

  constructor() {
    const web = this;
    this.AbortController = class { signal = {}; abort() { web.aborted += 1; } };
  }

  fetch(url: string, init: { method: string; headers: Record<string, string>; body?: string }): ReturnType<StreamGlobals["fetch"]> {
    return new Promise((resolve) => {
      const read = () => new Promise<{ done: boolean; value?: Uint8Array | undefined }>((done) => {
        const give = (value: Uint8Array | undefined) => done({ done: value === undefined, value });
        if (this.#waiting.length > 0) give(this.#waiting.shift());
        else this.#push = (value) => { this.#push = (later) => void this.#waiting.push(later); give(value); };
      });
      const answer = (status: number, headers: Record<string, string> = {}) => resolve({ status, headers: { get: (name) => headers[name] ?? null }, body: { getReader: () => ({ read }) } });
      this.requests.push({ url, init, answer });
    });
  }
  async say(...pieces: string[]): Promise<void> {
    for (const piece of pieces) {
      this.#push(new TextEncoder().encode(piece));
      await turn();
    }
  }
  async end(): Promise<void> { this.#push(undefined); await turn(); }
}

const turn = () => new Promise<void>((done) => setImmediate(done));

async function opened() {
  const web = new FakeGlobals();
  const timers: (() => void)[] = [];
  const heard: unknown[] = [];
  const closes: number[] = [];
  const reasons: (string | undefined)[] = [];
  const socket = new StreamSocket("http://gateway/", "secret", web, (_, run) => { timers.push(run); return () => {}; });
  socket.onmessage = ({ data }) => heard.push(data);
  socket.onclose = ({ code, reason }) => { closes.push(code); reasons.push(reason); };
  await turn();
  web.requests[0]!.answer(200);
  await turn();
  await web.say("retry: 1000\n\n", `data: ${JSON.stringify(STREAM_READY)}\n\n`);
  return { web, socket, heard, closes, reasons, timers };
}

test("events are read however they arrive", async () => {
  const { web, heard } = await opened();
  assert.equal(web.requests[0]!.init.headers.authorization, "Bearer secret");
  const text = `:\n\nid: c@e:1\ndata: {"event":"delta","text":"é"}\r\n\r\ndata: {"a":\ndata: 1}\n\nid: x\n\n`;
  const bytes = Array.from(text);
  await web.say(...bytes);
  assert.deepEqual(heard.slice(1), ["", '{"event":"delta","text":"é"}', '{"a":\n1}']);
});

test("frames are posted one after the other, with the stream's name", async () => {
  const { web, socket } = await opened();
  socket.send("one");
  socket.send("two");
  assert.equal(socket.bufferedAmount, 6);
  const [, first] = web.requests;
  assert.deepEqual([first!.url, first!.init.method, first!.init.body, first!.init.headers["switchboard-stream"], first!.init.headers["content-type"]], ["http://gateway/messages", "POST", "one", "s", "application/json"]);
  assert.equal(web.requests.length, 2);
  first!.answer(202);
  await turn();
  web.requests[2]!.answer(202);
  await turn();
  assert.deepEqual([web.requests[2]!.init.body, socket.bufferedAmount], ["two", 0]);
});

test("a frame that the gateway has no time for is posted again", async () => {
  const { web, socket, timers, closes } = await opened();
  socket.send("one");
  for (let tries = 1; tries < 10; tries += 1) {
    web.requests.at(-1)!.answer(503, { "retry-after": "1" });
    await turn();
    timers.pop()!();
    await turn();
    assert.equal(web.requests.length, 2 + tries);
  }
  web.requests.at(-1)!.answer(503);
  await turn();
  assert.deepEqual(closes, [1013]);
});

test("what HTTP and the last event say becomes a close code, once", async () => {
  for (const [status, code] of [[410, 1006], [413, 1009], [401, 4401], [400, 1006]] as const) {
    const { web, socket, closes } = await opened();
    socket.send("one");
    web.requests[1]!.answer(status);
    await turn();
    assert.deepEqual([closes, web.aborted], [[code], 1]);
  }
  const { web, closes, reasons, heard } = await opened();
  await web.say('data: {"event":"error","code":"too_slow","detail":"nothing was read","retryable":true,"close":4408}\n\n');
  await web.end();
  assert.deepEqual([closes, reasons, heard.length], [[4408], ["nothing was read"], 1]);
  const cut = await opened();
  await cut.web.end();
  assert.deepEqual(cut.closes, [1006]);
});
