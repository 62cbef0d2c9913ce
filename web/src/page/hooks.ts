import { Component, createContext, type ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { shownItems, type Chat, type Client, type Item, type ShownItems, type Turn, type TurnId } from "../client/index.ts";

/** Browsers run no animation frames in hidden tabs. A timer draws there, so that the tab's title still shows a waiting request. */
const HIDDEN_FRAME_MS = 250;

/** Whether there is a connection, so that what the page shows is up to date. */
export const Online = createContext(true);

/** Renders the component again after the client changed, at most once per animation frame. */
export function useClient(client: Client): void {
  const [, draw] = useState(0);
  // A layout effect, since changes between the first render and a later effect would be missed.
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

/** Makes a component that renders again only when a property changed. */
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

/** A function that never changes its identity and always calls the `run` of the latest render. */
export function useStable<A extends unknown[], R>(run: (...args: A) => R): (...args: A) => R {
  const newest = useRef(run);
  newest.current = run;
  return useState(() => (...args: A) => newest.current(...args))[0];
}

/** The time in milliseconds of Unix time. Renders the component again every second while `active`. */
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

/** What is shown of each turn of a chat. */
export function useShownItems({ turns, tasks, stopping }: Chat): ReadonlyMap<TurnId, ShownItems> {
  const before = useRef<ReadonlyMap<TurnId, ShownItems>>(undefined);
  return useMemo(() => {
    const asShown = turns.map((turn) => (stopping.includes(turn.id) ? asStopping(turn) : turn));
    return before.current = shownItems(asShown, tasks, before.current);
  }, [turns, tasks, stopping]);
}

const stoppingTurns = new WeakMap<Turn, Turn>();

/** Shows open requests as not answered while their turn is being stopped, before the gateway resolves them. */
function asStopping(turn: Turn): Turn {
  const known = stoppingTurns.get(turn) ?? { ...turn, items: turn.items.map(asNotAnswered) };
  stoppingTurns.set(turn, known);
  return known;
}

function asNotAnswered(item: Item): Item {
  return item.kind === "request" && !item.resolution ? { ...item, resolution: "turn_ended" } : item;
}
