import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { IconSend, IconStop } from "./icons.tsx";
import { read, write } from "./storage.ts";

interface ComposerProps {
  chatId: string;
  running: boolean;
  online: boolean;
  /** The connection is lost, so that messages wait until it is back. */
  lost: boolean;
  /** Text to put into the field. A new object each time, so that the same text can be put there twice. */
  prefill: { text: string } | undefined;
  onSend: (text: string) => void;
  onStop: () => void;
  /** Stops the agent's background work; undefined while there is none or a turn is open. */
  onStopTasks: (() => void) | undefined;
  stopTasksDisabled: boolean;
}

const MAX_HEIGHT_PX = 320;
/** Devices with a touch keyboard, which has no Shift+Enter: Enter starts a new line there. */
const touchOnly = matchMedia("(hover: none) and (pointer: coarse)");

export function Composer({ chatId, running, online, lost, prefill, onSend, onStop, onStopTasks, stopTasksDisabled }: ComposerProps) {
  const field = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState("");
  const key = `draft:${chatId}`;
  useLayoutEffect(() => setText(read("sessionStorage", key) ?? ""), [key]);
  useLayoutEffect(() => {
    if (!touchOnly.matches) field.current?.focus({ preventScroll: true });
  }, [chatId]);
  useLayoutEffect(() => {
    if (!prefill) return;
    change(prefill.text);
    field.current?.focus();
  }, [prefill]);
  useLayoutEffect(() => {
    const area = field.current!;
    area.style.height = "auto";
    area.style.height = `${Math.min(area.scrollHeight, MAX_HEIGHT_PX)}px`;
  }, [text]);

  const change = (value: string) => {
    setText(value);
    write("sessionStorage", key, value || undefined);
  };
  const send = () => {
    if (!text.trim()) return;
    onSend(text.trim());
    change("");
    field.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    // During composition (`isComposing`) Enter confirms the input method's text, as in Japanese or Chinese.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || (touchOnly.matches && !event.ctrlKey && !event.metaKey)) return;
    event.preventDefault();
    send();
  };
  const hint = lost ? "Is sent as soon as the connection is back" : running ? "Is sent when the running turn has ended" : "Message the agent";
  return (
    <form class="composer" onSubmit={(event) => { event.preventDefault(); send(); }}>
      <label class="visually-hidden" for="composer">Message</label>
      <textarea id="composer" dir="auto" ref={field} rows={1} value={text} placeholder={hint} enterkeyhint={touchOnly.matches ? "enter" : "send"}
        onInput={(event) => change(event.currentTarget.value)} onKeyDown={onKeyDown} />
      <div class="composer-buttons">
        {running && (
          <button type="button" class="stop" key="stop" onClick={onStop} disabled={!online} aria-label="Stop the answer" title="Stop (Esc)"><IconStop /></button>
        )}
        {onStopTasks && (
          <button type="button" class="stop" key="stop-tasks" onClick={onStopTasks} disabled={stopTasksDisabled} aria-label="Stop the background work" title="Stop the background work"><IconStop /></button>
        )}
        {(!running || text.trim()) && (
          <button type="submit" class="send" key="send" disabled={!text.trim()} aria-label={running ? "Queue message" : "Send message"} title={lost ? "Send when the connection is back (Enter)" : running ? "Send after this turn (Enter)" : "Send (Enter)"}><IconSend /></button>
        )}
      </div>
    </form>
  );
}
