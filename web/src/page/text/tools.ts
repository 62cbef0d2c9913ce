/** Prepares a tool's input for display: as one line, or split into the parts that matter. */
import type { ToolItem } from "../../client/index.ts";

/**
 * The fields that describe a call best for the agents' common tools, best first. Without any of them, the first text field is
 * used.
 */
const SUMMARY_FIELDS = ["command", "file_path", "path", "notebook_path", "pattern", "query", "url", "description", "prompt"];
const MAX_SUMMARY_CHARACTERS = 120;

export function summary(input: unknown): string {
  if (typeof input === "string") return shorten(input);
  if (typeof input !== "object" || input === null) return "";
  const fields = input as Record<string, unknown>;
  const name = SUMMARY_FIELDS.find((each) => typeof fields[each] === "string") ?? Object.keys(fields).find((each) => typeof fields[each] === "string");
  return name === undefined ? "" : shorten(fields[name] as string);
}

/**
 * One line that says what a tool use does or a subagent is for: its title, and the changed file or its input in short. An
 * agent chose the title, so it does not stand for the input.
 */
export function about(use: ToolItem): string {
  const [location] = use.locations ?? [];
  const title = shorten(use.title ?? "");
  const known = use.edits[0]?.path || summary(use.arguments);
  if (title === "") return known || (location ? place(location) : "");
  return title.includes(known) || known.includes(title) ? title : `${title}: ${known}`;
}

/** A place in a file: `src/a.rs:12`. */
export function place({ path, line }: { path: string; line?: number }): string {
  return line === undefined ? path : `${path}:${line}`;
}

export type SplitInput =
  | { readonly kind: "command"; readonly command: string; readonly rest: unknown }
  | { readonly kind: "change"; readonly path: string; readonly changes: readonly Change[]; readonly rest: unknown }
  | { readonly kind: "other"; readonly text: string };

export interface Change {
  readonly before: string;
  readonly after: string;
}

/** Splits an input into the parts that are shown in their own way; all other fields are in `rest`, so that nothing is hidden. */
export function splitInput(input: unknown): SplitInput {
  if (typeof input !== "object" || input === null) return { kind: "other", text: typeof input === "string" ? input : pretty(input) };
  const fields = input as Record<string, unknown>;
  const { command, file_path: path, old_string: before, new_string: after, content, edits } = fields;
  if (typeof command === "string") return { kind: "command", command, rest: remainingFields(fields, ["command"]) };
  if (typeof path === "string") {
    if (typeof before === "string" && typeof after === "string") {
      return { kind: "change", path, changes: [{ before, after }], rest: remainingFields(fields, ["file_path", "old_string", "new_string"]) };
    }
    if (typeof content === "string") return { kind: "change", path, changes: [{ before: "", after: content }], rest: remainingFields(fields, ["file_path", "content"]) };
    if (Array.isArray(edits) && edits.length > 0 && edits.every(isEdit)) {
      const changes = edits.map((edit) => ({ before: edit.old_string, after: edit.new_string }));
      return { kind: "change", path, changes, rest: remainingFields(fields, ["file_path", "edits"]) };
    }
  }
  return { kind: "other", text: pretty(input) };
}

/** Longer JSON is not indented. */
const MAX_INDENTED_CHARACTERS = 65_536;
/** Deep nesting can make indented JSON many times longer; beyond this factor it is not indented. */
const MAX_INDENT_FACTOR = 4;

export function pretty(value: unknown): string {
  if (typeof value === "string") return value;
  const line = JSON.stringify(value) ?? "";
  if (line.length > MAX_INDENTED_CHARACTERS) return line;
  const indented = JSON.stringify(value, null, 2) ?? "";
  return indented.length > MAX_INDENT_FACTOR * line.length + 1_000 ? line : indented;
}

function isEdit(edit: unknown): edit is { old_string: string; new_string: string } {
  if (typeof edit !== "object" || edit === null || Object.keys(edit).some((key) => key !== "old_string" && key !== "new_string")) return false;
  const { old_string, new_string } = edit as Record<string, unknown>;
  return typeof old_string === "string" && typeof new_string === "string";
}

function remainingFields(fields: Record<string, unknown>, known: string[]): unknown {
  const rest = Object.entries(fields).filter(([name]) => !known.includes(name));
  return rest.length === 0 ? undefined : Object.fromEntries(rest);
}

function shorten(text: string): string {
  const line = text.trim().split("\n", 1)[0]!;
  return line.length > MAX_SUMMARY_CHARACTERS || line.length < text.trim().length ? `${line.slice(0, MAX_SUMMARY_CHARACTERS)}…` : line;
}
