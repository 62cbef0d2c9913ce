import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { IconClose } from "./icons.tsx";
import { Revealed } from "./revealed.tsx";

/** As the gateway counts it. */
const TITLE_BYTES = 256;

interface ChatOptionsProps {
  title: string;
  /** A turn runs in it. */
  running: boolean;
  online: boolean;
  onRename: (title: string) => void;
  onDelete: () => void;
  onClose: () => void;
}

/** Renames a chat, or deletes it after a second question. */
export function ChatOptions({ title, running, online, onRename, onDelete, onClose }: ChatOptionsProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const keep = useRef<HTMLButtonElement>(null);
  const field = useRef<HTMLInputElement>(null);
  const [text, setText] = useState(title);
  const [asking, setAsking] = useState(false);
  useLayoutEffect(() => dialog.current?.showModal(), []);
  // Before anybody sees the buttons: the key that is pressed next must find the careful one.
  useLayoutEffect(() => {
    if (asking) keep.current?.focus();
    else field.current?.focus();
  }, [asking]);
  const close = () => dialog.current?.close();
  // A click on the backdrop hits the dialog itself.
  const onClick = (event: MouseEvent) => {
    if (event.target === dialog.current) close();
  };
  const named = text.trim();
  const long = new TextEncoder().encode(named).length > TITLE_BYTES;
  const rename = (event: Event) => {
    event.preventDefault();
    if (named === "" || long || !online) return;
    if (named !== title) onRename(named);
    close();
  };
  return (
    <dialog class="help chat-options" ref={dialog} onClose={onClose} onClick={onClick} aria-labelledby="chat-options-title">
      <div class="help-body">
        <header><h2 id="chat-options-title">{asking ? "Delete this chat?" : "Chat"}</h2>
          <button type="button" class="quiet icon-button" onClick={close} aria-label="Close"><IconClose /></button>
        </header>
        {asking ? (
          <>
            <p><strong class="chat-named"><Revealed text={title} style="prose" /></strong> goes with everything in it, for everybody and for ever.{running && " The agent is at work in it and will be stopped."}</p>
            <div class="chat-options-actions">
              <button type="button" ref={keep} onClick={() => setAsking(false)}>Keep it</button>
              <button type="button" class="danger" disabled={!online} onClick={() => { onDelete(); close(); }}>Delete</button>
            </div>
          </>
        ) : (
          <form onSubmit={rename}>
            <label for="chat-title">Title</label>
            <input id="chat-title" ref={field} type="text" value={text} autocomplete="off" aria-invalid={long} aria-describedby={long ? "chat-title-long" : undefined}
              onInput={(event) => setText(event.currentTarget.value)} onFocus={(event) => event.currentTarget.select()} />
            {long && <p id="chat-title-long" class="refused-token">The title is too long.</p>}
            {!online && <p class="muted" role="status">There is no connection at the moment.</p>}
            <div class="chat-options-actions">
              <button type="button" class="quiet delete-chat" onClick={() => setAsking(true)}>Delete chat…</button>
              <button type="submit" class="primary" disabled={named === "" || long || !online}>Rename</button>
            </div>
          </form>
        )}
      </div>
    </dialog>
  );
}
