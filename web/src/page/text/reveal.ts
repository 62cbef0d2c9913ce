/**
 * What a text that an agent chose really consists of: characters that cannot be seen, that move others, or that pass
 * for others, each at its place. Everything is decided by Unicode properties, never by a list of known characters;
 * what the browser's Unicode does not know yet is unassigned to it, and shown.
 */

/** A part of a revealed text. The texts of `text`, `word` and what `hidden` and `gap` stand for make up the whole. */
export type Part =
  | { readonly kind: "text"; readonly text: string }
  /** Cannot be seen as it is; `text` names it, `<U+202E>`. */
  | { readonly kind: "hidden"; readonly text: string; readonly source: string }
  /** Can be seen, but may pass for something else. */
  | { readonly kind: "word"; readonly text: string; readonly why: Why }
  /** Room that would push the rest out of sight: `60 blank lines`. */
  | { readonly kind: "gap"; readonly text: string; readonly source: string };

export type Why = "scripts" | "look-alike" | "not-ascii";

/**
 * `code`: commands, paths, names, JSON; any character beyond ASCII is told apart there. `label`: words that are chosen by,
 * and so told apart alike. `prose`: words for people.
 */
export type Style = "code" | "label" | "prose";

/** Blank lines in a row from which they are counted instead of shown. */
export const BLANK_LINES = 3;
/** The same for spaces and tabs in a line. */
export const BLANK_CHARACTERS = 32;
/** Marks that a character may bear; those beyond cover what is around it. */
export const MARKS = 2;

// The last three are blank symbols, which no property tells: a braille cell without dots, an object's place, a note without a head.
const HIDDEN = String.raw`(?![\n\t ])[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Z}\p{Me}\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{Variation_Selector}\p{Noncharacter_Code_Point}\u2800\ufffc\u{1d159}]`;
const WORD = String.raw`(?:(?!${HIDDEN})[\p{L}\p{M}\p{N}\p{Pc}])+`;
const SCAN = new RegExp(
  String.raw`(?<blank>(?<=^|\n)(?:[ \t]*\n){${BLANK_LINES},})|(?<space>[ \t]{${BLANK_CHARACTERS},})|(?<hidden>(?:${HIDDEN})+)|(?<word>${WORD})|(?<other>[^\x00-\x7f])`, "gu");
const ONE_HIDDEN = new RegExp(`^${HIDDEN}$`, "u");

/** Whether a character is one that cannot be seen or moves what is around it. */
export function isHidden(character: string): boolean {
  return ONE_HIDDEN.test(character);
}

export function parts(text: string, style: Style): Part[] {
  const result: Part[] = [];
  const latin = style === "prose" && isMostlyLatin(text);
  let end = 0;
  const plain = (to: number) => {
    if (to > end) result.push({ kind: "text", text: text.slice(end, to) });
  };
  for (const match of text.matchAll(SCAN)) {
    const [source] = match;
    const { blank, space, hidden, word } = match.groups!;
    const found: readonly Part[] | undefined = blank !== undefined ? [gap(source, source.split("\n").length - 1, "blank line")]
      : space !== undefined ? [gap(source, source.length, source.includes("\t") ? "blank character" : "space")]
      : hidden !== undefined ? [{ kind: "hidden", text: named(source), source }]
      : inWord(source, word === undefined ? oddSign(source, style) : oddWord(source, style, latin));
    if (!found) continue;
    plain(match.index);
    result.push(...found);
    end = match.index + source.length;
  }
  plain(text.length);
  return result;
}

/** The same as one text, for a window's title and the like. */
export function reveal(text: string, style: Style = "prose"): string {
  return parts(text, style).map((part) => (part.kind === "gap" ? `<${part.text}>` : part.text)).join("");
}

/** How much is marked, for a sentence about it. */
export interface Odd {
  readonly hidden: number;
  readonly words: number;
}

export function odd(text: string, style: Style): Odd {
  return count(parts(text, style));
}

export function count(all: readonly Part[]): Odd {
  let [hidden, words] = [0, 0];
  for (const part of all) {
    if (part.kind === "hidden") hidden += [...part.source].length;
    if (part.kind === "word") words += 1;
  }
  return { hidden, words };
}

function gap(source: string, count: number, what: string): Part {
  return { kind: "gap", text: `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`, source };
}

/** `<U+200B>`, and one that is repeated `<U+200B ×300>`. */
function named(source: string): string {
  const all = [...source];
  let text = "";
  for (let from = 0; from < all.length;) {
    let to = from + 1;
    while (all[to] === all[from]) to += 1;
    text += `<${codePoint(all[from]!)}${to - from > 1 ? ` ×${to - from}` : ""}>`;
    from = to;
  }
  return text;
}

export function codePoint(character: string): string {
  return `U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`;
}

// A mark with nothing to stand on, or one too many.
const MARK_TOO_MANY = new RegExp(String.raw`(?<=^|\p{M}{${MARKS}})\p{M}+`, "gu");

/** A word with the marks that are too many taken out of it; undefined where nothing is odd. */
function inWord(word: string, why: Why | undefined): Part[] | undefined {
  const result: Part[] = [];
  let end = 0;
  const plain = (to: number) => {
    if (to > end) result.push(why ? { kind: "word", text: word.slice(end, to), why } : { kind: "text", text: word.slice(end, to) });
  };
  for (const { 0: source, index } of word.matchAll(MARK_TOO_MANY)) {
    plain(index);
    result.push({ kind: "hidden", text: named(source), source });
    end = index + source.length;
  }
  if (!why && end === 0) return undefined;
  plain(word.length);
  return result;
}

const NOT_ASCII = /[^\x00-\x7f]/;

function oddWord(word: string, style: Style, latin: boolean): Why | undefined {
  if (!NOT_ASCII.test(word)) return undefined;
  if (mixesScripts(word) || (latin && OTHER_CASED.test(word))) return "scripts";
  // Letters made for their looks: full width, mathematical, ligatures, the Kelvin sign.
  if (word.normalize("NFKC") !== word.normalize("NFC") || !NOT_ASCII.test(word.normalize("NFC"))) return "look-alike";
  return style === "prose" ? undefined : "not-ascii";
}

function oddSign(sign: string, style: Style): Why | undefined {
  if (style !== "prose") return NOT_ASCII.test(sign.normalize("NFKC")) ? "not-ascii" : "look-alike";
  return NOT_ASCII.test(sign.normalize("NFC")) ? undefined : "look-alike";
}

// The scripts in modern use, UAX #31 table 5. A word in any other one is marked, which is the careful side.
const SCRIPTS = [
  "Arab", "Armn", "Bengali", "Cyrl", "Deva", "Ethi", "Geor", "Grek", "Gujr", "Guru", "Hebr", "Khmr", "Knda", "Laoo", "Latn",
  "Mlym", "Mymr", "Orya", "Sinh", "Taml", "Telu", "Thaa", "Thai", "Tibt",
].map((script) => [script]);
// Written together with Latin, as UTS #39 has it at its level "highly restrictive".
const TOGETHER = [["Latn", "Hani", "Hira", "Kana"], ["Latn", "Hani", "Bopo"], ["Latn", "Hani", "Hang"]];
const ONE_SCRIPT = [...SCRIPTS, ...TOGETHER].map((scripts) =>
  new RegExp(`^[\\p{sc=Zyyy}\\p{sc=Zinh}${scripts.map((script) => `\\p{scx=${script}}`).join("")}]*$`, "u"));

/** Whether no script in use has all of a word's letters. */
export function mixesScripts(word: string): boolean {
  return !ONE_SCRIPT.some((all) => all.test(word));
}

// Letters of alphabets that look like Latin ones have case as those do.
const OTHER_CASED = /(?!\p{scx=Latn}|\p{sc=Zyyy}|\p{sc=Zinh})\p{Cased}/u;
const OTHERS_CASED = new RegExp(OTHER_CASED, "gu");

/** A Cyrillic or Greek word within Latin ones may be one of them in disguise; within its like it is a word. */
function isMostlyLatin(text: string): boolean {
  const others = text.match(OTHERS_CASED)?.length ?? 0;
  return others > 0 && (text.match(/\p{scx=Latn}/gu)?.length ?? 0) > others;
}
