/**
 * One connection that comes back: handshake, liveness and reconnecting, without knowing what a chat is. Where no WebSocket
 * can be had it falls back to server-sent events, and looks for a WebSocket again from time to time.
 */
import { backoff } from "./backoff.ts";
import type { Environment, SocketLike } from "./environment.ts";
import { PROTOCOL, type ClientEnvelope, type ServerEvent } from "./wire.ts";

/** Silence after which the peer is asked for a sign of life, and after which the connection counts as dead. */
export const PING_AFTER_MS = 20_000;
export const DEAD_AFTER_MS = 45_000;
/** From dialling to `ready`. */
export const CONNECT_WITHIN_MS = 10_000;
/** With something to fall back to, a WebSocket that does not open within this is not waited for. */
export const OPEN_WITHIN_MS = 4_000;
/** While the fallback is used, a WebSocket is looked for after this, and then this often. */
export const LOOK_FIRST_MS = 20_000;
export const LOOK_EVERY_MS = 5 * 60_000;
/** Without a token, a gateway that needs one stays silent; one that needs none says `ready` at once. */
export const READY_WITHOUT_TOKEN_MS = 1_500;
/** A connection that held this long starts the backoff anew. */
const STABLE_AFTER_MS = 5_000;
/** After a wake-up, an answer is expected within this. */
const WAKE_ANSWER_MS = 5_000;

export const CLOSE = { policy: 1008, tooBig: 1009, restart: 1012, tryLater: 1013, unauthorized: 4401, tooSlow: 4408, replaced: 4409 } as const;
/** The connection ended without a close frame, so nobody said why. */
const ABNORMAL = 1006;

/** How the gateway ended a connection. */
export interface Closed {
  readonly code: number;
  /** The gateway's words; empty where it had none. */
  readonly reason: string;
}

export type Status =
  /** `closed`: how the gateway ended the last connection, until there is one again. */
  | { readonly state: "connecting"; readonly closed?: Closed }
  | { readonly state: "online" }
  /** Will try again at `retryAt`, milliseconds of Unix time. */
  | { readonly state: "waiting"; readonly retryAt: number; readonly attempt: number; readonly closed?: Closed }
  /** Will not try again by itself. */
  | { readonly state: "stopped"; readonly reason: "unauthorized" | "replaced" | "closed"; readonly closed?: Closed };

/** How a connection is made. */
export type Way = "websocket" | "sse";

export interface Addresses {
  /** Of the WebSocket. */
  url: () => string;
  /** Below it, where it ends in a slash, are `sse` and `messages`. Without, there is nothing to fall back to. */
  fallback?: (() => string) | undefined;
}

export interface ConnectionHandlers {
  status(status: Status): void;
  event(event: ServerEvent): void;
  /** The connection ended, also one that never became ready; `code` as in WebSocket. */
  down(code: number): void;
}

export class Connection {
  #environment: Environment;
  #addresses: Addresses;
  #token: () => string | undefined;
  #handlers: ConnectionHandlers;
  #socket: SocketLike | undefined;
  #status: Status = { state: "stopped", reason: "closed" };
  #closed: Closed | undefined;
  #attempt = 0;
  #readyAt = 0;
  #heardAt = 0;
  #pinged = false;
  #cancelTimer = () => {};
  #way: Way = "websocket";
  /** The fallback worked where a WebSocket did not. */
  #blocked = false;
  #looking: SocketLike | undefined;
  #cancelLook = () => {};

  constructor(environment: Environment, addresses: Addresses, token: () => string | undefined, handlers: ConnectionHandlers) {
    this.#environment = environment;
    this.#addresses = addresses;
    this.#token = token;
    this.#handlers = handlers;
  }

  get status(): Status {
    return this.#status;
  }

  /** How the present connection is made, or was last tried. */
  get way(): Way {
    return this.#way;
  }

  /** Connects now, whatever the state; also after a stop, with the token of that moment. */
  start(): void {
    this.#closed = undefined;
    this.#drop();
    this.#attempt = 0;
    this.#dial();
  }

  stop(): void {
    if (this.#status.state === "stopped") return; // so that a listener may call this
    this.#drop();
    this.#become({ state: "stopped", reason: "closed" });
  }

  /** The network or the page is back: do not sit out a wait, and do not trust an old connection. */
  wake(): void {
    if (this.#status.state === "waiting") {
      this.#attempt = 0;
      this.#dial();
    } else if (this.#status.state === "online" && this.#environment.now() - this.#heardAt > WAKE_ANSWER_MS) {
      this.#ping(WAKE_ANSWER_MS);
    }
  }

  /** Sends if the connection is ready; otherwise the frame is nobody's, and the caller keeps what matters. */
  send(envelope: ClientEnvelope): boolean {
    if (this.#status.state !== "online" || !this.#socket) return false;
    this.#socket.send(JSON.stringify(envelope));
    return true;
  }

  #dial(): void {
    this.#drop();
    this.#become({ state: "connecting", ...this.#how() });
    this.#open(this.#blocked ? "sse" : "websocket");
  }

  #open(way: Way): void {
    this.#drop();
    this.#way = way;
    const token = this.#token();
    let socket: SocketLike;
    try {
      socket = this.#socketOf(way, token);
    } catch {
      this.#failed(ABNORMAL);
      return;
    }
    this.#timer(way === "websocket" && this.#canFallBack() ? OPEN_WITHIN_MS : CONNECT_WITHIN_MS, () => this.#failed(ABNORMAL));
    socket.onopen = () => {
      // Of a stream, the token went with the request.
      if (way === "sse") return;
      if (token !== undefined) socket.send(JSON.stringify({ type: "authenticate", token } satisfies ClientEnvelope));
      this.#timer(token !== undefined ? CONNECT_WITHIN_MS : READY_WITHOUT_TOKEN_MS, () => this.#failed(token !== undefined ? ABNORMAL : CLOSE.unauthorized));
    };
    this.#adopt(socket);
  }

  #socketOf(way: Way, token: string | undefined): SocketLike {
    const { url, fallback } = this.#addresses;
    if (way === "sse" && fallback && this.#environment.openStream) return this.#environment.openStream(fallback(), token);
    return this.#environment.openSocket(url(), PROTOCOL);
  }

  #adopt(socket: SocketLike): void {
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#heard(data);
    socket.onclose = ({ code, reason }) => this.#failed(code, reason);
    socket.onerror = null; // a close always follows
  }

  #canFallBack(): boolean {
    return this.#addresses.fallback !== undefined && this.#environment.openStream !== undefined;
  }

  /** A WebSocket that ends without a word before it is ready may be one that does not get through. */
  #failed(code: number, reason = ""): void {
    const unheard = this.#readyAt === 0 && code === ABNORMAL;
    if (unheard && this.#way === "websocket" && this.#canFallBack()) return this.#open("sse");
    // Whatever was in the way of a WebSocket is not all that is in the way.
    if (unheard) this.#blocked = false;
    this.#lost(code, reason);
  }

  /** While the fallback is used: is there a WebSocket by now? What it would replace goes on until it is ready. */
  #look(): void {
    const token = this.#token();
    let socket: SocketLike;
    try {
      socket = this.#socketOf("websocket", token);
    } catch {
      return this.#lookLater(LOOK_EVERY_MS);
    }
    this.#looking = socket;
    this.#cancelLook = this.#environment.after(CONNECT_WITHIN_MS, () => this.#lookLater(LOOK_EVERY_MS));
    socket.onopen = () => {
      if (token !== undefined) socket.send(JSON.stringify({ type: "authenticate", token } satisfies ClientEnvelope));
    };
    socket.onmessage = ({ data }) => {
      if (parse(data)?.event !== "ready") return;
      // What is on its way out would be lost.
      if (this.#socket?.bufferedAmount !== 0) return this.#lookLater(LOOK_FIRST_MS);
      this.#looking = undefined;
      this.#drop();
      this.#way = "websocket";
      this.#blocked = false;
      this.#handlers.down(1000);
      this.#adopt(socket);
      this.#heard(data);
    };
    socket.onclose = () => this.#lookLater(LOOK_EVERY_MS);
    socket.onerror = null;
  }

  #lookLater(ms: number): void {
    this.#lookNoMore();
    this.#cancelLook = this.#environment.after(ms, () => this.#look());
  }

  #lookNoMore(): void {
    this.#cancelLook();
    letGo(this.#looking);
    this.#looking = undefined;
  }

  #heard(data: unknown): void {
    this.#heardAt = this.#environment.now();
    if (this.#pinged) this.#watch(PING_AFTER_MS);
    const event = parse(data);
    if (!event) return;
    if (event.event === "ready") {
      this.#readyAt = this.#heardAt;
      this.#closed = undefined;
      this.#become({ state: "online" });
      this.#watch(PING_AFTER_MS);
      if (this.#way === "sse") {
        this.#blocked = true;
        this.#lookLater(LOOK_FIRST_MS);
      }
    }
    this.#handlers.event(event);
  }

  /** One timer looks after liveness, so that a frame costs no timer. */
  #watch(ms: number): void {
    this.#pinged = false;
    this.#timer(ms, () => {
      const silent = this.#environment.now() - this.#heardAt;
      if (silent < PING_AFTER_MS) this.#watch(PING_AFTER_MS - silent);
      else this.#ping(DEAD_AFTER_MS - PING_AFTER_MS);
    });
  }

  /** Timers of hidden pages come late, so silence alone proves nothing: only an unanswered ping does. */
  #ping(answerWithin: number): void {
    this.send({ type: "ping" });
    this.#pinged = true;
    this.#timer(answerWithin, () => this.#lost(ABNORMAL));
  }

  #lost(code: number, reason = ""): void {
    const now = this.#environment.now();
    const wasStable = this.#readyAt > 0 && now - this.#readyAt > STABLE_AFTER_MS;
    this.#drop();
    this.#closed = { code, reason };
    if (code === CLOSE.unauthorized) this.#become({ state: "stopped", reason: "unauthorized", ...this.#how() });
    else if (code === CLOSE.replaced) this.#become({ state: "stopped", reason: "replaced", ...this.#how() });
    else {
      if (wasStable) this.#attempt = 0;
      // The gateway said that it needs time, or that something is wrong with what is sent.
      if (code === CLOSE.tryLater || code === CLOSE.policy) this.#attempt = Math.max(this.#attempt, 3);
      const wait = backoff(this.#attempt, this.#environment.random());
      this.#attempt += 1;
      this.#become({ state: "waiting", retryAt: now + wait, attempt: this.#attempt, ...this.#how() });
      this.#timer(wait, () => this.#dial());
    }
    this.#handlers.down(code);
  }

  #how(): { closed?: Closed } {
    return this.#closed ? { closed: this.#closed } : {};
  }

  /** Lets go of the socket at once: a close handshake over a dead network would never end. */
  #drop(): void {
    this.#cancelTimer();
    this.#lookNoMore();
    this.#readyAt = 0;
    this.#pinged = false;
    letGo(this.#socket);
    this.#socket = undefined;
  }

  #timer(ms: number, run: () => void): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#environment.after(ms, run);
  }

  #become(status: Status): void {
    this.#status = status;
    this.#handlers.status(status);
  }
}

function letGo(socket: SocketLike | undefined): void {
  if (!socket) return;
  socket.onopen = socket.onmessage = socket.onclose = null;
  socket.close(1000);
}

function parse(data: unknown): ServerEvent | undefined {
  if (typeof data !== "string" || data === "") return undefined;
  try {
    const event: unknown = JSON.parse(data);
    return typeof event === "object" && event !== null && "event" in event ? (event as ServerEvent) : undefined;
  } catch {
    return undefined; // not of this protocol
  }
}
