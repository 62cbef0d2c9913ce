/** Shows a permission request page by page. The next page is offered once the end of the present one was on the screen. */
import { useMemo, useState } from "preact/hooks";
import { PageView } from "../input.tsx";
import { Pages, type Block } from "../text/pages.ts";
import type { MarkCount } from "../text/reveal.ts";
import { SeenBox } from "./seen-box.tsx";

interface PagedBoxProps {
  /** The blocks to show. A new array starts again at the first page. */
  blocks: readonly Block[];
  /** Marked characters in the texts around the box, which the warning counts too. */
  otherMarks: MarkCount;
  /** Called once the ends of all pages, including the last, were on the screen. */
  onSeen: () => void;
}

/** Which page is shown, and the last page whose end was on the screen; valid for these `pages` only. */
interface Position {
  readonly pages: Pages;
  readonly index: number;
  readonly seen: number;
}

export function PagedBox({ blocks, otherMarks, onSeen }: PagedBoxProps) {
  const pages = useMemo(() => new Pages(blocks), [blocks]);
  const [position, setPosition] = useState<Position>();
  const { index, seen } = position?.pages === pages ? position : { index: 0, seen: -1 };
  const page = pages.at(index);
  const isLast = pages.isLast(page);
  const onPageSeen = () => {
    if (seen < index) setPosition({ pages, index, seen: index });
    if (isLast && seen >= index - 1) onSeen();
  };
  const showPage = (to: number) => setPosition({ pages, index: to, seen });
  const rest = pages.characters - page.to;
  const next = { label: `↓ Next part, of ${rest.toLocaleString("en")} more ${rest === 1 ? "character" : "characters"}`, enabled: seen >= index, onNext: () => showPage(index + 1) };
  const marked = describeMarks(page.marks, otherMarks);
  return (
    <>
      <SeenBox characters={page.to - page.from} contentKey={page} onSeen={onPageSeen} next={isLast ? undefined : next}><PageView page={page} /></SeenBox>
      {index > 0 && <button type="button" class="quiet dock-more" onClick={() => showPage(index - 1)}>↑ Part before</button>}
      {marked && <p class="warning">{marked}</p>}
    </>
  );
}

/** A sentence that counts the marked characters, for people who would overlook the marks. */
function describeMarks(...all: readonly MarkCount[]): string {
  const hidden = all.reduce((sum, each) => sum + each.hidden, 0);
  const words = all.reduce((sum, each) => sum + each.words, 0);
  const counts = [
    ...(hidden > 0 ? [`${hidden.toLocaleString("en")} ${hidden === 1 ? "character" : "characters"} that cannot be seen`] : []),
    ...(words > 0 ? [`${words.toLocaleString("en")} ${words === 1 ? "word" : "words"} that may look like something else`] : []),
  ];
  return counts.length === 0 ? "" : `Marked here: ${counts.join(", and ")}.`;
}
