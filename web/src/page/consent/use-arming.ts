import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { Arming } from "./arming.ts";

/**
 * Whether the present request takes answers. `appearance` identifies the request and its state, and a new one disarms it;
 * undefined if there is no request.
 */
export function useArming(appearance: string | undefined): boolean {
  const arming = useRef<Arming>(undefined);
  const [armed, setArmed] = useState<string>();
  useLayoutEffect(() => {
    if (appearance === undefined) {
      arming.current = undefined; // what is released meanwhile is not seen
      return;
    }
    const current = arming.current ??= new Arming(() => performance.now());
    current.changed();
    let timer = 0;
    const check = () => {
      clearTimeout(timer);
      setArmed(current.armed ? appearance : undefined);
      if (current.remainingMs) timer = window.setTimeout(check, Math.ceil(current.remainingMs) + 1);
    };
    const handlers: Record<string, (event: Event) => void> = {
      keydown: (event) => current.pressed((event as KeyboardEvent).repeat),
      pointerdown: () => current.pressed(false),
      keyup: () => current.released(), pointerup: () => current.released(), pointercancel: () => current.released(), blur: () => current.released(),
      // A click that brings the window to the front is not meant as an answer.
      focus: () => current.changed(),
    };
    const listen = (event: Event) => {
      // Focus events of elements within the page do not matter, only those of the window.
      if ((event.type === "focus" || event.type === "blur") && event.target !== window) return;
      handlers[event.type]!(event);
      check();
    };
    for (const type of Object.keys(handlers)) addEventListener(type, listen, true);
    check();
    return () => {
      clearTimeout(timer);
      for (const type of Object.keys(handlers)) removeEventListener(type, listen, true);
    };
  }, [appearance]);
  return appearance !== undefined && armed === appearance;
}
