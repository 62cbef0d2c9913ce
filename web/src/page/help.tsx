import { useLayoutEffect, useRef } from "preact/hooks";
import { IconClose } from "./icons.tsx";
import { forgetAll } from "./storage.ts";

const KEYS: readonly (readonly [string, string])[] = [
  ["Enter", "Send"],
  ["Shift + Enter", "New line"],
  ["Esc", "Stop the answer, or close the list"],
  ["/", "Write a message"],
  ["Alt + N", "New chat"],
  ["Alt + ↑ ↓", "Chat above, chat below"],
  ["?", "This help"],
];

/** Deletes the stored token and reloads. The page then asks for a token if the gateway needs one. */
function signOut(): void {
  forgetAll();
  location.reload();
}

export function Help({ onClose }: { onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => dialog.current?.showModal(), []);
  // The event's target is the dialog itself only for clicks on the backdrop.
  const onClick = (event: MouseEvent) => {
    if (event.target === dialog.current) dialog.current?.close();
  };
  return (
    <dialog class="help" ref={dialog} onClose={onClose} onClick={onClick} aria-labelledby="help-title">
      <div class="help-body">
        <header><h2 id="help-title">Help</h2>
          <button type="button" class="quiet icon-button" onClick={() => dialog.current?.close()} aria-label="Close"><IconClose /></button>
        </header>
        <dl>{KEYS.map(([key, does]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{does}</dd></div>)}</dl>
        <ul class="lamps" aria-label="What the lamps mean">
          <li><span class="lamp" data-lamp="running" /> at work</li>
          <li><span class="lamp" data-lamp="waiting" /> waits for you</li>
          <li><span class="lamp" data-lamp="failed" /> failed</li>
        </ul>
        <p class="muted">You can close this page at any time. The agent goes on, and everything is here when you return, in any tab and on any device.</p>
        <p><button type="button" onClick={signOut}>Sign out on this device</button></p>
        <p class="muted"><a href="./licenses.txt" target="_blank" rel="noopener">Licences of what this page is made of</a></p>
      </div>
    </dialog>
  );
}
