import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { IconClose } from "./icons.tsx";
import { Revealed } from "./revealed.tsx";

/** The gateway's limit, in bytes of UTF-8. */
const MAX_TITLE_BYTES = 256;

interface ChatOptionsProps {
  title: string;
  /** Whether a turn is running in the chat. */
  running: boolean;
  online: boolean;
  onRename: (title: string) => void;
  onDelete: () => void;
  onClose: () => void;
}

/** A dialog that renames a chat, or deletes it after a confirmation. */
export function ChatOptions({ title, running, online, onRename, onDelete, onClose }: ChatOptionsProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const keepButton = useRef<HTMLButtonElement>(null);
  const field = useRef<HTMLInputElement>(null);
  const [text, setText] = useState(title);
  const [confirming, setConfirming] = useState(false);
  useLayoutEffect(() => dialog.current?.showModal(), []);
  // In a layout effect, so that an Enter pressed at once hits "Keep it" rather than "Delete".
  useLayoutEffect(() => {
    if (confirming) keepButton.current?.focus();
    else field.current?.focus();
  }, [confirming]);
  const close = () => dialog.current?.close();
  // The event's target is the dialog itself only for clicks on the backdrop.
  const onClick = (event: MouseEvent) => {
    if (event.target === dialog.current) close();
  };
  const newTitle = text.trim();
  const tooLong = new TextEncoder().encode(newTitle).length > MAX_TITLE_BYTES;
  const rename = (event: Event) => {
    event.preventDefault();
    if (newTitle === "" || tooLong || !online) return;
    if (newTitle !== title) onRename(newTitle);
    close();
  };
  return (
    <dialog class="help chat-options" ref={dialog} onClose={onClose} onClick={onClick} aria-labelledby="chat-options-title">
      <div class="help-body">
        <header><h2 id="chat-options-title">{confirming ? "Delete this chat?" : "Chat"}</h2>
          <button type="button" class="quiet icon-button" onClick={close} aria-label="Close"><IconClose /></button>
        </header>
        {confirming ? (
          <>
            <p><strong class="chat-named"><Revealed text={title} style="prose" /></strong> goes with everything in it, for everybody and for ever.{running && " The agent is at work in it and will be stopped."}</p>
            <div class="chat-options-actions">
              <button type="button" ref={keepButton} onClick={() => setConfirming(false)}>Keep it</button>
              <button type="button" class="danger" disabled={!online} onClick={() => { onDelete(); close(); }}>Delete</button>
            </div>
          </>
        ) : (
          <form onSubmit={rename}>
            <label for="chat-title">Title</label>
            <input id="chat-title" ref={field} type="text" value={text} autocomplete="off" aria-invalid={tooLong} aria-describedby={tooLong ? "chat-title-long" : undefined}
              onInput={(event) => setText(event.currentTarget.value)} onFocus={(event) => event.currentTarget.select()} />
            {tooLong && <p id="chat-title-long" class="refused-token">The title is too long.</p>}
            {!online && <p class="muted" role="status">There is no connection at the moment.</p>}
            <div class="chat-options-actions">
              <button type="button" class="quiet delete-chat" onClick={() => setConfirming(true)}>Delete chat…</button>
              <button type="submit" class="primary" disabled={newTitle === "" || tooLong || !online}>Rename</button>
            </div>
          </form>
        )}
      </div>
    </dialog>
  );
}
