/** What answers a question: chosen of its options, or written, in the format that it asks for. */
import type { QuestionItem, QuestionOption } from "../../client/index.ts";

/** What was chosen and written. */
export interface Given {
  readonly chosen: readonly string[];
  readonly own: string;
}
export const NOTHING: Given = { chosen: [], own: "" };

const EITHER: readonly QuestionOption[] = [{ label: "true" }, { label: "false" }];
const LARGEST = 2n ** 63n;

export function optionsOf({ options = [], format }: QuestionItem): readonly QuestionOption[] {
  return format === "boolean" && options.length === 0 ? EITHER : options;
}

/** Whether an answer of one's own is possible. */
export function takesOwn({ format }: QuestionItem): boolean {
  return format !== "option" && format !== "boolean";
}

export function placeholder(item: QuestionItem): string {
  if (item.format === "integer") return "A whole number, such as 3";
  if (item.format === "number") return "A number, such as 2.5";
  return optionsOf(item).length > 0 ? "Or write your own answer" : "Your answer";
}

/** What `min` and `max` allow, in words; undefined where they allow everything. */
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

/** Why so many cannot be chosen; undefined where they can, or where nothing is chosen. */
export function wrongCount(item: QuestionItem, { chosen, own }: Given): string | undefined {
  const all = new Set(own.trim() ? [...chosen, own.trim()] : chosen);
  return !item.multi_select || all.size === 0 || isWithin(item, all.size) ? undefined : `Choose ${rangeOf(item)}.`;
}

/** Why what was written cannot be an answer; undefined where it can, or where nothing was. */
export function wrong(item: QuestionItem, own: string): string | undefined {
  const { format } = item;
  const text = own.trim();
  if (text === "") return undefined;
  if (format === "integer" && !(/^-?\d{1,19}$/.test(text) && BigInt(text) < LARGEST && BigInt(text) >= -LARGEST)) return "This takes a whole number, such as 3.";
  if (format === "number" && !(/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text) && Number.isFinite(Number(text)))) return "This takes a number, such as 2.5.";
  if (item.multi_select) return undefined;
  const size = format === undefined ? [...text].length : Number(text);
  return isWithin(item, size) ? undefined : `The answer has to be ${rangeOf(item)}.`;
}

/** The answers to all, without those that were left out; undefined while one is missing or cannot be taken. */
export function answersTo(items: readonly QuestionItem[], given: Readonly<Record<number, Given>>): Record<string, string[]> | undefined {
  const answers: [string, string[]][] = [];
  for (const [index, item] of items.entries()) {
    const { chosen, own } = given[index] ?? NOTHING;
    const text = takesOwn(item) ? own.trim() : "";
    if (wrong(item, text) !== undefined || wrongCount(item, { chosen, own: text }) !== undefined) return undefined;
    const all = text ? [...chosen, text] : [...chosen];
    if (all.length > 0) answers.push([item.question, all]);
    else if (!item.optional) return undefined;
  }
  return Object.fromEntries(answers);
}
