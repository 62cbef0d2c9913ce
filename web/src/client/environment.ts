/**
 * What the client needs from its runtime: sockets, clock, random numbers. It is passed in, so that the client imports
 * neither the DOM nor Node, and tests control the clock.
 */

import { StreamSocket, type StreamGlobals } from "./stream.ts";

/** The part of the WebSocket interface that the client uses. */
export interface SocketLike {
  onopen: (() => void) | null;
  onmessage: ((message: { data: unknown }) => void) | null;
  /** `reason`: the peer's explanation, if it sent one. */
  onclose: ((close: { code: number; reason?: string }) => void) | null;
  onerror: (() => void) | null;
  /** How much of what was passed to `send` has not left yet; the client only tests whether it is 0. */
  readonly bufferedAmount: number;
  send(data: string): void;
  close(code?: number): void;
}

export interface Environment {
  openSocket(url: string, protocol: string): SocketLike;
  /** Opens server-sent events below the address `base`, with the interface of a WebSocket. Each request carries the token. */
  openStream?(base: string, token: string | undefined): SocketLike;
  /** Milliseconds of Unix time. */
  now(): number;
  /** Calls `run` once after `ms` milliseconds; the returned function cancels that. */
  after(ms: number, run: () => void): () => void;
  /** A random number in [0, 1), for jitter. */
  random(): number;
  /** 128 random bits as text, for ids of chats and turns. */
  newId(): string;
  /** SHA-256 of the text's UTF-8 in hexadecimal digits. Absent where the browser has no `crypto.subtle`: on plain http from another host. */
  sha256?(text: string): Promise<string>;
}

/** Storage in which unsent messages survive a reload. Any method may throw: storage can be full or forbidden. */
export interface KeyValueStore {
  keys(): string[];
  get(key: string): string | null;
  set(key: string, value: string): void;
  remove(key: string): void;
}

interface Globals extends StreamGlobals {
  WebSocket: new (url: string, protocol: string) => SocketLike;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  crypto: { getRandomValues(bytes: Uint8Array): Uint8Array; subtle?: { digest(algorithm: string, bytes: Uint8Array): Promise<ArrayBuffer> } };
  TextEncoder: new () => { encode(text: string): Uint8Array };
}

/** The environment of browsers and of current server runtimes; `socket` replaces the global WebSocket. */
export function defaultEnvironment(socket?: Globals["WebSocket"]): Environment {
  const globals = globalThis as unknown as Globals;
  const after = (ms: number, run: () => void) => {
    const timer = globals.setTimeout(run, ms);
    return () => globals.clearTimeout(timer);
  };
  const { subtle } = globals.crypto;
  return {
    openSocket: (url, protocol) => new (socket ?? globals.WebSocket)(url, protocol),
    openStream: (base, token) => new StreamSocket(base, token, globals, after),
    now: () => Date.now(),
    after,
    random: () => Math.random(),
    // Not `crypto.randomUUID`, which browsers do not offer to pages on plain http from another host.
    newId: () => Array.from(globals.crypto.getRandomValues(new Uint8Array(16)), hex).join(""),
    ...(subtle && { sha256: async (text: string) => Array.from(new Uint8Array(await subtle.digest("SHA-256", new globals.TextEncoder().encode(text))), hex).join("") }),
  };
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}
