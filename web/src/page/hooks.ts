import { Component, type ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Client } from "../client/index.ts";

/** Hidden pages get no frames, but their title still tells that something waits. */
const HIDDEN_FRAME_MS = 250;

/** Draws again after the client changed, at most once a frame. */
export function useClient(client: Client): void {
  const [, draw] = useState(0);
  // Not after the first frame: what changes until then would not be drawn.
  useLayoutEffect(() => {
    let frame = 0;
    let timer = 0;
    const drawNow = () => {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      timer = 0;
      draw((count) => count + 1);
    };
    return client.onChange(() => {
      if (timer !== 0) return;
      frame = requestAnimationFrame(drawNow);
      timer = window.setTimeout(drawNow, HIDDEN_FRAME_MS);
    });
  }, [client]);
}

/** A component that draws again only when a property is another one. */
export function memo<P extends object>(draw: (props: P) => ComponentChildren) {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      const names = Object.keys(next) as (keyof P)[];
      return names.length !== Object.keys(this.props).length || names.some((name) => next[name] !== (this.props as P)[name]);
    }
    override render(props: P): ComponentChildren {
      return draw(props);
    }
  };
}

/** A function with one identity that always does what the newest drawing meant. */
export function useStable<A extends unknown[], R>(run: (...args: A) => R): (...args: A) => R {
  const newest = useRef(run);
  newest.current = run;
  return useState(() => (...args: A) => newest.current(...args))[0];
}

/** Draws again every second while `active`, for clocks. */
export function useSecond(active: boolean): number {
  const [now, tick] = useState(Date.now);
  useEffect(() => {
    if (!active) return;
    tick(Date.now());
    const timer = setInterval(() => tick(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [active]);
  return now;
}
