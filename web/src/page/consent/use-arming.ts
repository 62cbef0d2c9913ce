import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { Arming } from "./arming.ts";

/** Whether the prompt that looks as `looks` says takes answers; undefined: there is none. */
export function useArming(looks: string | undefined): boolean {
  const arming = useRef<Arming>(undefined);
  arming.current ??= new Arming(() => performance.now());
  const [armed, setArmed] = useState<string>();
  useLayoutEffect(() => {
    if (looks === undefined) return;
    const now = arming.current!;
    now.changed();
    let timer = 0;
    const check = () => {
      clearTimeout(timer);
      setArmed(now.armed ? looks : undefined);
      if (now.remainingMs) timer = window.setTimeout(check, Math.ceil(now.remainingMs) + 1);
    };
    const on: Record<string, (event: Event) => void> = {
      keydown: (event) => now.pressed((event as KeyboardEvent).repeat),
      pointerdown: () => now.pressed(false),
      keyup: () => now.released(), pointerup: () => now.released(), pointercancel: () => now.released(), blur: () => now.released(),
      // The click that brings a window to the front is not meant for what happens to be under it.
      focus: () => now.changed(),
    };
    const listen = (event: Event) => {
      // Focus that moves within the page is no change of the prompt.
      if ((event.type === "focus" || event.type === "blur") && event.target !== window) return;
      on[event.type]!(event);
      check();
    };
    for (const type of Object.keys(on)) addEventListener(type, listen, true);
    check();
    return () => {
      clearTimeout(timer);
      for (const type of Object.keys(on)) removeEventListener(type, listen, true);
    };
  }, [looks]);
  return looks !== undefined && armed === looks;
}
