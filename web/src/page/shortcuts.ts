import { useLayoutEffect } from "preact/hooks";
import { useStable } from "./hooks.ts";

interface Shortcuts {
  escape: () => void;
  newChat: () => void;
  help: () => void;
  write: () => void;
  move: (by: number) => void;
}

/** Keys that work everywhere on the page. A dialog has its own. */
export function useShortcuts(actions: Shortcuts, dialog: boolean): void {
  const onKeyDown = useStable((event: KeyboardEvent) => {
    if (dialog || event.defaultPrevented || event.isComposing) return;
    const writes = event.target instanceof HTMLElement && event.target.matches("input, textarea");
    const action = event.altKey ? withAlt(event, actions) : plain(event, actions, writes);
    if (!action) return;
    event.preventDefault();
    action();
  });
  useLayoutEffect(() => {
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, []);
}

/** By the key's place: Alt makes other characters of the letters on some systems. */
function withAlt({ code }: KeyboardEvent, { newChat, move }: Shortcuts): (() => void) | undefined {
  if (code === "KeyN") return newChat;
  if (code === "ArrowUp") return () => move(-1);
  if (code === "ArrowDown") return () => move(1);
  return undefined;
}

function plain({ key, ctrlKey, metaKey }: KeyboardEvent, { escape, help, write }: Shortcuts, writes: boolean): (() => void) | undefined {
  if (key === "Escape") return escape;
  if (writes || ctrlKey || metaKey) return undefined;
  if (key === "?") return help;
  if (key === "/") return write;
  return undefined;
}
