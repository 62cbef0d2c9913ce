/** Shows text that an agent chose. Characters that are invisible or can pass for others are marked. */
import { useMemo } from "preact/hooks";
import { codePoint, parts, type Part, type Style, type MarkReason } from "./text/reveal.ts";

/** An empty text is shown as "empty", so that it can be told from a missing one. */
export function Revealed({ text, style }: { text: string; style: Style }) {
  return <RevealedParts parts={useMemo(() => parts(text, style), [text, style])} style={style} />;
}

export function RevealedParts({ parts: allParts, style }: { parts: readonly Part[]; style: Style }) {
  return <bdi class="revealed" data-style={style}>{allParts.length === 0 ? <Gap text="empty" /> : allParts.map(renderPart)}</bdi>;
}

/** Stands in for blank space, which it counts. */
export function Gap({ text }: { text: string }) {
  return <bdi class="odd-gap">{text}</bdi>;
}

const REASONS: Record<MarkReason, string> = {
  scripts: "letters of another alphabet than those around them", "look-alike": "characters made to look like others", "not-ascii": "characters beyond ASCII",
};
/** A word's tooltip names at most this many of its characters. */
const MAX_NAMED_CHARACTERS = 12;

function renderPart(part: Part, index: number) {
  switch (part.kind) {
    case "text": return part.text;
    case "hidden": return <bdi key={index} class="odd-hidden" title="Cannot be seen in the text itself">{part.text}</bdi>;
    // Blank lines are replaced with a line break after their count, so that the next text begins on its own line.
    case "gap": return <><Gap key={index} text={part.text} />{part.source.includes("\n") && "\n"}</>;
    case "word": {
      const nonAscii = [...part.text].filter((each) => each > "\x7f").slice(0, MAX_NAMED_CHARACTERS);
      return <bdi key={index} class="odd-word" title={`${REASONS[part.reason]}: ${nonAscii.map((each) => `${each} ${codePoint(each)}`).join(", ")}`}>{part.text}</bdi>;
    }
  }
}
