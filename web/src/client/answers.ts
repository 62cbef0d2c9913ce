/** Tracks the answers to the agent's requests: which ones wait for the gateway, and why it refused the last one. */
import type { ChatId, ErrorEvent, RequestId } from "./wire.ts";

/** Why the gateway refused an answer to a request. The request is still open. */
export interface Refusal extends ErrorEvent {
  /** Grows with each refusal, so that two refusals with the same text can be told apart. */
  readonly nth: number;
}

export class Answers {
  /** Requests that were answered, until the gateway resolves them or refuses the answer, or the connection ends. */
  #pending = new Set<string>();
  /** The last refused answer to each open request. */
  #refusals = new Map<string, Refusal>();
  #refusalCount = 0;

  isPending(chatId: ChatId, requestId: RequestId): boolean { return this.#pending.has(key(chatId, requestId)); }
  /** Why the gateway refused the last answer to an open request. */
  refusal(chatId: ChatId, requestId: RequestId): Refusal | undefined { return this.#refusals.get(key(chatId, requestId)); }

  /** Records that an answer was sent. */
  begin(chatId: ChatId, requestId: RequestId): void { this.#pending.add(key(chatId, requestId)); }

  /**
   * Ends the pending answer to a request with an error. False if the request is no longer open, so that the refusal is
   * not to be shown at the request.
   */
  fail(chatId: ChatId, requestId: RequestId, error: ErrorEvent): boolean {
    this.#pending.delete(key(chatId, requestId));
    if (error.code === "unknown_request" || error.code === "already_resolved") return false;
    this.#refusals.set(key(chatId, requestId), { ...error, nth: (this.#refusalCount += 1) });
    return true;
  }

  /** Forgets the answers to a request that is resolved, or to an earlier request whose id a new one has. */
  drop(chatId: ChatId, requestId: RequestId): void {
    this.#pending.delete(key(chatId, requestId));
    this.#refusals.delete(key(chatId, requestId));
  }

  /** Ends all pending answers: the gateway's reactions to them were lost with the connection. */
  clear(): void { this.#pending.clear(); }
}

function key(chatId: ChatId, requestId: RequestId): string { return `${chatId} ${requestId}`; }
