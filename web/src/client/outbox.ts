/** Messages that the gateway has not acknowledged yet, kept over reloads. One key each, so that tabs do not overwrite each other. */
import type { KeyValueStore } from "./environment.ts";
import type { ChatId, ErrorCode, TurnId } from "./wire.ts";

export interface Unsent {
  readonly chatId: ChatId;
  /** Made once; every attempt carries it, so the message is applied once. */
  readonly turnId: TurnId;
  readonly content: string;
  readonly createdAtMs: number;
  /** Refused for good: a person decides whether to try again. */
  readonly failure?: { readonly code: ErrorCode; readonly detail: string };
  /** Refused for now: tried again by itself. */
  readonly delay?: { readonly code: ErrorCode; readonly detail: string; readonly attempt: number };
}

export class Outbox {
  #entries = new Map<TurnId, Unsent>();
  #store: KeyValueStore | undefined;
  #prefix: string;

  constructor(store: KeyValueStore | undefined, prefix: string) {
    this.#store = store;
    this.#prefix = `${prefix}outbox:`;
    for (const entry of this.#load().sort((a, b) => a.createdAtMs - b.createdAtMs)) this.#entries.set(entry.turnId, entry);
  }

  /** Oldest first. */
  all(): Unsent[] {
    return [...this.#entries.values()];
  }

  of(chatId: ChatId): Unsent[] {
    return this.all().filter((entry) => entry.chatId === chatId);
  }

  get(turnId: TurnId): Unsent | undefined {
    return this.#entries.get(turnId);
  }

  put(entry: Unsent): void {
    this.#entries.set(entry.turnId, entry);
    attempt(() => this.#store?.set(this.#prefix + entry.turnId, JSON.stringify(entry)));
  }

  remove(turnId: TurnId): Unsent | undefined {
    const entry = this.#entries.get(turnId);
    this.#entries.delete(turnId);
    if (entry) attempt(() => this.#store?.remove(this.#prefix + turnId));
    return entry;
  }

  #load(): Unsent[] {
    const keys = attempt(() => this.#store?.keys()) ?? [];
    return keys.filter((key) => key.startsWith(this.#prefix)).flatMap((key) => {
      const entry = attempt(() => JSON.parse(this.#store?.get(key) ?? "null") as Unsent | null);
      if (typeof entry?.chatId !== "string" || typeof entry.turnId !== "string" || typeof entry.content !== "string") return [];
      const { delay: _, ...rest } = entry;
      return [rest];
    });
  }
}

/** Storage that is full or forbidden costs durability over reloads, nothing else. */
function attempt<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch {
    return undefined;
  }
}
