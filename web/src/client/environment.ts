/** What the client needs from where it runs, so that it imports neither the DOM nor Node and tests own the clock. */

/** The part of a WebSocket that is used. */
export interface SocketLike {
  onopen: (() => void) | null;
  onmessage: ((message: { data: unknown }) => void) | null;
  onclose: ((close: { code: number }) => void) | null;
  onerror: (() => void) | null;
  send(data: string): void;
  close(code?: number): void;
}

export interface Environment {
  openSocket(url: string, protocol: string): SocketLike;
  /** Milliseconds of Unix time. */
  now(): number;
  /** Runs once after so many milliseconds; the result cancels. */
  after(ms: number, run: () => void): () => void;
  /** In [0, 1), for jitter. */
  random(): number;
  /** 128 random bits as text, for ids. */
  newId(): string;
}

/** Where unsent messages survive a reload. Any method may throw: storage can be full or forbidden. */
export interface KeyValueStore {
  keys(): string[];
  get(key: string): string | null;
  set(key: string, value: string): void;
  remove(key: string): void;
}

interface Globals {
  WebSocket: new (url: string, protocol: string) => SocketLike;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  crypto: { getRandomValues(bytes: Uint8Array): Uint8Array };
}

/** The environment of browsers and of current runtimes; `socket` replaces the global WebSocket. */
export function defaultEnvironment(socket?: Globals["WebSocket"]): Environment {
  const globals = globalThis as unknown as Globals;
  return {
    openSocket: (url, protocol) => new (socket ?? globals.WebSocket)(url, protocol),
    now: () => Date.now(),
    after: (ms, run) => {
      const timer = globals.setTimeout(run, ms);
      return () => globals.clearTimeout(timer);
    },
    random: () => Math.random(),
    // Not `randomUUID`, which plain http on a LAN does not have.
    newId: () => Array.from(globals.crypto.getRandomValues(new Uint8Array(16)), hex).join(""),
  };
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}
