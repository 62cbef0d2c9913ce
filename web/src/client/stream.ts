/** A stream of server-sent events and a POST for each frame, in the shape of a WebSocket: for where none gets through. */
import type { SocketLike } from "./environment.ts";

/** The gateway answers a POST within 30 s. */
export const POST_WITHIN_MS = 35_000;
/** Frames that wait for their POST; nobody who is at work says more. */
const QUEUED_FRAMES = 256;
/** A frame that the gateway has no time for is posted so often. */
const POSTS_OF_A_FRAME = 10;

/** What is used of `fetch`, which the DOM's types would bring along with everything else. */
export interface Web {
  fetch(url: string, init: { method: string; headers: Record<string, string>; body?: string; cache: "no-store"; redirect: "error"; signal: unknown }): Promise<Answer>;
  AbortController: new () => { readonly signal: unknown; abort(): void };
  TextDecoder: new () => { decode(bytes?: Uint8Array, options?: { stream: boolean }): string };
}

interface Answer {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  readonly body: { getReader(): { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> } } | null;
}

/** Close codes that stand for what HTTP says in its own way. */
const CODES = new Map([[401, 4401], [413, 1009], [429, 1013], [503, 1013]]);
const BUSY = [429, 503];

export class StreamSocket implements SocketLike {
  onopen: (() => void) | null = null;
  onmessage: ((message: { data: unknown }) => void) | null = null;
  onclose: ((close: { code: number; reason?: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  #web: Web;
  #after: (ms: number, run: () => void) => () => void;
  #base: string;
  #headers: Record<string, string>;
  #abort: { readonly signal: unknown; abort(): void };
  #closed = false;
  #queue: string[] = [];
  #rest = "";
  #data: string | undefined;

  /** `base` ends in a slash: below it are `sse` and `messages`. */
  constructor(base: string, token: string | undefined, web: Web, after: (ms: number, run: () => void) => () => void) {
    this.#web = web;
    this.#after = after;
    this.#base = base;
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    this.#abort = new web.AbortController();
    // Whoever opens it sets the handlers first.
    void Promise.resolve().then(() => this.#read()).catch(() => this.#end(1006));
  }

  get bufferedAmount(): number { return this.#queue.reduce((sum, frame) => sum + frame.length, 0); }

  send(data: string): void {
    if (this.#closed) return;
    if (this.#queue.length >= QUEUED_FRAMES) return this.#end(1006);
    this.#queue.push(data);
    if (this.#queue.length === 1) void this.#post().catch(() => this.#end(1006));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue = [];
    this.#abort.abort();
  }

  #end(code: number, reason = ""): void {
    if (this.#closed) return;
    this.close();
    this.onclose?.({ code, reason });
  }

  async #read(): Promise<void> {
    const answer = await this.#request("sse", { method: "GET", headers: { ...this.#headers, accept: "text/event-stream" } });
    if (answer.status !== 200 || !answer.body) return this.#end(CODES.get(answer.status) ?? 1006);
    this.onopen?.();
    const reader = answer.body.getReader();
    const decoder = new this.#web.TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (this.#closed) return;
      if (done) return this.#end(1006);
      this.#take(decoder.decode(value, { stream: true }));
    }
  }

  #request(path: string, init: { method: string; headers: Record<string, string>; body?: string }): Promise<Answer> {
    return this.#web.fetch(this.#base + path, { ...init, cache: "no-store", redirect: "error", signal: this.#abort.signal });
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop()!;
    for (const line of lines) this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
  }

  #line(line: string): void {
    // Cursors are the client's own affair, and so is when to come back: `id` and `retry` are not looked at.
    if (line.startsWith("data:")) {
      const value = line.slice(line[5] === " " ? 6 : 5);
      this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`;
    } else if (line === "") {
      const data = this.#data;
      this.#data = undefined;
      if (data !== undefined) this.#event(data);
    } else if (line.startsWith(":")) this.onmessage?.({ data: "" }); // a sign of life
  }

  #event(data: string): void {
    if (this.#closed) return;
    const isFirst = data.startsWith('{"event":"ready"');
    if (isFirst || (data.startsWith('{"event":"error"') && data.includes('"close":'))) {
      const event = JSON.parse(data) as { stream?: string; close?: number; detail?: string };
      if (event.close !== undefined) return this.#end(event.close, event.detail);
      if (isFirst && event.stream !== undefined) this.#headers["switchboard-stream"] = event.stream;
    }
    this.onmessage?.({ data });
  }

  /** One after the other, so that frames stay in order. */
  async #post(): Promise<void> {
    let tries = 0;
    for (let frame = this.#queue[0]; frame !== undefined; frame = this.#queue[0]) {
      const headers = { ...this.#headers, "content-type": "application/json" };
      const cancel = this.#after(POST_WITHIN_MS, () => this.#end(1006));
      const answer = await this.#request("messages", { method: "POST", headers, body: frame }).finally(cancel);
      if (this.#closed) return;
      if (answer.status === 202) {
        this.#queue.shift();
        tries = 0;
      } else if (BUSY.includes(answer.status) && (tries += 1) < POSTS_OF_A_FRAME) {
        const seconds = Number(answer.headers.get("retry-after")) || 1;
        await new Promise<void>((done) => this.#after(seconds * 1000, done));
      } else return this.#end(CODES.get(answer.status) ?? 1006);
    }
  }
}
