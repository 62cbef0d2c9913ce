/** What the client needs from where it runs, so that it imports neither the DOM nor Node and tests own the clock. */

import { StreamSocket, type Web } from "./stream.ts";

/** The part of a WebSocket that is used. */
export interface SocketLike {
  onopen: (() => void) | null;
  onmessage: ((message: { data: unknown }) => void) | null;
  /** `reason`: the peer's words, if it had any. */
  onclose: ((close: { code: number; reason?: string }) => void) | null;
  onerror: (() => void) | null;
  /** What was sent and is still on its way out. */
  readonly bufferedAmount: number;
  send(data: string): void;
  close(code?: number): void;
}

export interface Environment {
  openSocket(url: string, protocol: string): SocketLike;
  /** Server-sent events below `base`, in the shape of a WebSocket; the token goes with each request. */
  openStream?(base: string, token: string | undefined): SocketLike;
  /** Milliseconds of Unix time. */
  now(): number;
  /** Runs once after so many milliseconds; the result cancels. */
  after(ms: number, run: () => void): () => void;
  /** In [0, 1), for jitter. */
  random(): number;
  /** 128 random bits as text, for ids. */
  newId(): string;
  /** SHA-256 of a text's UTF-8 in hexadecimal digits. Absent where a browser gives none: on plain http from another host. */
  sha256?(text: string): Promise<string>;
}

/** Where unsent messages survive a reload. Any method may throw: storage can be full or forbidden. */
export interface KeyValueStore {
  keys(): string[];
  get(key: string): string | null;
  set(key: string, value: string): void;
  remove(key: string): void;
}

interface Globals extends Web {
  WebSocket: new (url: string, protocol: string) => SocketLike;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  crypto: { getRandomValues(bytes: Uint8Array): Uint8Array; subtle?: { digest(algorithm: string, bytes: Uint8Array): Promise<ArrayBuffer> } };
  TextEncoder: new () => { encode(text: string): Uint8Array };
}

/** The environment of browsers and of current runtimes; `socket` replaces the global WebSocket. */
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
    // Not `randomUUID`, which plain http on a LAN does not have.
    newId: () => Array.from(globals.crypto.getRandomValues(new Uint8Array(16)), hex).join(""),
    ...(subtle && { sha256: async (text: string) => Array.from(new Uint8Array(await subtle.digest("SHA-256", new globals.TextEncoder().encode(text))), hex).join("") }),
  };
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}
