/**
 * Finds characters in an agent's text that are invisible, that reorder the text around them, or that can pass for other
 * characters. Unicode properties decide, not lists of known characters. A character newer than the browser's Unicode data
 * counts as unassigned there, and is marked.
 */

/** A part of the text. `text` of the kinds `text` and `word`, and `source` of the others, join up to the whole text. */
export type Part =
  | { readonly kind: "text"; readonly text: string }
  /** Invisible or reordering characters; `text` is their name, such as `<U+202E>`. */
  | { readonly kind: "hidden"; readonly text: string; readonly source: string }
  /** A visible word or symbol that may pass for another one. */
  | { readonly kind: "word"; readonly text: string; readonly reason: MarkReason }
  /** Blank space that would push the rest out of sight; `text` counts it, such as `60 blank lines`. */
  | { readonly kind: "gap"; readonly text: string; readonly source: string };

export type MarkReason = "scripts" | "look-alike" | "not-ascii";

/**
 * What kind of text it is. `code`: commands, paths, names and JSON, where every character beyond ASCII is marked. `label`:
 * options that a person chooses by their text, marked like code. `prose`: text for people, where other alphabets are not
 * marked.
 */
export type Style = "code" | "label" | "prose";

/** This many blank lines in a row are counted instead of shown. */
export const BLANK_LINES = 3;
/** This many spaces and tabs in a row are counted instead of shown. */
export const BLANK_CHARACTERS = 32;
/** A letter may carry this many combining marks; more would cover the text around it. */
export const MAX_MARKS = 2;

// The last three are blank symbols that no Unicode property covers: the empty braille cell, the object replacement character
// and the null notehead.
const HIDDEN_PATTERN = String.raw`(?![\n\t ])[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Z}\p{Me}\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{Variation_Selector}\p{Noncharacter_Code_Point}\u2800\ufffc\u{1d159}]`;
const WORD_PATTERN = String.raw`(?:(?!${HIDDEN_PATTERN})[\p{L}\p{M}\p{N}\p{Pc}])+`;
const MARKED_PATTERN = new RegExp(
  String.raw`(?<blank>(?<=^|\n)(?:[ \t]*\n){${BLANK_LINES},})|(?<space>[ \t]{${BLANK_CHARACTERS},})|(?<hidden>(?:${HIDDEN_PATTERN})+)|(?<word>${WORD_PATTERN})|(?<other>[^\x00-\x7f])`, "gu");
const ONE_HIDDEN = new RegExp(`^${HIDDEN_PATTERN}$`, "u");

/** Whether a character is invisible or reorders the text around it. */
export function isHidden(character: string): boolean {
  return ONE_HIDDEN.test(character);
}

export function parts(text: string, style: Style): Part[] {
  const result: Part[] = [];
  const latin = style === "prose" && isMostlyLatin(text);
  let end = 0;
  const addPlain = (to: number) => {
    if (to > end) result.push({ kind: "text", text: text.slice(end, to) });
  };
  for (const match of text.matchAll(MARKED_PATTERN)) {
    const [source] = match;
    const { blank, space, hidden, word } = match.groups!;
    const marked: readonly Part[] | undefined = blank !== undefined ? [gap(source, source.split("\n").length - 1, "blank line")]
      : space !== undefined ? [gap(source, source.length, source.includes("\t") ? "blank character" : "space")]
      : hidden !== undefined ? [{ kind: "hidden", text: nameHidden(source), source }]
      : markedWord(source, word === undefined ? reasonToMarkSymbol(source, style) : reasonToMarkWord(source, style, latin));
    if (!marked) continue;
    addPlain(match.index);
    result.push(...marked);
    end = match.index + source.length;
  }
  addPlain(text.length);
  return result;
}

/** The text with its marks as one string, where no elements are possible, such as a window title. */
export function reveal(text: string, style: Style = "prose"): string {
  return parts(text, style).map((part) => (part.kind === "gap" ? `<${part.text}>` : part.text)).join("");
}

/** How many characters and words of a text are marked. */
export interface MarkCount {
  readonly hidden: number;
  readonly words: number;
}

export function countMarks(text: string, style: Style): MarkCount {
  return countMarkedParts(parts(text, style));
}

export function countMarkedParts(all: readonly Part[]): MarkCount {
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

/** Names characters: `<U+200B>`, and `<U+200B ×300>` for one that is repeated. */
function nameHidden(source: string): string {
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

// Combining marks without a letter before them, and those beyond the allowed number.
const EXCESS_MARKS = new RegExp(String.raw`(?<=^|\p{M}{${MAX_MARKS}})\p{M}+`, "gu");

/** The parts of a word, with excess marks as hidden parts of their own. Undefined if nothing in the word has to be marked. */
function markedWord(word: string, reason: MarkReason | undefined): Part[] | undefined {
  const result: Part[] = [];
  let end = 0;
  const addPlain = (to: number) => {
    if (to > end) result.push(reason ? { kind: "word", text: word.slice(end, to), reason } : { kind: "text", text: word.slice(end, to) });
  };
  for (const { 0: source, index } of word.matchAll(EXCESS_MARKS)) {
    addPlain(index);
    result.push({ kind: "hidden", text: nameHidden(source), source });
    end = index + source.length;
  }
  if (!reason && end === 0) return undefined;
  addPlain(word.length);
  return result;
}

const NOT_ASCII = /[^\x00-\x7f]/;

function reasonToMarkWord(word: string, style: Style, latin: boolean): MarkReason | undefined {
  if (!NOT_ASCII.test(word)) return undefined;
  if (mixesScripts(word) || (latin && CASED_NON_LATIN.test(word))) return "scripts";
  // Compatibility characters look like other letters: full-width and mathematical letters, ligatures, the Kelvin sign.
  if (word.normalize("NFKC") !== word.normalize("NFC") || !NOT_ASCII.test(word.normalize("NFC"))) return "look-alike";
  return style === "prose" ? undefined : "not-ascii";
}

function reasonToMarkSymbol(sign: string, style: Style): MarkReason | undefined {
  if (style !== "prose") return NOT_ASCII.test(sign.normalize("NFKC")) ? "not-ascii" : "look-alike";
  return NOT_ASCII.test(sign.normalize("NFC")) ? undefined : "look-alike";
}

// The scripts in modern use (UAX #31, table 5). A word in any other script is marked, to be safe.
const SCRIPTS = [
  "Arab", "Armn", "Bengali", "Cyrl", "Deva", "Ethi", "Geor", "Grek", "Gujr", "Guru", "Hebr", "Khmr", "Knda", "Laoo", "Latn",
  "Mlym", "Mymr", "Orya", "Sinh", "Taml", "Telu", "Thaa", "Thai", "Tibt",
].map((script) => [script]);
// Scripts that are written together with Latin, as in the level "highly restrictive" of UTS #39.
const COMBINED_SCRIPTS = [["Latn", "Hani", "Hira", "Kana"], ["Latn", "Hani", "Bopo"], ["Latn", "Hani", "Hang"]];
const SCRIPT_PATTERNS = [...SCRIPTS, ...COMBINED_SCRIPTS].map((scripts) =>
  new RegExp(`^[\\p{sc=Zyyy}\\p{sc=Zinh}${scripts.map((script) => `\\p{scx=${script}}`).join("")}]*$`, "u"));

/** Whether the letters of a word belong to no single script, nor to scripts that are written together. */
export function mixesScripts(word: string): boolean {
  return !SCRIPT_PATTERNS.some((all) => all.test(word));
}

// Letters with case in another script: the alphabets that look like Latin (Cyrillic, Greek) have upper and lower case.
const CASED_NON_LATIN = /(?!\p{scx=Latn}|\p{sc=Zyyy}|\p{sc=Zinh})\p{Cased}/u;
const ALL_CASED_NON_LATIN = new RegExp(CASED_NON_LATIN, "gu");

/**
 * Whether more letters of a text are Latin than of other alphabets with case. In such a text a Cyrillic or Greek word may be
 * a disguised Latin one.
 */
function isMostlyLatin(text: string): boolean {
  const others = text.match(ALL_CASED_NON_LATIN)?.length ?? 0;
  return others > 0 && (text.match(/\p{scx=Latn}/gu)?.length ?? 0) > others;
}
