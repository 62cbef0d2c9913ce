/** Tracks requests for pages of older history, at most one per chat, and why the last one was refused. */
import type { Environment } from "./environment.ts";
import type { ChatId, ErrorEvent } from "./wire.ts";

export class HistoryRequests {
  /** The chats with a pending request; each value cancels the request's timeout. */
  #pending = new Map<ChatId, () => void>();
  #errors = new Map<ChatId, ErrorEvent>();
  #environment: Environment;
  #timeoutMs: number;
  #changed: () => void;

  /** A request without an answer after `timeoutMs` counts as ended, so that the page can be requested again. */
  constructor(environment: Environment, timeoutMs: number, changed: () => void) {
    this.#environment = environment;
    this.#timeoutMs = timeoutMs;
    this.#changed = changed;
  }

  isPending(chatId: ChatId): boolean { return this.#pending.has(chatId); }
  /** Why the gateway refused the chat's last request. */
  error(chatId: ChatId): ErrorEvent | undefined { return this.#errors.get(chatId); }

  /** Records that a page was requested. */
  begin(chatId: ChatId): void {
    this.#errors.delete(chatId);
    this.#pending.set(chatId, this.#environment.after(this.#timeoutMs, () => {
      this.#pending.delete(chatId);
      this.#changed();
    }));
  }

  /** Ends the chat's pending request. False if there was none. */
  end(chatId: ChatId): boolean {
    this.#pending.get(chatId)?.();
    return this.#pending.delete(chatId);
  }

  /** Ends the chat's pending request with an error. False if there was none, so the error is about something else. */
  fail(event: ErrorEvent & { chat_id: ChatId }): boolean {
    if (!this.end(event.chat_id)) return false;
    this.#errors.set(event.chat_id, event);
    return true;
  }

  /** Ends all pending requests: their answers were lost with the connection. */
  clear(): void {
    for (const cancel of this.#pending.values()) cancel();
    this.#pending.clear();
  }
}
