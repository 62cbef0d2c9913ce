/** Shows a tool's input page by page. */
import { useMemo, useState } from "preact/hooks";
import { CodeFigure, DiffLines } from "./code.tsx";
import { Revealed, RevealedParts } from "./revealed.tsx";
import { blocksOf, Pages, type PagePiece, type Page } from "./text/pages.ts";

export function PageView({ page }: { page: Page }) {
  return <>{page.pieces.map((piece, index) => <PieceView key={index} piece={piece} />)}</>;
}

function PieceView({ piece }: { piece: PagePiece }) {
  switch (piece.kind) {
    case "heading": return <h3 class="step-label"><Revealed text={piece.text} style="code" /></h3>;
    case "change": return <DiffLines lines={piece.lines} />;
    case "text": return <CodeFigure label={piece.block.label} copied={piece.block.text}><RevealedParts parts={piece.parts} style="code" /></CodeFigure>;
  }
}

/** The input of a tool call in a turn. Unlike a request's input, it need not be read to its end. */
export function Input({ input }: { input: unknown }) {
  const pages = useMemo(() => new Pages(blocksOf(input)), [input]);
  const [index, setIndex] = useState(0);
  const page = pages.at(index);
  return (
    <>
      <PageView page={page} />
      {index > 0 && <button type="button" class="quiet" onClick={() => setIndex(index - 1)}>↑ Part before</button>}
      {!pages.isLast(page) && <button type="button" class="quiet" onClick={() => setIndex(index + 1)}>↓ Next part, of {(pages.characters - page.to).toLocaleString("en")} more characters</button>}
    </>
  );
}
