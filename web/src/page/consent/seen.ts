/** Computes how much of a scrollable box's content, or of a shortened text, is not visible. */

export interface Geometry {
  readonly scrollTop: number;
  readonly clientHeight: number;
  readonly scrollHeight: number;
  /** The height of one line, in the same pixels as the other fields. */
  readonly lineHeight: number;
}

export interface Hidden {
  readonly lines: number;
  /** An estimate, proportional to the hidden height. */
  readonly characters: number;
}

/** At some zoom levels `scrollTop` misses the end by fractions of a pixel. */
export const SLACK_PX = 2;

/** How much content is below a box's lower edge. Zero where the content's end is visible. */
export function hiddenBelow({ scrollTop, clientHeight, scrollHeight, lineHeight }: Geometry, characters: number): Hidden {
  const hidden = scrollHeight - scrollTop - clientHeight;
  if (hidden <= SLACK_PX) return { lines: 0, characters: 0 };
  return { lines: Math.max(1, Math.round(hidden / lineHeight)), characters: Math.max(1, Math.round((characters * hidden) / scrollHeight)) };
}

export interface Excerpt extends Hidden {
  readonly text: string;
}

/** Cuts a text to at most `maxLines` lines and `maxCharacters` characters, and counts what was cut off. */
export function excerpt(text: string, maxLines: number, maxCharacters: number): Excerpt {
  const lines = text.split("\n");
  let short = lines.slice(0, maxLines).join("\n");
  // A surrogate pair is not cut in half.
  if (short.length > maxCharacters) short = short.slice(0, maxCharacters).replace(/[\ud800-\udbff]$/, "");
  return { text: short, lines: lines.length - short.split("\n").length, characters: text.length - short.length };
}

export function describeHidden({ lines, characters }: Hidden): string {
  const counted = (count: number, what: string) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
  return [...(lines > 0 ? [counted(lines, "more line")] : []), counted(characters, lines > 0 ? "character" : "more character")].join(", ");
}
