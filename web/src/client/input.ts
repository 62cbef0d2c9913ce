/**
 * Loads the whole input of a permission request, page by page, and checks its SHA-256. This is needed where the request's
 * event has the input truncated or not exactly as the agent wrote it.
 */
import type { Control } from "./chat.ts";
import type { Environment } from "./environment.ts";
import type { ChatId, PermissionRequest, RequestId } from "./wire.ts";

export type InputPage = Control<"request_input">;

/** An input that is being loaded, or has been. */
export interface WholeInput {
  /** The text of the pages that have arrived. */
  readonly text: string;
  /** The offset of the next page, in bytes of UTF-8. */
  readonly next: number;
  /** `read`: all pages have arrived and the hash is being computed. `whole`: it is right. `failed`: the pages or the hash do not match. */
  readonly phase: "loading" | "read" | "whole" | "failed";
  /** The SHA-256 of the whole input, as the gateway announces it with each page. */
  readonly announcedSha256?: string;
  /** The SHA-256 of `text`, in phase `whole`. */
  readonly sha256?: string;
}

/** A longer input fails to load. No agent can send one: the gateway's limit for a line of an agent is lower. */
const MAX_INPUT_BYTES = 64 << 20;

export const EMPTY_INPUT: WholeInput = { text: "", next: 0, phase: "loading" };

type Page = Pick<InputPage, "offset" | "text" | "next" | "input_bytes" | "input_sha256">;

/** Appends a page. A page that does not continue the input makes it fail, since a person could not agree to the result. */
export function appendPage(before: WholeInput, page: Page): WholeInput {
  if (before.phase !== "loading") return before;
  const end = page.offset + utf8Length(page.text);
  const fits = page.offset === before.next && (before.announcedSha256 ?? page.input_sha256) === page.input_sha256
    && end <= page.input_bytes && end <= MAX_INPUT_BYTES
    && (page.next === undefined ? end === page.input_bytes : page.next === end && end > page.offset);
  if (!fits) return { ...before, phase: "failed" };
  return { text: before.text + page.text, next: end, phase: page.next === undefined ? "read" : "loading", announcedSha256: page.input_sha256 };
}

/** The inputs that a person chose to load whole. Each is dropped when its request is resolved. */
export class Inputs {
  #all = new Map<string, WholeInput>();
  #requestPage: (chatId: ChatId, requestId: RequestId, offset: number) => boolean;
  #environment: Environment;
  #changed: () => void;

  /** `requestPage` sends a `request_input`; it gives false without a connection. `changed` is called after an input changed. */
  constructor(environment: Environment, requestPage: (chatId: ChatId, requestId: RequestId, offset: number) => boolean, changed: () => void) {
    this.#environment = environment;
    this.#requestPage = requestPage;
    this.#changed = changed;
  }

  get(chatId: ChatId, requestId: RequestId): WholeInput | undefined { return this.#all.get(keyOf(chatId, requestId)); }
  drop(chatId: ChatId, requestId: RequestId): void { this.#all.delete(keyOf(chatId, requestId)); }
  clear(): void { this.#all.clear(); }

  /** Begins to load the input of a request, unless that is under way. */
  load(chatId: ChatId, request: PermissionRequest): void {
    const { request_id: requestId, input, input_bytes, input_sha256 } = request;
    const key = keyOf(chatId, requestId);
    const { phase } = this.#all.get(key) ?? {};
    if (phase === "loading" || phase === "read") return;
    if (request.raw && !request.truncated && typeof input === "string" && input_sha256 !== undefined) {
      // The event has the whole text, so only its hash has to be checked.
      this.#put(key, appendPage(EMPTY_INPUT, { offset: 0, text: input, input_bytes: input_bytes ?? utf8Length(input), input_sha256 }));
    } else if (this.#requestPage(chatId, requestId, 0)) this.#put(key, EMPTY_INPUT);
  }

  receive(page: InputPage): void {
    const key = keyOf(page.chat_id, page.request_id);
    const before = this.#all.get(key);
    if (!before) return;
    const after = appendPage(before, page);
    const requested = after.phase !== "loading" || this.#requestPage(page.chat_id, page.request_id, after.next);
    this.#put(key, requested ? after : { ...after, phase: "failed" });
  }

  #put(key: string, input: WholeInput): void {
    this.#all.set(key, input);
    if (input.phase === "read") this.#verify(key, input);
    this.#changed();
  }

  #verify(key: string, input: WholeInput): void {
    const finish = (hash: string | undefined) => {
      if (this.#all.get(key) !== input) return; // dropped or loaded again while the hash was computed
      const matches = hash !== undefined && hash === input.announcedSha256;
      this.#all.set(key, matches ? { ...input, phase: "whole", sha256: hash } : { ...input, phase: "failed" });
      this.#changed();
    };
    // Without `crypto.subtle` (plain http from another host) the announced hash is taken as it is. All pages have arrived
    // by now, continue each other to the last byte and announce the same hash.
    if (!this.#environment.sha256) return finish(input.announcedSha256);
    this.#environment.sha256(input.text).then(finish, () => finish(undefined));
  }
}

function keyOf(chatId: ChatId, requestId: RequestId): string {
  return `${chatId} ${requestId}`;
}

/** The length of a text in bytes of UTF-8. */
export function utf8Length(text: string): number {
  let bytes = 0;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    // A surrogate pair has four bytes; each of its two code units counts for two.
    bytes += unit < 0x80 ? 1 : unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 2 : 3;
  }
  return bytes;
}
