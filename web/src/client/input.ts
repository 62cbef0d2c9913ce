/** The whole input of a permission request whose event shows it cut or not exactly, page by page, and its hash. */
import type { Control } from "./chat.ts";
import type { Environment } from "./environment.ts";
import type { ChatId, PermissionRequest, RequestId } from "./wire.ts";

export type InputPage = Control<"request_input">;

/** What is there of an input. */
export interface WholeInput {
  readonly text: string;
  /** Where the next page begins, in bytes of UTF-8. */
  readonly next: number;
  /** `read`: all pages are here, and their hash is being computed. */
  readonly phase: "loading" | "read" | "whole" | "failed";
  /** What the pages say that their whole hashes to. */
  readonly announced?: string;
  /** Of `text`, once that is whole. */
  readonly sha256?: string;
}

/** More than any agent's line may have. */
const LONGEST_BYTES = 64 << 20;

export const NO_PAGE: WholeInput = { text: "", next: 0, phase: "loading" };

type Page = Pick<InputPage, "offset" | "text" | "next" | "input_bytes" | "input_sha256">;

/** With one more page. What does not fit together is no input that could be agreed to. */
export function withPage(before: WholeInput, page: Page): WholeInput {
  if (before.phase !== "loading") return before;
  const end = page.offset + utf8Length(page.text);
  const fits = page.offset === before.next && (before.announced ?? page.input_sha256) === page.input_sha256
    && end <= page.input_bytes && end <= LONGEST_BYTES
    && (page.next === undefined ? end === page.input_bytes : page.next === end && end > page.offset);
  if (!fits) return { ...before, phase: "failed" };
  return { text: before.text + page.text, next: end, phase: page.next === undefined ? "read" : "loading", announced: page.input_sha256 };
}

/** The inputs that somebody wanted to see whole, as long as their requests are open. */
export class Inputs {
  #all = new Map<string, WholeInput>();
  #ask: (chatId: ChatId, requestId: RequestId, offset: number) => boolean;
  #environment: Environment;
  #changed: () => void;

  /** `ask` sends a `request_input`; false without a connection. */
  constructor(environment: Environment, ask: (chatId: ChatId, requestId: RequestId, offset: number) => boolean, changed: () => void) {
    this.#environment = environment;
    this.#ask = ask;
    this.#changed = changed;
  }

  get(chatId: ChatId, requestId: RequestId): WholeInput | undefined { return this.#all.get(keyOf(chatId, requestId)); }
  drop(chatId: ChatId, requestId: RequestId): void { this.#all.delete(keyOf(chatId, requestId)); }
  clear(): void { this.#all.clear(); }

  load(chatId: ChatId, request: PermissionRequest): void {
    const { request_id: requestId, input, input_bytes, input_sha256 } = request;
    const key = keyOf(chatId, requestId);
    const { phase } = this.#all.get(key) ?? {};
    if (phase === "loading" || phase === "read") return;
    if (request.raw && !request.truncated && typeof input === "string" && input_sha256 !== undefined) {
      // The event has all of the text.
      this.#put(key, withPage(NO_PAGE, { offset: 0, text: input, input_bytes: input_bytes ?? utf8Length(input), input_sha256 }));
    } else if (this.#ask(chatId, requestId, 0)) this.#put(key, NO_PAGE);
  }

  receive(page: InputPage): void {
    const key = keyOf(page.chat_id, page.request_id);
    const before = this.#all.get(key);
    if (!before) return;
    const after = withPage(before, page);
    const goesOn = after.phase !== "loading" || this.#ask(page.chat_id, page.request_id, after.next);
    this.#put(key, goesOn ? after : { ...after, phase: "failed" });
  }

  #put(key: string, input: WholeInput): void {
    this.#all.set(key, input);
    if (input.phase === "read") this.#hash(key, input);
    this.#changed();
  }

  #hash(key: string, read: WholeInput): void {
    const checked = (hash: string | undefined) => {
      if (this.#all.get(key) !== read) return; // dropped, or loaded anew
      const right = hash !== undefined && hash === read.announced;
      this.#all.set(key, right ? { ...read, phase: "whole", sha256: hash } : { ...read, phase: "failed" });
      this.#changed();
    };
    // A browser has no `crypto.subtle` on plain http from another host. There the hash that every page named is all
    // there is, and it is taken only since all pages are here and fit together to the last byte.
    if (!this.#environment.sha256) return checked(read.announced);
    this.#environment.sha256(read.text).then(checked, () => checked(undefined));
  }
}

function keyOf(chatId: ChatId, requestId: RequestId): string {
  return `${chatId} ${requestId}`;
}

export function utf8Length(text: string): number {
  let bytes = 0;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    // Each half of a surrogate pair counts two of its four bytes.
    bytes += unit < 0x80 ? 1 : unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 2 : 3;
  }
  return bytes;
}
