import { useLayoutEffect } from "preact/hooks";
import { useStable } from "./hooks.ts";

interface Shortcuts {
  escape: () => void;
  newChat: () => void;
  help: () => void;
  write: () => void;
  move: (by: number) => void;
}

/** Handles the keyboard shortcuts of the whole page, unless a dialog is open. */
export function useShortcuts(actions: Shortcuts, dialog: boolean): void {
  const onKeyDown = useStable((event: KeyboardEvent) => {
    if (dialog || event.defaultPrevented || event.isComposing) return;
    const isTyping = event.target instanceof HTMLElement && event.target.matches("input, textarea");
    const action = event.altKey ? withAlt(event, actions) : plain(event, actions, isTyping);
    if (!action) return;
    event.preventDefault();
    action();
  });
  useLayoutEffect(() => {
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, []);
}

/** Compares `code`, the position of the key: on some systems Alt changes the character that a key makes. */
function withAlt({ code }: KeyboardEvent, { newChat, move }: Shortcuts): (() => void) | undefined {
  if (code === "KeyN") return newChat;
  if (code === "ArrowUp") return () => move(-1);
  if (code === "ArrowDown") return () => move(1);
  return undefined;
}

function plain({ key, ctrlKey, metaKey }: KeyboardEvent, { escape, help, write }: Shortcuts, isTyping: boolean): (() => void) | undefined {
  if (key === "Escape") return escape;
  if (isTyping || ctrlKey || metaKey) return undefined;
  if (key === "?") return help;
  if (key === "/") return write;
  return undefined;
}
