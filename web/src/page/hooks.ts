import { Component, type ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Client } from "../client/index.ts";

/** Draws again after the client changed, at most once a frame; hidden pages get no frames, so theirs is a timer. */
export function useClient(client: Client): void {
  const [, draw] = useState(0);
  useEffect(() => {
    let scheduled = false;
    const drawNow = () => {
      scheduled = false;
      draw((count) => count + 1);
    };
    return client.onChange(() => {
      if (scheduled) return;
      scheduled = true;
      if (document.hidden) setTimeout(drawNow, 200);
      else requestAnimationFrame(drawNow);
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
  return Math.max(now, 0);
}
