import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { IconSend, IconStop } from "./icons.tsx";
import { read, write } from "./storage.ts";

interface ComposerProps {
  chatId: string;
  running: boolean;
  online: boolean;
  /** Text to write on with, each time as a new object. */
  given: { text: string } | undefined;
  onSend: (text: string) => void;
  onStop: () => void;
}

const TALLEST_PX = 320;
/** A phone's keyboard has no Shift+Enter: there Enter makes a new line. */
const coarse = matchMedia("(hover: none) and (pointer: coarse)");

export function Composer({ chatId, running, online, given, onSend, onStop }: ComposerProps) {
  const field = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState("");
  const key = `draft:${chatId}`;
  useLayoutEffect(() => setText(read("sessionStorage", key) ?? ""), [key]);
  useLayoutEffect(() => {
    if (!coarse.matches) field.current?.focus({ preventScroll: true });
  }, [chatId]);
  useLayoutEffect(() => {
    if (!given) return;
    change(given.text);
    field.current?.focus();
  }, [given]);
  useLayoutEffect(() => {
    const area = field.current!;
    area.style.height = "auto";
    area.style.height = `${Math.min(area.scrollHeight, TALLEST_PX)}px`;
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
    // Enter also ends the input of many scripts.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || (coarse.matches && !event.ctrlKey && !event.metaKey)) return;
    event.preventDefault();
    send();
  };
  const hint = running ? "Is sent when the running turn has ended" : "Message the agent";
  return (
    <form class="composer" onSubmit={(event) => { event.preventDefault(); send(); }}>
      <label class="visually-hidden" for="composer">Message</label>
      <textarea id="composer" dir="auto" ref={field} rows={1} value={text} placeholder={hint} enterkeyhint={coarse.matches ? "enter" : "send"}
        onInput={(event) => change(event.currentTarget.value)} onKeyDown={onKeyDown} />
      <div class="composer-buttons">
        {running && (
          <button type="button" class="stop" onClick={onStop} disabled={!online} aria-label="Stop the answer" title="Stop (Esc)"><IconStop /></button>
        )}
        {(!running || text.trim()) && (
          <button type="submit" class="send" disabled={!text.trim()} aria-label={running ? "Queue message" : "Send message"} title={running ? "Send after this turn (Enter)" : "Send (Enter)"}><IconSend /></button>
        )}
      </div>
    </form>
  );
}
