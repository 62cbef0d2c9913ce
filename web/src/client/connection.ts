/** One connection that comes back: handshake, liveness and reconnecting, without knowing what a chat is. */
import { backoff } from "./backoff.ts";
import type { ServerEvent } from "./chat.ts";
import type { Environment, SocketLike } from "./environment.ts";
import { PROTOCOL, type ClientEnvelope } from "./wire.ts";

/** Silence after which the peer is asked for a sign of life, and after which the connection counts as dead. */
export const PING_AFTER_MS = 20_000;
export const DEAD_AFTER_MS = 45_000;
/** From dialling to `ready`. */
export const CONNECT_WITHIN_MS = 10_000;
/** Without a token, a gateway that needs one stays silent; one that needs none says `ready` at once. */
export const READY_WITHOUT_TOKEN_MS = 1_500;
/** A connection that held this long starts the backoff anew. */
const STABLE_AFTER_MS = 5_000;
/** After a wake-up, an answer is expected within this. */
const WAKE_ANSWER_MS = 5_000;

export const CLOSE = { policy: 1008, tooBig: 1009, restart: 1012, tryLater: 1013, unauthorized: 4401, tooSlow: 4408, replaced: 4409 } as const;

export type Status =
  | { readonly state: "connecting" }
  | { readonly state: "online" }
  /** Will try again at `retryAt`, milliseconds of Unix time. */
  | { readonly state: "waiting"; readonly retryAt: number; readonly attempt: number }
  /** Will not try again by itself. */
  | { readonly state: "stopped"; readonly reason: "unauthorized" | "replaced" | "closed" };

export interface ConnectionHandlers {
  status(status: Status): void;
  event(event: ServerEvent): void;
  /** The connection ended, also one that never became ready; `code` as in WebSocket. */
  down(code: number): void;
}

export class Connection {
  #environment: Environment;
  #url: () => string;
  #token: () => string | undefined;
  #handlers: ConnectionHandlers;
  #socket: SocketLike | undefined;
  #status: Status = { state: "stopped", reason: "closed" };
  #attempt = 0;
  #readyAt = 0;
  #heardAt = 0;
  #pinged = false;
  #cancelTimer = () => {};

  constructor(environment: Environment, url: () => string, token: () => string | undefined, handlers: ConnectionHandlers) {
    this.#environment = environment;
    this.#url = url;
    this.#token = token;
    this.#handlers = handlers;
  }

  get status(): Status {
    return this.#status;
  }

  /** Connects now, whatever the state; also after a stop, with the token of that moment. */
  start(): void {
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
    this.#become({ state: "connecting" });
    let socket: SocketLike;
    try {
      socket = this.#environment.openSocket(this.#url(), PROTOCOL);
    } catch {
      this.#lost(1006);
      return;
    }
    this.#socket = socket;
    this.#timer(CONNECT_WITHIN_MS, () => this.#lost(1006));
    socket.onopen = () => {
      const token = this.#token();
      if (token !== undefined) socket.send(JSON.stringify({ type: "authenticate", token } satisfies ClientEnvelope));
      else this.#timer(READY_WITHOUT_TOKEN_MS, () => this.#lost(CLOSE.unauthorized));
    };
    socket.onmessage = ({ data }) => this.#heard(data);
    socket.onclose = ({ code }) => this.#lost(code);
    socket.onerror = null; // a close always follows
  }

  #heard(data: unknown): void {
    this.#heardAt = this.#environment.now();
    if (this.#pinged) this.#watch(PING_AFTER_MS);
    const event = parse(data);
    if (!event) return;
    if (event.event === "ready") {
      this.#readyAt = this.#heardAt;
      this.#become({ state: "online" });
      this.#watch(PING_AFTER_MS);
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
    this.#timer(answerWithin, () => this.#lost(1006));
  }

  #lost(code: number): void {
    const now = this.#environment.now();
    const wasStable = this.#readyAt > 0 && now - this.#readyAt > STABLE_AFTER_MS;
    this.#drop();
    if (code === CLOSE.unauthorized) this.#become({ state: "stopped", reason: "unauthorized" });
    else if (code === CLOSE.replaced) this.#become({ state: "stopped", reason: "replaced" });
    else {
      if (wasStable) this.#attempt = 0;
      // The gateway said that it needs time, or that something is wrong with what is sent.
      if (code === CLOSE.tryLater || code === CLOSE.policy) this.#attempt = Math.max(this.#attempt, 3);
      const wait = backoff(this.#attempt, this.#environment.random());
      this.#attempt += 1;
      this.#become({ state: "waiting", retryAt: now + wait, attempt: this.#attempt });
      this.#timer(wait, () => this.#dial());
    }
    this.#handlers.down(code);
  }

  /** Lets go of the socket at once: a close handshake over a dead network would never end. */
  #drop(): void {
    this.#cancelTimer();
    this.#readyAt = 0;
    this.#pinged = false;
    const socket = this.#socket;
    this.#socket = undefined;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
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

function parse(data: unknown): ServerEvent | undefined {
  if (typeof data !== "string") return undefined;
  try {
    const event: unknown = JSON.parse(data);
    return typeof event === "object" && event !== null && "event" in event ? (event as ServerEvent) : undefined;
  } catch {
    return undefined; // not of this protocol
  }
}
