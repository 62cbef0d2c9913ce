/**
 * The connection to the gateway: handshake, liveness checks and reconnecting. It knows nothing of chats. Where no WebSocket
 * gets through it falls back to server-sent events, and then tries a WebSocket again from time to time.
 */
import { backoff } from "./backoff.ts";
import type { Environment, SocketLike } from "./environment.ts";
import { PROTOCOL, type ClientEnvelope, type ServerEvent } from "./wire.ts";

/** After this much silence the client sends a ping. */
export const PING_AFTER_MS = 20_000;
/** After this much silence, ping included, the connection counts as dead. */
export const DEAD_AFTER_MS = 45_000;
/** The longest time from dialling to `ready`. */
export const CONNECT_TIMEOUT_MS = 10_000;
/** Where there is a fallback, it is used after a WebSocket has not opened for this long. */
export const OPEN_TIMEOUT_MS = 4_000;
/** How soon after falling back the client first probes for a WebSocket. */
export const FIRST_PROBE_AFTER_MS = 20_000;
/** How long after a failed probe the client probes again. */
export const PROBE_EVERY_MS = 5 * 60_000;
/** Without a token: a gateway that needs none sends `ready` at once; one still silent after this needs a token. */
export const READY_WITHOUT_TOKEN_MS = 1_500;
/** A connection that was ready for this long resets the backoff. */
const STABLE_AFTER_MS = 5_000;
/** How long the gateway may take to answer the ping that checks a connection after a wake-up. */
const WAKE_ANSWER_MS = 5_000;

export const CLOSE = { policy: 1008, tooBig: 1009, restart: 1012, tryLater: 1013, unauthorized: 4401, tooSlow: 4408, replaced: 4409 } as const;
/** The code that WebSocket defines for a connection that ended without a close frame, so without a reason. */
const ABNORMAL = 1006;

/** How the gateway ended a connection. */
export interface Closed {
  readonly code: number;
  /** The gateway's explanation; may be empty. */
  readonly reason: string;
}

export type Status =
  /** `closed`, here and below: how the last connection ended; kept until the next one is ready. */
  | { readonly state: "connecting"; readonly closed?: Closed }
  | { readonly state: "online" }
  /** The client will connect again at `retryAt`, in milliseconds of Unix time. */
  | { readonly state: "waiting"; readonly retryAt: number; readonly attempt: number; readonly closed?: Closed }
  /** The client will not connect again by itself. */
  | { readonly state: "stopped"; readonly reason: "unauthorized" | "replaced" | "closed"; readonly closed?: Closed };

export type Transport = "websocket" | "sse";

export interface Addresses {
  /** The address of the WebSocket. */
  url: () => string;
  /** The address, ending in a slash, below which the gateway serves `sse` and `messages`. Without it there is no fallback. */
  fallback?: (() => string) | undefined;
}

export interface ConnectionHandlers {
  status(status: Status): void;
  event(event: ServerEvent): void;
  /** A connection ended, or an attempt to connect failed. `code` is a WebSocket close code. */
  disconnected(code: number): void;
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
  /** When the present connection became ready; 0 before that. */
  #readyAt = 0;
  #lastReceivedAt = 0;
  #pingPending = false;
  #cancelTimer = () => {};
  #transport: Transport = "websocket";
  /** Set once the fallback worked where a WebSocket did not: the next attempt begins with the fallback. */
  #webSocketBlocked = false;
  /** A WebSocket that is being tried while the fallback is in use. */
  #probe: SocketLike | undefined;
  #cancelProbe = () => {};

  constructor(environment: Environment, addresses: Addresses, token: () => string | undefined, handlers: ConnectionHandlers) {
    this.#environment = environment;
    this.#addresses = addresses;
    this.#token = token;
    this.#handlers = handlers;
  }

  get status(): Status {
    return this.#status;
  }

  /** The transport of the present connection, or of the last attempt. */
  get transport(): Transport {
    return this.#transport;
  }

  /** Connects now, whatever the state, and asks for the token again. */
  start(): void {
    this.#closed = undefined;
    this.#releaseSocket();
    this.#attempt = 0;
    this.#dial();
  }

  stop(): void {
    if (this.#status.state === "stopped") return; // a status listener may call `stop`; another change would call it again
    this.#releaseSocket();
    this.#setStatus({ state: "stopped", reason: "closed" });
  }

  /** To be called when the network or the page is back: ends a wait for the next attempt, and checks a silent connection. */
  wake(): void {
    if (this.#status.state === "waiting") {
      this.#attempt = 0;
      this.#dial();
    } else if (this.#status.state === "online" && this.#environment.now() - this.#lastReceivedAt > WAKE_ANSWER_MS) {
      this.#ping(WAKE_ANSWER_MS);
    }
  }

  /** Sends a frame. False if the connection is not ready; the frame is not queued then. */
  send(envelope: ClientEnvelope): boolean {
    if (this.#status.state !== "online" || !this.#socket) return false;
    this.#socket.send(JSON.stringify(envelope));
    return true;
  }

  #dial(): void {
    this.#releaseSocket();
    this.#setStatus({ state: "connecting", ...this.#lastClose() });
    this.#connect(this.#webSocketBlocked ? "sse" : "websocket");
  }

  #connect(transport: Transport): void {
    this.#releaseSocket();
    this.#transport = transport;
    const token = this.#token();
    let socket: SocketLike;
    try {
      socket = this.#openSocket(transport, token);
    } catch {
      this.#ended(ABNORMAL);
      return;
    }
    this.#setTimer(transport === "websocket" && this.#canFallBack() ? OPEN_TIMEOUT_MS : CONNECT_TIMEOUT_MS, () => this.#ended(ABNORMAL));
    socket.onopen = () => {
      // The request that opened a stream already had the token.
      if (transport === "sse") return;
      if (token !== undefined) socket.send(JSON.stringify({ type: "authenticate", token } satisfies ClientEnvelope));
      this.#setTimer(token !== undefined ? CONNECT_TIMEOUT_MS : READY_WITHOUT_TOKEN_MS, () => this.#ended(token !== undefined ? ABNORMAL : CLOSE.unauthorized));
    };
    this.#adopt(socket);
  }

  #openSocket(transport: Transport, token: string | undefined): SocketLike {
    const { url, fallback } = this.#addresses;
    if (transport === "sse" && fallback && this.#environment.openStream) return this.#environment.openStream(fallback(), token);
    return this.#environment.openSocket(url(), PROTOCOL);
  }

  #adopt(socket: SocketLike): void {
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#ended(code, reason);
    socket.onerror = null; // `onclose` always follows
  }

  #canFallBack(): boolean {
    return this.#addresses.fallback !== undefined && this.#environment.openStream !== undefined;
  }

  /** Handles a socket's end. A WebSocket that ends before `ready` and without a close code may be blocked on the way: falls back. */
  #ended(code: number, reason = ""): void {
    const unexplained = this.#readyAt === 0 && code === ABNORMAL;
    if (unexplained && this.#transport === "websocket" && this.#canFallBack()) return this.#connect("sse");
    // The fallback ended in the same way, so it is no better than a WebSocket; the next attempt tries a WebSocket first.
    if (unexplained) this.#webSocketBlocked = false;
    this.#disconnected(code, reason);
  }

  /** Tries a WebSocket while the fallback is in use. The stream stays until the WebSocket is ready and replaces it. */
  #probeWebSocket(): void {
    const token = this.#token();
    let socket: SocketLike;
    try {
      socket = this.#openSocket("websocket", token);
    } catch {
      return this.#probeLater(PROBE_EVERY_MS);
    }
    this.#probe = socket;
    this.#cancelProbe = this.#environment.after(CONNECT_TIMEOUT_MS, () => this.#probeLater(PROBE_EVERY_MS));
    socket.onopen = () => {
      if (token !== undefined) socket.send(JSON.stringify({ type: "authenticate", token } satisfies ClientEnvelope));
    };
    socket.onmessage = ({ data }) => {
      if (parse(data)?.event !== "ready") return;
      // Frames that wait for their POST would be lost with the stream.
      if (this.#socket?.bufferedAmount !== 0) return this.#probeLater(FIRST_PROBE_AFTER_MS);
      this.#probe = undefined;
      this.#releaseSocket();
      this.#transport = "websocket";
      this.#webSocketBlocked = false;
      this.#handlers.disconnected(1000);
      this.#adopt(socket);
      this.#receive(data);
    };
    socket.onclose = () => this.#probeLater(PROBE_EVERY_MS);
    socket.onerror = null;
  }

  #probeLater(ms: number): void {
    this.#stopProbing();
    this.#cancelProbe = this.#environment.after(ms, () => this.#probeWebSocket());
  }

  #stopProbing(): void {
    this.#cancelProbe();
    release(this.#probe);
    this.#probe = undefined;
  }

  #receive(data: unknown): void {
    this.#lastReceivedAt = this.#environment.now();
    if (this.#pingPending) this.#watchLiveness(PING_AFTER_MS);
    const event = parse(data);
    if (!event) return;
    if (event.event === "ready") {
      this.#readyAt = this.#lastReceivedAt;
      this.#closed = undefined;
      this.#setStatus({ state: "online" });
      this.#watchLiveness(PING_AFTER_MS);
      if (this.#transport === "sse") {
        this.#webSocketBlocked = true;
        this.#probeLater(FIRST_PROBE_AFTER_MS);
      }
    }
    this.#handlers.event(event);
  }

  /** Checks in `ms` whether the gateway is silent. Received frames only note the time, so that they need no timer each. */
  #watchLiveness(ms: number): void {
    this.#pingPending = false;
    this.#setTimer(ms, () => {
      const silent = this.#environment.now() - this.#lastReceivedAt;
      if (silent < PING_AFTER_MS) this.#watchLiveness(PING_AFTER_MS - silent);
      else this.#ping(DEAD_AFTER_MS - PING_AFTER_MS);
    });
  }

  /** Pings, since silence alone does not prove that the gateway is gone: timers of hidden pages come late. */
  #ping(answerWithin: number): void {
    this.send({ type: "ping" });
    this.#pingPending = true;
    this.#setTimer(answerWithin, () => this.#disconnected(ABNORMAL));
  }

  #disconnected(code: number, reason = ""): void {
    const now = this.#environment.now();
    const wasStable = this.#readyAt > 0 && now - this.#readyAt > STABLE_AFTER_MS;
    this.#releaseSocket();
    this.#closed = { code, reason };
    if (code === CLOSE.unauthorized) this.#setStatus({ state: "stopped", reason: "unauthorized", ...this.#lastClose() });
    else if (code === CLOSE.replaced) this.#setStatus({ state: "stopped", reason: "replaced", ...this.#lastClose() });
    else {
      if (wasStable) this.#attempt = 0;
      // An overloaded gateway, or one that rejects what this client sends, gets a longer pause.
      if (code === CLOSE.tryLater || code === CLOSE.policy) this.#attempt = Math.max(this.#attempt, 3);
      const wait = backoff(this.#attempt, this.#environment.random());
      this.#attempt += 1;
      this.#setStatus({ state: "waiting", retryAt: now + wait, attempt: this.#attempt, ...this.#lastClose() });
      this.#setTimer(wait, () => this.#dial());
    }
    this.#handlers.disconnected(code);
  }

  #lastClose(): { closed?: Closed } {
    return this.#closed ? { closed: this.#closed } : {};
  }

  /** Forgets the socket without waiting for its close handshake, which would never end on a dead network. */
  #releaseSocket(): void {
    this.#cancelTimer();
    this.#stopProbing();
    this.#readyAt = 0;
    this.#pingPending = false;
    release(this.#socket);
    this.#socket = undefined;
  }

  #setTimer(ms: number, run: () => void): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#environment.after(ms, run);
  }

  #setStatus(status: Status): void {
    this.#status = status;
    this.#handlers.status(status);
  }
}

function release(socket: SocketLike | undefined): void {
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
    return undefined; // not JSON, so not a frame of this protocol
  }
}
