/** Pages of history that were asked for, one at a time for each chat, and why they were refused. */
import type { Environment } from "./environment.ts";
import type { ChatId, ErrorEvent } from "./wire.ts";

export class Older {
  #loading = new Map<ChatId, () => void>();
  #refused = new Map<ChatId, ErrorEvent>();
  #environment: Environment;
  #withinMs: number;
  #changed: () => void;

  /** An answer that takes longer than `withinMs` is not waited for. */
  constructor(environment: Environment, withinMs: number, changed: () => void) {
    this.#environment = environment;
    this.#withinMs = withinMs;
    this.#changed = changed;
  }

  isLoading(chatId: ChatId): boolean { return this.#loading.has(chatId); }
  refusal(chatId: ChatId): ErrorEvent | undefined { return this.#refused.get(chatId); }

  asked(chatId: ChatId): void {
    this.#refused.delete(chatId);
    this.#loading.set(chatId, this.#environment.after(this.#withinMs, () => {
      this.#loading.delete(chatId);
      this.#changed();
    }));
  }

  /** False if nobody waited for it. */
  answered(chatId: ChatId): boolean {
    this.#loading.get(chatId)?.();
    return this.#loading.delete(chatId);
  }

  /** False if nothing was asked for. */
  refuse(event: ErrorEvent & { chat_id: ChatId }): boolean {
    if (!this.answered(event.chat_id)) return false;
    this.#refused.set(event.chat_id, event);
    return true;
  }

  clear(): void {
    for (const cancel of this.#loading.values()) cancel();
    this.#loading.clear();
  }
}
