/** Bounded room for what is asked for: says how much is out of sight, shows it, and tells when its end was on the screen. */
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { useStable } from "../hooks.ts";
import { Revealed } from "../revealed.tsx";
import type { Style } from "../text/reveal.ts";
import { amount, below, excerpt, SLACK_PX, type Hidden } from "./seen.ts";

interface SeenBoxProps {
  /** Of everything in it. */
  characters: number;
  /** Names what is in it. Another one begins at its beginning. */
  part: unknown;
  /** Its end was on the screen, and nothing of it was beyond an edge at the side. */
  onSeen: () => void;
  /** Shows what comes after it; undefined where nothing does. */
  next?: { label: string; enabled: boolean; onNext: () => void } | undefined;
  children: ComponentChildren;
}

const NOTHING: Hidden = { lines: 0, characters: 0 };

export function SeenBox({ characters, part, onSeen, next, children }: SeenBoxProps) {
  const box = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const end = useRef<HTMLSpanElement>(null);
  const isEnded = useRef(false);
  const [hidden, setHidden] = useState(NOTHING);
  const [wide, setWide] = useState(false);
  const measure = useStable(() => {
    const { current } = box;
    if (!current) return;
    const now = below({ scrollTop: current.scrollTop, clientHeight: current.clientHeight, scrollHeight: current.scrollHeight, lineHeight: lineHeight(current) }, characters);
    setHidden((was) => (was.lines === now.lines && was.characters === now.characters ? was : now));
    // Everything in it breaks anywhere; a glyph that is wider than the box does not, nor what a style of somebody's makes wide.
    const isWide = current.scrollWidth > current.clientWidth + SLACK_PX;
    setWide(isWide);
    if (isEnded.current && !isWide) onSeen();
  });
  useLayoutEffect(() => {
    isEnded.current = false;
    box.current!.scrollTop = 0;
    const resized = new ResizeObserver(measure);
    resized.observe(box.current!);
    resized.observe(content.current!);
    // Where the end really is on the screen, whatever clips the box itself. Made anew with the part, so that it tells again.
    const ended = new IntersectionObserver((entries) => {
      isEnded.current = entries.at(-1)?.isIntersecting ?? false;
      measure();
    });
    ended.observe(end.current!);
    return () => {
      resized.disconnect();
      ended.disconnect();
    };
  }, [part]);
  const more = () => box.current?.scrollBy({ top: box.current.clientHeight - 2 * lineHeight(box.current) });
  return (
    <>
      <div class="dock-input" ref={box} onScroll={measure} tabIndex={0} role="region" aria-label="What is asked for">
        <div ref={content}>{children}<span class="dock-end" ref={end} /></div>
      </div>
      {wide && <p class="warning">A part of it is beyond the edge at the side. Make the window wider, or the text smaller; it cannot be agreed to before.</p>}
      {hidden.lines > 0 ? <button type="button" class="quiet dock-more dock-below" onClick={more}>↓ Show what is below: {amount(hidden)}</button>
        : next && <button type="button" class="quiet dock-more dock-next" disabled={!next.enabled} onClick={next.onNext}>{next.label}</button>}
    </>
  );
}

function lineHeight(box: HTMLElement): number {
  return Number.parseFloat(getComputedStyle(box.querySelector("pre") ?? box).lineHeight) || 20;
}

/** A text that stays small until somebody wants all of it. */
export function Collapsed({ text, style, lines, characters, id }: { text: string; style: Style; lines: number; characters: number; id?: string }) {
  const [open, setOpen] = useState(false);
  const short = excerpt(text, lines, characters);
  if (short.characters === 0) return <p class="collapsed muted" id={id}><Revealed text={text} style={style} /></p>;
  return (
    <div class="collapsed muted">
      <p id={id} tabIndex={open ? 0 : undefined}><Revealed text={open ? text : short.text} style={style} />{!open && "…"}</p>
      <button type="button" class="quiet" aria-expanded={open} onClick={() => setOpen(!open)}>{open ? "Show less" : `Show all: ${amount(short)}`}</button>
    </div>
  );
}
