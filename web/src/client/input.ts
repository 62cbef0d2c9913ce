/** The whole input of a permission request whose event shows it cut, page by page. */
import type { Answer, ChatId, PermissionRequest, RequestId } from "./wire.ts";

/** What a request says of its input. Absent from older gateways. */
export interface InputFacts {
  /** Of the whole text. */
  readonly input_bytes?: number;
  readonly input_sha256?: string;
  /** `input` is the text itself, since a JSON value cannot hold it exactly. */
  readonly raw?: boolean;
  readonly truncated?: boolean;
  readonly description_truncated?: boolean;
}
export type AskedPermission = PermissionRequest & InputFacts;

/** An answer, with the hash of an input that the event shows cut or not exactly. */
export type GivenAnswer = Answer | { readonly decision: "allow"; readonly input_sha256?: string };

export interface InputPage {
  readonly event: "request_input";
  readonly chat_id: ChatId;
  readonly request_id: RequestId;
  /** In bytes of UTF-8, as `next`, which the last page lacks. */
  readonly offset: number;
  readonly text: string;
  readonly next?: number;
  readonly input_bytes: number;
  readonly input_sha256: string;
}

export function isInputPage(event: { readonly event: string }): event is InputPage {
  return event.event === "request_input";
}

/** What is there of an input. */
export interface WholeInput {
  readonly text: string;
  /** Where the next page begins. */
  readonly next: number;
  readonly phase: "loading" | "whole" | "failed";
  readonly sha256?: string;
}

/** More than any agent's line may have. */
const LONGEST_BYTES = 64 << 20;

export const NO_PAGE: WholeInput = { text: "", next: 0, phase: "loading" };

/** With one more page. What does not fit together is no input that could be agreed to. */
export function withPage(before: WholeInput, page: InputPage): WholeInput {
  if (before.phase !== "loading") return before;
  const end = page.offset + utf8Length(page.text);
  const fits = page.offset === before.next && (before.sha256 ?? page.input_sha256) === page.input_sha256
    && end <= page.input_bytes && end <= LONGEST_BYTES
    && (page.next === undefined ? end === page.input_bytes : page.next === end && end > page.offset);
  if (!fits) return { ...before, phase: "failed" };
  return { text: before.text + page.text, next: end, phase: page.next === undefined ? "whole" : "loading", sha256: page.input_sha256 };
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
