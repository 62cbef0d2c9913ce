/**
 * A scrollable box of limited height for what a request asks for. It says how much is out of sight, and reports when the
 * content's end was on the screen.
 */
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { useStable } from "../hooks.ts";
import { Revealed } from "../revealed.tsx";
import type { Style } from "../text/reveal.ts";
import { describeHidden, hiddenBelow, excerpt, SLACK_PX, type Hidden } from "./seen.ts";

interface SeenBoxProps {
  /** The length of the whole content. */
  characters: number;
  /** Identifies the content. When it changes, the box scrolls to the top and the end has to be seen again. */
  contentKey: unknown;
  /** Called when the content's end is on the screen and no content is cut off at the side. */
  onSeen: () => void;
  /** The button that leads to the next content; undefined if this is the last. */
  next?: { label: string; enabled: boolean; onNext: () => void } | undefined;
  children: ComponentChildren;
}

const NOTHING: Hidden = { lines: 0, characters: 0 };

export function SeenBox({ characters, contentKey, onSeen, next, children }: SeenBoxProps) {
  const box = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const end = useRef<HTMLSpanElement>(null);
  const isEndVisible = useRef(false);
  const [hidden, setHidden] = useState(NOTHING);
  const [tooWide, setTooWide] = useState(false);
  const measure = useStable(() => {
    const { current } = box;
    if (!current) return;
    const hiddenNow = hiddenBelow({ scrollTop: current.scrollTop, clientHeight: current.clientHeight, scrollHeight: current.scrollHeight, lineHeight: lineHeight(current) }, characters);
    setHidden((previous) => (previous.lines === hiddenNow.lines && previous.characters === hiddenNow.characters ? previous : hiddenNow));
    // The styles let all content wrap; still too wide are glyphs wider than the box, and content under a person's own styles.
    const isWide = current.scrollWidth > current.clientWidth + SLACK_PX;
    setTooWide(isWide);
    if (isEndVisible.current && !isWide) onSeen();
  });
  useLayoutEffect(() => {
    isEndVisible.current = false;
    box.current!.scrollTop = 0;
    const resizeObserver = new ResizeObserver(measure);
    resizeObserver.observe(box.current!);
    resizeObserver.observe(content.current!);
    // Observes whether the end is visible on the screen, even where an outer element clips the box. Created again for each
    // content, so that it reports the end of each.
    const endObserver = new IntersectionObserver((entries) => {
      isEndVisible.current = entries.at(-1)?.isIntersecting ?? false;
      measure();
    });
    endObserver.observe(end.current!);
    return () => {
      resizeObserver.disconnect();
      endObserver.disconnect();
    };
  }, [contentKey]);
  const scrollPage = () => box.current?.scrollBy({ top: box.current.clientHeight - 2 * lineHeight(box.current) });
  return (
    <>
      <div class="dock-input" ref={box} onScroll={measure} tabIndex={0} role="region" aria-label="What is asked for">
        <div ref={content}>{children}<span class="dock-end" ref={end} /></div>
      </div>
      {tooWide && <p class="warning">A part of it is beyond the edge at the side. Make the window wider, or the text smaller; it cannot be agreed to before.</p>}
      {hidden.lines > 0 ? <button type="button" class="quiet dock-more dock-below" onClick={scrollPage}>↓ Show what is below: {describeHidden(hidden)}</button>
        : next && <button type="button" class="quiet dock-more dock-next" disabled={!next.enabled} onClick={next.onNext}>{next.label}</button>}
    </>
  );
}

function lineHeight(box: HTMLElement): number {
  return Number.parseFloat(getComputedStyle(box.querySelector("pre") ?? box).lineHeight) || 20;
}

/** A text that is cut to a few lines until a person expands it. */
export function Collapsed({ text, style, lines, characters, id }: { text: string; style: Style; lines: number; characters: number; id?: string }) {
  const [open, setOpen] = useState(false);
  const short = excerpt(text, lines, characters);
  if (short.characters === 0) return <p class="collapsed muted" id={id}><Revealed text={text} style={style} /></p>;
  return (
    <div class="collapsed muted">
      <p id={id} tabIndex={open ? 0 : undefined}><Revealed text={open ? text : short.text} style={style} />{!open && "…"}</p>
      <button type="button" class="quiet" aria-expanded={open} onClick={() => setOpen(!open)}>{open ? "Show less" : `Show all: ${describeHidden(short)}`}</button>
    </div>
  );
}
