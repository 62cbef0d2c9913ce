/** How much of what is asked for has not been on the screen. */

export interface Geometry {
  readonly scrollTop: number;
  readonly clientHeight: number;
  readonly scrollHeight: number;
  /** Of one line, in the same pixels. */
  readonly lineHeight: number;
}

export interface Hidden {
  readonly lines: number;
  /** In proportion to the room, so about. */
  readonly characters: number;
}

/** Fractions of a pixel are lost in some zooms. */
export const SLACK_PX = 2;

/** What is below a box's lower edge; nothing where its end is on the screen. */
export function below({ scrollTop, clientHeight, scrollHeight, lineHeight }: Geometry, characters: number): Hidden {
  const hidden = scrollHeight - scrollTop - clientHeight;
  if (hidden <= SLACK_PX) return { lines: 0, characters: 0 };
  return { lines: Math.max(1, Math.round(hidden / lineHeight)), characters: Math.max(1, Math.round((characters * hidden) / scrollHeight)) };
}

export interface Excerpt extends Hidden {
  readonly text: string;
}

/** The beginning of a text, within so many lines and characters, and how much is left out. */
export function excerpt(text: string, mostLines: number, mostCharacters: number): Excerpt {
  const lines = text.split("\n");
  let short = lines.slice(0, mostLines).join("\n");
  // No half of a character.
  if (short.length > mostCharacters) short = short.slice(0, mostCharacters).replace(/[\ud800-\udbff]$/, "");
  return { text: short, lines: lines.length - short.split("\n").length, characters: text.length - short.length };
}

export function amount({ lines, characters }: Hidden): string {
  const said = (count: number, what: string) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
  return [...(lines > 0 ? [said(lines, "more line")] : []), said(characters, lines > 0 ? "character" : "more character")].join(", ");
}
