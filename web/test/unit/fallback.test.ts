import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../../src/client/index.ts";
import { StreamSocket, type StreamGlobals } from "../../src/client/stream.ts";
import { delta, log, userMessage } from "./log.ts";
import { FakeSocket, MemoryStore, READY, FakeEnvironment } from "./harness.ts";

const STREAM_READY = { ...READY, stream: "s" };

function newClient(token: string | undefined = "secret") {
  const environment = new FakeEnvironment();
  const client = new Client({ url: () => "ws://gateway/ws", fallback: () => "http://gateway/", token: () => token, environment: environment, store: new MemoryStore() });
  return { environment, client };
}

/** A client that has attached chat `c` over the fallback. */
function clientOverFallback() {
  const fakes = newClient();
  fakes.client.open("c");
  fakes.client.start();
  fakes.environment.socket.drop();
  fakes.environment.socket.onopen?.();
  fakes.environment.socket.deliver(STREAM_READY);
  return fakes;
}

const sent = (socket: FakeSocket) => socket.sent().filter((each) => each.type !== "list_chats");
const deltas = (...texts: string[]) => log([userMessage("hi"), ...texts.map((text) => delta(text))]);

test("a WebSocket that fails is replaced at once by an event stream, whose first request carries the token", () => {
  const { environment, client } = clientOverFallback();
  assert.deepEqual(environment.sockets.map(({ url }) => url), ["ws://gateway/ws", "http://gateway/sse as secret"]);
  assert.deepEqual([client.status.state, client.transport], ["online", "sse"]);
  assert.deepEqual(sent(environment.socket), [{ type: "attach", chat_id: "c" }]);
});

test("a WebSocket on which nothing arrives is replaced, whether it opened or not", () => {
  for (const opened of [false, true]) {
    const { environment, client } = newClient();
    client.start();
    if (opened) environment.socket.onopen?.();
    environment.advance(opened ? 10_000 : 4_000);
    assert.deepEqual([environment.streams.length, client.transport, environment.sockets[0]!.closed], [1, "sse", true]);
  }
});

test("a close code of the gateway does not cause the fallback", () => {
  for (const code of [1008, 1012, 1013, 4401, 4409]) {
    const { environment, client } = newClient();
    client.start();
    environment.socket.onopen?.();
    environment.socket.drop(code);
    environment.advance(200);
    assert.deepEqual([environment.streams.length, client.transport], [0, "websocket"], String(code));
  }
});

test("if both transports fail, both are tried again after a wait", () => {
  const { environment, client } = newClient();
  client.start();
  for (let round = 1; round <= 3; round += 1) {
    environment.socket.drop();
    environment.socket.drop();
    assert.deepEqual([client.status.state, environment.sockets.length], ["waiting", 2 * round]);
    environment.advance(1000 * 2 ** round);
  }
  assert.equal(environment.sockets.map(({ url }) => url[0]).join(""), "whwhwhwh");
});

test("a lost event stream is opened again without trying a WebSocket first, and chats resume from their cursors", () => {
  const { environment, client } = clientOverFallback();
  const events = deltas("one", "two");
  environment.socket.deliver({ event: "attached", chat_id: "c", epoch: "e1", head: 3, recovered: false }, { event: "snapshot", chat_id: "c", epoch: "e1", seq: 3, part: 0, more: false, events }, { event: "replay_end", chat_id: "c", epoch: "e1", seq: 3 });
  client.send("c", "unanswered");
  const message = sent(environment.socket).at(-1);
  environment.socket.drop(1012);
  assert.equal(client.status.state, "waiting");
  environment.advance(1_000);
  assert.equal(environment.streams.length, 2);
  environment.socket.deliver(STREAM_READY);
  assert.deepEqual(sent(environment.socket), [{ type: "attach", chat_id: "c", after: { epoch: "e1", seq: 3 } }, message]);
});

test("after refused credentials there are no more attempts", () => {
  const { environment, client } = newClient();
  client.start();
  environment.socket.drop();
  environment.socket.drop(4401);
  environment.advance(600_000);
  assert.deepEqual([client.status, environment.sockets.length], [{ state: "stopped", reason: "unauthorized", closed: { code: 4401, reason: "" } }, 2]);
});

test("the client probes for a WebSocket later, and changes to it without going offline", () => {
  const { environment, client } = clientOverFallback();
  const stream = environment.socket;
  const states: string[] = [];
  client.onChange(() => states.push(client.status.state));
  environment.advance(20_000);
  const first = environment.socket;
  first.drop();
  assert.deepEqual([client.transport, stream.closed], ["sse", false], "the stream goes on");
  for (let passed = 0; passed < 300_000; passed += 10_000) {
    stream.onmessage?.({ data: "" }); // keep-alive comments
    environment.advance(10_000);
  }
  const second = environment.socket;
  assert.notEqual(second, first);
  second.onopen?.();
  assert.deepEqual(second.sent(), [{ type: "authenticate", token: "secret" }]);
  assert.equal(stream.closed, false);
  second.deliver(READY);
  assert.deepEqual([client.transport, stream.closed], ["websocket", true]);
  assert.deepEqual(sent(second), [{ type: "attach", chat_id: "c" }]);
  assert.deepEqual([...new Set(states)], ["online"]);
  const { length } = environment.sockets;
  second.onmessage?.({ data: JSON.stringify({ event: "pong" }) });
  environment.advance(19_000);
  assert.equal(environment.sockets.length, length, "there are no more probes");
});

test("a WebSocket replaces the stream only when no frame waits for its POST", () => {
  const { environment, client } = clientOverFallback();
  const stream = environment.socket;
  stream.bufferedAmount = 10;
  environment.advance(20_000);
  environment.socket.onopen?.();
  environment.socket.deliver(READY);
  assert.deepEqual([client.transport, stream.closed, environment.socket.closed], ["sse", false, true]);
  stream.bufferedAmount = 0;
  stream.onmessage?.({ data: "" });
  environment.advance(20_000);
  environment.socket.deliver(READY);
  assert.deepEqual([client.transport, stream.closed], ["websocket", true]);
});

test("comments of the stream count as received data", () => {
  const { environment, client } = clientOverFallback();
  const stream = environment.socket;
  stream.sent();
  for (let passed = 0; passed < 120_000; passed += 15_000) {
    environment.advance(15_000);
    stream.onmessage?.({ data: "" });
  }
  assert.equal(client.status.state, "online");
  assert.deepEqual(stream.sent(), []);
});

/** The globals of a stream, with an HTTP server whose responses the test makes. */
class FakeGlobals implements StreamGlobals {
  requests: { url: string; init: { method: string; headers: Record<string, string>; body?: string }; answer(status: number, headers?: Record<string, string>): void }[] = [];
  aborted = 0;
  #push: (bytes: Uint8Array | undefined) => void = () => {};
  #waiting: (Uint8Array | undefined)[] = [];
  TextDecoder = TextDecoder as StreamGlobals["TextDecoder"];
  AbortController: StreamGlobals["AbortController"];

  constructor() {
    const globals = this;
    this.AbortController = class { signal = {}; abort() { globals.aborted += 1; } };
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
  async sendChunks(...pieces: string[]): Promise<void> {
    for (const piece of pieces) {
      this.#push(new TextEncoder().encode(piece));
      await turn();
    }
  }
  async end(): Promise<void> { this.#push(undefined); await turn(); }
}

const turn = () => new Promise<void>((done) => setImmediate(done));

async function openStream() {
  const globals = new FakeGlobals();
  const timers: (() => void)[] = [];
  const received: unknown[] = [];
  const closes: number[] = [];
  const reasons: (string | undefined)[] = [];
  const socket = new StreamSocket("http://gateway/", "secret", globals, (_, run) => { timers.push(run); return () => {}; });
  socket.onmessage = ({ data }) => received.push(data);
  socket.onclose = ({ code, reason }) => { closes.push(code); reasons.push(reason); };
  await turn();
  globals.requests[0]!.answer(200);
  await turn();
  await globals.sendChunks("retry: 1000\n\n", `data: ${JSON.stringify(STREAM_READY)}\n\n`);
  return { globals, socket, received, closes, reasons, timers };
}

test("events are read however their bytes are split", async () => {
  const { globals, received } = await openStream();
  assert.equal(globals.requests[0]!.init.headers.authorization, "Bearer secret");
  const text = `:\n\nid: c@e:1\ndata: {"event":"delta","text":"é"}\r\n\r\ndata: {"a":\ndata: 1}\n\nid: x\n\n`;
  const bytes = Array.from(text);
  await globals.sendChunks(...bytes);
  assert.deepEqual(received.slice(1), ["", '{"event":"delta","text":"é"}', '{"a":\n1}']);
});

test("frames are posted one after the other, with the stream's id", async () => {
  const { globals, socket } = await openStream();
  socket.send("one");
  socket.send("two");
  assert.equal(socket.bufferedAmount, 6);
  const [, first] = globals.requests;
  assert.deepEqual([first!.url, first!.init.method, first!.init.body, first!.init.headers["switchboard-stream"], first!.init.headers["content-type"]], ["http://gateway/messages", "POST", "one", "s", "application/json"]);
  assert.equal(globals.requests.length, 2);
  first!.answer(202);
  await turn();
  globals.requests[2]!.answer(202);
  await turn();
  assert.deepEqual([globals.requests[2]!.init.body, socket.bufferedAmount], ["two", 0]);
});

test("a frame is posted again while the gateway is busy", async () => {
  const { globals, socket, timers, closes } = await openStream();
  socket.send("one");
  for (let tries = 1; tries < 10; tries += 1) {
    globals.requests.at(-1)!.answer(503, { "retry-after": "1" });
    await turn();
    timers.pop()!();
    await turn();
    assert.equal(globals.requests.length, 2 + tries);
  }
  globals.requests.at(-1)!.answer(503);
  await turn();
  assert.deepEqual(closes, [1013]);
});

test("HTTP statuses and the last event become one close code", async () => {
  for (const [status, code] of [[410, 1006], [413, 1009], [401, 4401], [400, 1006]] as const) {
    const { globals, socket, closes } = await openStream();
    socket.send("one");
    globals.requests[1]!.answer(status);
    await turn();
    assert.deepEqual([closes, globals.aborted], [[code], 1]);
  }
  const { globals, closes, reasons, received } = await openStream();
  await globals.sendChunks('data: {"event":"error","code":"too_slow","detail":"nothing was read","retryable":true,"close":4408}\n\n');
  await globals.end();
  assert.deepEqual([closes, reasons, received.length], [[4408], ["nothing was read"], 1]);
  const cut = await openStream();
  await cut.globals.end();
  assert.deepEqual(cut.closes, [1006]);
});
