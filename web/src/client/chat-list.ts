/** The list of the principal's chats, newest first, loaded page by page. */
import type { Control } from "./chat.ts";
import type { ChatId, ChatSummary, ClientEnvelope } from "./wire.ts";

const PAGE_CHATS = 50;
/** A request without an answer for this long no longer blocks the next one. */
const ANSWER_TIMEOUT_MS = 15_000;

export class ChatList {
  #items: readonly ChatSummary[] = [];
  /** Continues the list after its oldest chat; undefined when all chats are loaded. */
  #before: string | undefined;
  /** The request whose answer is awaited; `older`: it continues the list, else it loads the newest chats. */
  #pending: { older: boolean; sentAtMs: number } | undefined;
  #loaded = false;

  get items(): readonly ChatSummary[] { return this.#items; }
  /** Whether the gateway has chats older than those in `items`. */
  get hasMore(): boolean { return this.#before !== undefined; }
  /** Whether a first page has arrived; before that, an empty list does not mean that there are no chats. */
  get isLoaded(): boolean { return this.#loaded; }

  /** The frame that requests the newest chats, or the ones after the list's oldest. Undefined while a request is pending. */
  request(older: boolean, nowMs: number): ClientEnvelope | undefined {
    if (this.isPending(nowMs)) return undefined;
    if (older && this.#before === undefined) return undefined;
    this.#pending = { older, sentAtMs: nowMs };
    return { type: "list_chats", limit: PAGE_CHATS, ...(older && this.#before !== undefined && { before: this.#before }) };
  }

  receive(page: Control<"chats">): void {
    const older = this.#pending?.older ?? false;
    this.#pending = undefined;
    const received = new Set(page.chats.map((chat) => chat.chat_id));
    const last = page.chats.at(-1);
    // The newest page replaces the part of the list that it covers, which drops deleted chats; older chats stay loaded.
    const isOutsidePage = older ? () => true : (chat: ChatSummary) => page.before !== undefined && last !== undefined && byNewest(last, chat) < 0;
    const retained = this.#items.filter((chat) => !received.has(chat.chat_id) && isOutsidePage(chat));
    if (older || retained.length === 0) this.#before = page.before;
    this.#items = [...page.chats, ...retained].sort(byNewest);
    this.#loaded = true;
  }

  /** Whether a request awaits its answer. The answer may not contain changes that happened after the request. */
  isPending(nowMs: number): boolean { return this.#pending !== undefined && nowMs - this.#pending.sentAtMs < ANSWER_TIMEOUT_MS; }

  /** Forgets the pending request: its answer was lost with the connection. */
  reset(): void {
    this.#pending = undefined;
  }

  /** Changes a chat's entry, or adds one. A change of `running` counts as activity and moves the chat to the top. */
  touch(chatId: ChatId, nowMs: number, change: { title?: string; running?: boolean }): void {
    const entry = this.#items.find((chat) => chat.chat_id === chatId)
      ?? { chat_id: chatId, updated_at_ms: nowMs, running: false, head: { epoch: "", seq: 0 } };
    const activity = "running" in change ? { updated_at_ms: nowMs } : {};
    const others = this.#items.filter((chat) => chat.chat_id !== chatId);
    this.#items = [{ ...entry, ...change, ...activity }, ...others].sort(byNewest);
  }

  has(chatId: ChatId): boolean {
    return this.#items.some((chat) => chat.chat_id === chatId);
  }

  remove(chatId: ChatId): void {
    this.#items = this.#items.filter((chat) => chat.chat_id !== chatId);
  }
}

/** The order in which the gateway pages chats: latest activity first, then by descending id. */
function byNewest(a: ChatSummary, b: ChatSummary): number {
  return b.updated_at_ms - a.updated_at_ms || (a.chat_id < b.chat_id ? 1 : -1);
}
