/** Checks answers to questions: chosen options, or a written text in the question's format. */
import type { QuestionItem, QuestionOption } from "../../client/index.ts";

/** A draft of an answer to one question: the labels of the chosen options, and the written text. */
export interface DraftAnswer {
  readonly chosen: readonly string[];
  readonly own: string;
}
export const NO_ANSWER: DraftAnswer = { chosen: [], own: "" };

const BOOLEAN_OPTIONS: readonly QuestionOption[] = [{ label: "true" }, { label: "false" }];
const INTEGER_LIMIT = 2n ** 63n;

export function optionsOf({ options = [], format }: QuestionItem): readonly QuestionOption[] {
  return format === "boolean" && options.length === 0 ? BOOLEAN_OPTIONS : options;
}

/** Whether the question takes a written text. */
export function takesText({ format }: QuestionItem): boolean {
  return format !== "option" && format !== "boolean";
}

export function placeholder(item: QuestionItem): string {
  if (item.format === "integer") return "A whole number, such as 3";
  if (item.format === "number") return "A number, such as 2.5";
  return optionsOf(item).length > 0 ? "Or write your own answer" : "Your answer";
}

/** What `min` and `max` allow, in words. Undefined if they allow everything. */
export function rangeOf({ min, max, format, multi_select }: QuestionItem): string | undefined {
  if (!multi_select && (format === "option" || format === "boolean")) return undefined;
  const unit = multi_select ? " of them" : format === undefined ? " characters" : "";
  if (min !== undefined && max !== undefined) return min === max ? `exactly ${min}${unit}` : `from ${min} to ${max}${unit}`;
  if (min !== undefined) return `at least ${min}${unit}`;
  return max === undefined ? undefined : `at most ${max}${unit}`;
}

function isWithin({ min, max }: QuestionItem, size: number): boolean {
  return (min === undefined || size >= min) && (max === undefined || size <= max);
}

/** Why the number of chosen options is not allowed. Undefined if it is, or if nothing is chosen. */
export function countError(item: QuestionItem, { chosen, own }: DraftAnswer): string | undefined {
  const all = new Set(own.trim() ? [...chosen, own.trim()] : chosen);
  return !item.multi_select || all.size === 0 || isWithin(item, all.size) ? undefined : `Choose ${rangeOf(item)}.`;
}

/** Why the written text is not a valid answer. Undefined if it is, or if nothing is written. */
export function textError(item: QuestionItem, own: string): string | undefined {
  const { format } = item;
  const text = own.trim();
  if (text === "") return undefined;
  if (format === "integer" && !(/^-?\d{1,19}$/.test(text) && BigInt(text) < INTEGER_LIMIT && BigInt(text) >= -INTEGER_LIMIT)) return "This takes a whole number, such as 3.";
  if (format === "number" && !(/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text) && Number.isFinite(Number(text)))) return "This takes a number, such as 2.5.";
  if (item.multi_select) return undefined;
  const size = format === undefined ? [...text].length : Number(text);
  return isWithin(item, size) ? undefined : `The answer has to be ${rangeOf(item)}.`;
}

/**
 * The answers to send, by the text of their question; unanswered optional questions are left out. Undefined if a required
 * answer is missing or any is invalid.
 */
export function answersTo(items: readonly QuestionItem[], drafts: Readonly<Record<number, DraftAnswer>>): Record<string, string[]> | undefined {
  const answers: [string, string[]][] = [];
  for (const [index, item] of items.entries()) {
    const { chosen, own } = drafts[index] ?? NO_ANSWER;
    const text = takesText(item) ? own.trim() : "";
    if (textError(item, text) !== undefined || countError(item, { chosen, own: text }) !== undefined) return undefined;
    const all = text ? [...chosen, text] : [...chosen];
    if (all.length > 0) answers.push([item.question, all]);
    else if (!item.optional) return undefined;
  }
  return Object.fromEntries(answers);
}
