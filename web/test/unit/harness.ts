/** Fakes of the client's environment, sockets and storage, all controlled by the test. */
import { Client, type ClientEnvelope, type Environment, type KeyValueStore, type ServerEvent, type SocketLike } from "../../src/client/index.ts";

export class FakeSocket implements SocketLike {
  onopen: (() => void) | null = null;
  onmessage: ((message: { data: unknown }) => void) | null = null;
  onclose: ((close: { code: number; reason?: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  readonly url: string;
  closed = false;
  bufferedAmount = 0;
  #sent: ClientEnvelope[] = [];

  constructor(url: string) { this.url = url; }
  send(data: string): void { this.#sent.push(JSON.parse(data) as ClientEnvelope); }
  close(): void { this.closed = true; }

  /** The frames that were sent since the last call. */
  sent(): ClientEnvelope[] { return this.#sent.splice(0); }
  deliver(...events: object[]): void {
    for (const event of events) this.onmessage?.({ data: JSON.stringify(event) });
  }
  drop(code = 1006, reason = ""): void { this.onclose?.({ code, reason }); }
}

export class FakeEnvironment implements Environment {
  sockets: FakeSocket[] = [];
  /** The sockets that are streams of server-sent events. */
  streams: FakeSocket[] = [];
  clock = 1_000_000;
  sha256?: (text: string) => Promise<string>;
  #timers = new Set<{ at: number; run: () => void }>();
  #ids = 0;

  openSocket(url: string): SocketLike {
    const socket = new FakeSocket(url);
    this.sockets.push(socket);
    return socket;
  }
  openStream(base: string, token: string | undefined): SocketLike {
    const stream = new FakeSocket(`${base}sse as ${token}`);
    this.sockets.push(stream);
    this.streams.push(stream);
    return stream;
  }
  now(): number { return this.clock; }
  random(): number { return 0.5; }
  newId(): string { return `id${(this.#ids += 1)}`; }
  after(ms: number, run: () => void): () => void {
    const timer = { at: this.clock + ms, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Advances the clock, and runs the timers that are due in order. */
  advance(ms: number): void {
    const end = this.clock + ms;
    for (;;) {
      const next = [...this.#timers].sort((a, b) => a.at - b.at)[0];
      if (!next || next.at > end) break;
      this.#timers.delete(next);
      this.clock = next.at;
      next.run();
    }
    this.clock = end;
  }
  get socket(): FakeSocket { return this.sockets.at(-1)!; }
}

export class MemoryStore implements KeyValueStore {
  map = new Map<string, string>();
  keys(): string[] { return [...this.map.keys()]; }
  get(key: string): string | null { return this.map.get(key) ?? null; }
  set(key: string, value: string): void { this.map.set(key, value); }
  remove(key: string): void { this.map.delete(key); }
}

export const READY = {
  event: "ready", chat_id: "default", client_id: "page", protocol: "switchboard.v1",
  limits: { frame_bytes: 1000, text_bytes: 100, chats_per_connection: 64, queued_turns: 16 },
};

export function newClient(store = new MemoryStore(), token: string | undefined = "secret") {
  const environment = new FakeEnvironment();
  const client = new Client({ url: () => "ws://gateway/ws", token: () => token, environment, store });
  const errors: ServerEvent[] = [];
  client.onError((error) => errors.push({ event: "error", ...error }));
  return { environment, client, store, errors };
}

/**
 * Opens the newest socket and delivers `ready`. Gives the frames that the client sent, without the token and the request for
 * the chat list.
 */
export function completeHandshake(environment: FakeEnvironment): ClientEnvelope[] {
  environment.socket.onopen?.();
  environment.socket.deliver(READY);
  return environment.socket.sent().filter((each) => each.type !== "authenticate" && each.type !== "list_chats");
}
