/**
 * Messages that the gateway has not acknowledged yet. They are stored, so that they survive a reload of the page; each has
 * a storage key of its own, so that tabs do not overwrite each other's messages.
 */
import type { KeyValueStore } from "./environment.ts";
import type { ChatId, ErrorCode, TurnId } from "./wire.ts";

export interface Unsent {
  readonly chatId: ChatId;
  /** Made once per message and sent with every attempt, so that the gateway can drop repetitions. */
  readonly turnId: TurnId;
  readonly content: string;
  readonly createdAtMs: number;
  /** Why the gateway refused the message for good; a person decides whether to send it again. */
  readonly failure?: { readonly code: ErrorCode; readonly detail: string };
  /** Why the gateway refused the message for now; the client sends it again. `attempt` counts such refusals from 0. */
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

  /** All messages, oldest first. */
  all(): Unsent[] {
    return [...this.#entries.values()];
  }

  /** The messages of one chat, oldest first. */
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
      const { delay: _, ...rest } = entry; // the retry timer ended with the page that set it
      return [rest];
    });
  }
}

/** Gives undefined if storage throws, as it does when full or forbidden: messages then are lost on a reload, but still sent. */
function attempt<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch {
    return undefined;
  }
}
