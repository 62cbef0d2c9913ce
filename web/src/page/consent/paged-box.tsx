/** What is asked for, page by page: the next one comes once the end of this one was on the screen. */
import { useMemo, useState } from "preact/hooks";
import { PageView } from "../input.tsx";
import { Pages, type Block } from "../text/pages.ts";
import type { Odd } from "../text/reveal.ts";
import { SeenBox } from "./seen-box.tsx";

interface PagedBoxProps {
  /** Other blocks are shown from their beginning. */
  blocks: readonly Block[];
  /** What is marked beside the blocks. */
  besides: Odd;
  /** The end of the last page was on the screen, and before it those of all others. */
  onSeen: () => void;
}

/** Of which blocks which page is shown, and up to which one they were seen. */
interface Place {
  readonly pages: Pages;
  readonly index: number;
  readonly seen: number;
}

export function PagedBox({ blocks, besides, onSeen }: PagedBoxProps) {
  const pages = useMemo(() => new Pages(blocks), [blocks]);
  const [place, setPlace] = useState<Place>();
  const { index, seen } = place?.pages === pages ? place : { index: 0, seen: -1 };
  const page = pages.at(index);
  const isLast = pages.isLast(page);
  const ended = () => {
    if (seen < index) setPlace({ pages, index, seen: index });
    if (isLast && seen >= index - 1) onSeen();
  };
  const go = (to: number) => setPlace({ pages, index: to, seen });
  const rest = pages.characters - page.to;
  const next = { label: `↓ Next part, of ${rest.toLocaleString("en")} more ${rest === 1 ? "character" : "characters"}`, enabled: seen >= index, onNext: () => go(index + 1) };
  const marked = oddities(page.odd, besides);
  return (
    <>
      <SeenBox characters={page.to - page.from} part={page} onSeen={ended} next={isLast ? undefined : next}><PageView page={page} /></SeenBox>
      {index > 0 && <button type="button" class="quiet dock-more" onClick={() => go(index - 1)}>↑ Part before</button>}
      {marked && <p class="warning">{marked}</p>}
    </>
  );
}

/** Says that something is marked, for who does not look for it. */
function oddities(...all: readonly Odd[]): string {
  const hidden = all.reduce((sum, each) => sum + each.hidden, 0);
  const words = all.reduce((sum, each) => sum + each.words, 0);
  const said = [
    ...(hidden > 0 ? [`${hidden.toLocaleString("en")} ${hidden === 1 ? "character" : "characters"} that cannot be seen`] : []),
    ...(words > 0 ? [`${words.toLocaleString("en")} ${words === 1 ? "word" : "words"} that may look like something else`] : []),
  ];
  return said.length === 0 ? "" : `Marked here: ${said.join(", and ")}.`;
}
