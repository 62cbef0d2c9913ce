/**
 * The transport for networks that let no WebSocket through: server-sent events carry the gateway's frames, and a POST
 * carries each of the client's. It has the interface of a WebSocket.
 */
import type { SocketLike } from "./environment.ts";

/** A POST without an answer for this long ends the stream. The gateway answers within 30 s. */
export const POST_TIMEOUT_MS = 35_000;
/** The stream ends when more frames than this wait for their POST. A person causes far fewer, so the network is stuck. */
const MAX_QUEUED_FRAMES = 256;
/** How often a frame is posted, in all, while the gateway answers that it is busy. */
const MAX_POSTS_PER_FRAME = 10;

/** The globals that the stream uses. They are declared here because the client is compiled without the DOM's types. */
export interface StreamGlobals {
  fetch(url: string, init: { method: string; headers: Record<string, string>; body?: string; cache: "no-store"; redirect: "error"; signal: unknown }): Promise<HttpResponse>;
  AbortController: new () => { readonly signal: unknown; abort(): void };
  TextDecoder: new () => { decode(bytes?: Uint8Array, options?: { stream: boolean }): string };
}

interface HttpResponse {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  readonly body: { getReader(): { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> } } | null;
}

/** The WebSocket close code with the same meaning as an HTTP status; the gateway uses both for the same reasons. */
const CLOSE_CODE_BY_STATUS = new Map([[401, 4401], [413, 1009], [429, 1013], [503, 1013]]);
const BUSY_STATUSES = [429, 503];

export class StreamSocket implements SocketLike {
  onopen: (() => void) | null = null;
  onmessage: ((message: { data: unknown }) => void) | null = null;
  onclose: ((close: { code: number; reason?: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  #globals: StreamGlobals;
  #after: (ms: number, run: () => void) => () => void;
  #base: string;
  #headers: Record<string, string>;
  #abortController: { readonly signal: unknown; abort(): void };
  #closed = false;
  #queue: string[] = [];
  /** The text after the last line break that was received. */
  #partialLine = "";
  /** The `data` lines of the event that is being received. */
  #eventData: string | undefined;

  /** `base` is an address that ends in a slash; the stream is `sse` below it, and frames are posted to `messages`. */
  constructor(base: string, token: string | undefined, web: StreamGlobals, after: (ms: number, run: () => void) => () => void) {
    this.#globals = web;
    this.#after = after;
    this.#base = base;
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    this.#abortController = new web.AbortController();
    // In a microtask, so that the caller can set the handlers first.
    void Promise.resolve().then(() => this.#read()).catch(() => this.#end(1006));
  }

  get bufferedAmount(): number { return this.#queue.reduce((sum, frame) => sum + frame.length, 0); }

  send(data: string): void {
    if (this.#closed) return;
    if (this.#queue.length >= MAX_QUEUED_FRAMES) return this.#end(1006);
    this.#queue.push(data);
    if (this.#queue.length === 1) void this.#postQueue().catch(() => this.#end(1006));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue = [];
    this.#abortController.abort();
  }

  #end(code: number, reason = ""): void {
    if (this.#closed) return;
    this.close();
    this.onclose?.({ code, reason });
  }

  async #read(): Promise<void> {
    const response = await this.#request("sse", { method: "GET", headers: { ...this.#headers, accept: "text/event-stream" } });
    if (response.status !== 200 || !response.body) return this.#end(CLOSE_CODE_BY_STATUS.get(response.status) ?? 1006);
    this.onopen?.();
    const reader = response.body.getReader();
    const decoder = new this.#globals.TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (this.#closed) return;
      if (done) return this.#end(1006);
      this.#receiveText(decoder.decode(value, { stream: true }));
    }
  }

  #request(path: string, init: { method: string; headers: Record<string, string>; body?: string }): Promise<HttpResponse> {
    return this.#globals.fetch(this.#base + path, { ...init, cache: "no-store", redirect: "error", signal: this.#abortController.signal });
  }

  #receiveText(text: string): void {
    const lines = (this.#partialLine + text).split("\n");
    this.#partialLine = lines.pop()!;
    for (const line of lines) this.#receiveLine(line.endsWith("\r") ? line.slice(0, -1) : line);
  }

  #receiveLine(line: string): void {
    // `id` and `retry` are ignored: the client resumes with cursors of its own and has its own backoff.
    if (line.startsWith("data:")) {
      const value = line.slice(line[5] === " " ? 6 : 5);
      this.#eventData = this.#eventData === undefined ? value : `${this.#eventData}\n${value}`;
    } else if (line === "") {
      const data = this.#eventData;
      this.#eventData = undefined;
      if (data !== undefined) this.#receiveEvent(data);
    } else if (line.startsWith(":")) this.onmessage?.({ data: "" }); // a keep-alive comment: shows that the gateway is there
  }

  #receiveEvent(data: string): void {
    if (this.#closed) return;
    const isFirst = data.startsWith('{"event":"ready"');
    if (isFirst || (data.startsWith('{"event":"error"') && data.includes('"close":'))) {
      const event = JSON.parse(data) as { stream?: string; close?: number; detail?: string };
      if (event.close !== undefined) return this.#end(event.close, event.detail);
      if (isFirst && event.stream !== undefined) this.#headers["switchboard-stream"] = event.stream;
    }
    this.onmessage?.({ data });
  }

  /** Posts the queued frames one at a time, so that they arrive in order. */
  async #postQueue(): Promise<void> {
    let posts = 0;
    for (let frame = this.#queue[0]; frame !== undefined; frame = this.#queue[0]) {
      const headers = { ...this.#headers, "content-type": "application/json" };
      const cancel = this.#after(POST_TIMEOUT_MS, () => this.#end(1006));
      const response = await this.#request("messages", { method: "POST", headers, body: frame }).finally(cancel);
      if (this.#closed) return;
      if (response.status === 202) {
        this.#queue.shift();
        posts = 0;
      } else if (BUSY_STATUSES.includes(response.status) && (posts += 1) < MAX_POSTS_PER_FRAME) {
        const seconds = Number(response.headers.get("retry-after")) || 1;
        await new Promise<void>((done) => this.#after(seconds * 1000, done));
      } else return this.#end(CLOSE_CODE_BY_STATUS.get(response.status) ?? 1006);
    }
  }
}
