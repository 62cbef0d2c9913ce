/** The chats there are, newest first, page by page. */
import type { Control } from "./chat.ts";
import type { ChatId, ChatSummary, ClientEnvelope } from "./wire.ts";

const PAGE = 50;
/** After this an unanswered request no longer blocks the next. */
const ANSWER_WITHIN_MS = 15_000;

export class ChatList {
  #items: readonly ChatSummary[] = [];
  #before: string | undefined;
  #asked: { more: boolean; at: number } | undefined;
  #known = false;

  get items(): readonly ChatSummary[] { return this.#items; }
  /** Older chats can be asked for. */
  get hasMore(): boolean { return this.#before !== undefined; }
  /** A first page has arrived. */
  get isKnown(): boolean { return this.#known; }

  /** The frame that asks, unless an answer is awaited. */
  ask(more: boolean, now: number): ClientEnvelope | undefined {
    if (this.isAwaiting(now)) return undefined;
    if (more && this.#before === undefined) return undefined;
    this.#asked = { more, at: now };
    return { type: "list_chats", limit: PAGE, ...(more && this.#before !== undefined && { before: this.#before }) };
  }

  receive(page: Control<"chats">): void {
    const more = this.#asked?.more ?? false;
    this.#asked = undefined;
    const fresh = new Set(page.chats.map((chat) => chat.chat_id));
    const oldest = page.chats.at(-1);
    // A first page replaces what it covers, so deleted chats go, and keeps the older pages that were loaded.
    const keep = more ? () => true : (chat: ChatSummary) => page.before !== undefined && oldest !== undefined && order(oldest, chat) < 0;
    const kept = this.#items.filter((chat) => !fresh.has(chat.chat_id) && keep(chat));
    if (more || kept.length === 0) this.#before = page.before;
    this.#items = newestFirst([...page.chats, ...kept]);
    this.#known = true;
  }

  /** An answer is awaited, which may be older than what happened meanwhile. */
  isAwaiting(now: number): boolean { return this.#asked !== undefined && now - this.#asked.at < ANSWER_WITHIN_MS; }

  /** The connection is gone, and with it the answer. */
  reset(): void {
    this.#asked = undefined;
  }

  touch(chatId: ChatId, now: number, change: { title?: string; running?: boolean }): void {
    const known = this.#items.find((chat) => chat.chat_id === chatId)
      ?? { chat_id: chatId, updated_at_ms: now, running: false, head: { epoch: "", seq: 0 } };
    const moved = "running" in change ? { updated_at_ms: now } : {};
    const rest = this.#items.filter((chat) => chat.chat_id !== chatId);
    this.#items = newestFirst([{ ...known, ...change, ...moved }, ...rest]);
  }

  has(chatId: ChatId): boolean {
    return this.#items.some((chat) => chat.chat_id === chatId);
  }

  remove(chatId: ChatId): void {
    this.#items = this.#items.filter((chat) => chat.chat_id !== chatId);
  }
}

function newestFirst(chats: ChatSummary[]): ChatSummary[] {
  return chats.sort(order);
}

/** As the gateway pages them. */
function order(a: ChatSummary, b: ChatSummary): number {
  return b.updated_at_ms - a.updated_at_ms || (a.chat_id < b.chat_id ? 1 : -1);
}
