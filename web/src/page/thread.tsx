/** The conversation, and where in it the reader is. */
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Chat, ErrorEvent, Unsent } from "../client/index.ts";
import { useStable } from "./hooks.ts";
import { IconDown } from "./icons.tsx";
import { explain } from "./text/errors.ts";
import { TurnView } from "./turn.tsx";
import { UnsentMessage } from "./unsent.tsx";

/** So near to the end the reader follows it. */
const NEAR_PX = 64;
/** So near to the beginning the page before is asked for. */
const EARLY_PX = 600;

interface ThreadProps {
  chat: Chat;
  unsent: readonly Unsent[];
  loadingOlder: boolean;
  /** Why earlier messages could not be had when they were last asked for. */
  olderError: ErrorEvent | undefined;
  online: boolean;
  /** Counts what the reader sent: then the end is where they want to be. */
  sentCount: number;
  onLoadOlder: () => void;
  onCancel: (turnId: string) => void;
  onReuse: (text: string) => void;
  onDiscard: (turnId: string) => void;
  children: ComponentChildren;
}

export function Thread(props: ThreadProps) {
  const { chat, unsent, loadingOlder, olderError, online, sentCount, onLoadOlder } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const [away, setAway] = useState(false);
  const toEnd = useStable(() => {
    const box = scroller.current;
    if (!box) return;
    follows.current = true;
    box.scrollTop = box.scrollHeight;
    setAway(false);
  });

  useLayoutEffect(toEnd, [chat.id, sentCount]);
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      if (follows.current) toEnd();
    });
    observer.observe(scroller.current!);
    observer.observe(content.current!);
    return () => observer.disconnect();
  }, []);

  // What is put before must not move what is read.
  const beginning = `${chat.id} ${chat.oldest?.epoch} ${chat.oldest?.seq}`;
  const drawn = useRef({ beginning, chat: chat.id });
  const box = scroller.current;
  const prepends = box && drawn.current.beginning !== beginning && drawn.current.chat === chat.id && !follows.current;
  const fromEnd = prepends ? box.scrollHeight - box.scrollTop : 0;
  useLayoutEffect(() => {
    drawn.current = { beginning, chat: chat.id };
    if (prepends) box.scrollTop = box.scrollHeight - fromEnd;
  }, [beginning]);

  const canLoad = chat.before !== undefined && chat.phase === "live" && online;
  const loadEarly = useStable(() => {
    // What was refused is asked for by a person, if at all.
    if (canLoad && !loadingOlder && !olderError && scroller.current && scroller.current.scrollTop < EARLY_PX) onLoadOlder();
  });
  // A page that does not fill the screen cannot be scrolled.
  useEffect(loadEarly, [canLoad, loadingOlder, beginning]);

  const onScroll = () => {
    const now = scroller.current!;
    follows.current = now.scrollHeight - now.scrollTop - now.clientHeight < NEAR_PX;
    setAway(!follows.current);
    loadEarly();
  };

  const known = new Set(chat.turns.map((turn) => turn.id));
  return (
    <div class="thread-frame">
      <div class="thread" ref={scroller} onScroll={onScroll} tabIndex={0} role="region" aria-label="Conversation">
        <div class="thread-content" ref={content}>
          {olderError && <p class="notice" role="alert" data-level="error"><span>Earlier messages are not shown. {explain(olderError.code, olderError.detail)}</span></p>}
          {chat.before !== undefined && olderError?.retryable !== false && (
            <button type="button" class="quiet older" disabled={!canLoad || loadingOlder} onClick={onLoadOlder}>
              {loadingOlder ? "Loading…" : "Earlier messages"}
            </button>
          )}
          {props.children}
          {chat.turns.map((turn) => (
            <TurnView key={turn.id} turn={turn} online={online} stopping={chat.stopping === turn.id} stalledMs={chat.stalled?.turnId === turn.id ? chat.stalled.idleMs : undefined}
              onCancel={props.onCancel} onReuse={props.onReuse} />
          ))}
          {unsent.filter((each) => !known.has(each.turnId)).map((each) => (
            <UnsentMessage key={each.turnId} message={each} online={online} onDiscard={props.onDiscard} onReuse={props.onReuse} />
          ))}
        </div>
      </div>
      {away && <button type="button" class="to-end" onClick={toEnd} aria-label="Go to the newest message"><IconDown /></button>}
    </div>
  );
}
