/** A gateway's end of the wire and a clock, both in the test's hand. */
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

  /** What was sent since the last call. */
  sent(): ClientEnvelope[] { return this.#sent.splice(0); }
  deliver(...events: object[]): void {
    for (const event of events) this.onmessage?.({ data: JSON.stringify(event) });
  }
  drop(code = 1006, reason = ""): void { this.onclose?.({ code, reason }); }
}

export class World implements Environment {
  sockets: FakeSocket[] = [];
  /** Those that are streams of server-sent events. */
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

  /** Lets time pass, timer by timer. */
  pass(ms: number): void {
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

export function client(store = new MemoryStore(), token: string | undefined = "secret") {
  const world = new World();
  const it = new Client({ url: () => "ws://gateway/ws", token: () => token, environment: world, store });
  const errors: ServerEvent[] = [];
  it.onError((error) => errors.push({ event: "error", ...error }));
  return { world, it, store, errors };
}

/** Opens the newest socket and says `ready`; returns what the client said after its token. */
export function greet(world: World): ClientEnvelope[] {
  world.socket.onopen?.();
  world.socket.deliver(READY);
  return world.socket.sent().filter((each) => each.type !== "authenticate" && each.type !== "list_chats");
}
