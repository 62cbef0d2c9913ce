/** A text that an agent chose, with everything in it marked that cannot be seen or passes for something else. */
import { useMemo } from "preact/hooks";
import { codePoint, parts, type Part, type Style, type Why } from "./text/reveal.ts";

/** An empty one is named, so that nobody takes it for one that is not there. */
export function Revealed({ text, style }: { text: string; style: Style }) {
  return <RevealedParts parts={useMemo(() => parts(text, style), [text, style])} style={style} />;
}

export function RevealedParts({ parts: all, style }: { parts: readonly Part[]; style: Style }) {
  return <bdi class="revealed" data-style={style}>{all.length === 0 ? <Gap text="empty" /> : all.map(view)}</bdi>;
}

/** Room that is counted instead of shown. */
export function Gap({ text }: { text: string }) {
  return <bdi class="odd-gap">{text}</bdi>;
}

const WHY: Record<Why, string> = {
  scripts: "letters of another alphabet than those around them", "look-alike": "characters made to look like others", "not-ascii": "characters beyond ASCII",
};
/** So many characters of a word are named. */
const NAMED = 12;

function view(part: Part, index: number) {
  switch (part.kind) {
    case "text": return part.text;
    case "hidden": return <bdi key={index} class="odd-hidden" title="Cannot be seen in the text itself">{part.text}</bdi>;
    // A line of its own keeps the line's end that it stands for.
    case "gap": return <><Gap key={index} text={part.text} />{part.source.includes("\n") && "\n"}</>;
    case "word": {
      const beyond = [...part.text].filter((each) => each > "\x7f").slice(0, NAMED);
      return <bdi key={index} class="odd-word" title={`${WHY[part.why]}: ${beyond.map((each) => `${each} ${codePoint(each)}`).join(", ")}`}>{part.text}</bdi>;
    }
  }
}
