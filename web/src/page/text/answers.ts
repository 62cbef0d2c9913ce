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

/** Why what was written cannot be an answer; undefined where it can, or where nothing was. */
export function wrong({ format }: QuestionItem, own: string): string | undefined {
  const text = own.trim();
  if (text === "") return undefined;
  if (format === "integer" && !(/^-?\d{1,19}$/.test(text) && BigInt(text) < LARGEST && BigInt(text) >= -LARGEST)) return "This takes a whole number, such as 3.";
  if (format === "number" && !(/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text) && Number.isFinite(Number(text)))) return "This takes a number, such as 2.5.";
  return undefined;
}

/** The answers to all, without those that were left out; undefined while one is missing or cannot be taken. */
export function answersTo(items: readonly QuestionItem[], given: Readonly<Record<number, Given>>): Record<string, string[]> | undefined {
  const answers: [string, string[]][] = [];
  for (const [index, item] of items.entries()) {
    const { chosen, own } = given[index] ?? NOTHING;
    const text = takesOwn(item) ? own.trim() : "";
    if (wrong(item, text) !== undefined) return undefined;
    const all = text ? [...chosen, text] : [...chosen];
    if (all.length > 0) answers.push([item.question, all]);
    else if (!item.optional) return undefined;
  }
  return Object.fromEntries(answers);
}
