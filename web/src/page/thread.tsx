/** The list of turns of a chat, and its scroll position. */
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { agentTurn, type Chat, type ErrorEvent, type Unsent } from "../client/index.ts";
import { Online, useShownItems, useStable } from "./hooks.ts";
import { IconDown } from "./icons.tsx";
import { explain } from "./text/errors.ts";
import { TurnView } from "./turn.tsx";
import { UnsentMessage } from "./unsent.tsx";

/** A reader this near to the end is kept at the end when text is added. */
const FOLLOW_WITHIN_PX = 64;
/** A reader this near to the beginning makes the next page of history load. */
const LOAD_OLDER_WITHIN_PX = 600;

interface ThreadProps {
  chat: Chat;
  unsent: readonly Unsent[];
  loadingOlder: boolean;
  /** Why the gateway refused the last page of history. */
  olderError: ErrorEvent | undefined;
  online: boolean;
  /** Counts the messages that the reader sent here. After each, the thread scrolls to the end. */
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
  const followsEnd = useRef(true);
  const [awayFromEnd, setAwayFromEnd] = useState(false);
  const toEnd = useStable(() => {
    const box = scroller.current;
    if (!box) return;
    followsEnd.current = true;
    box.scrollTop = box.scrollHeight;
    setAwayFromEnd(false);
  });

  useLayoutEffect(toEnd, [chat.id, sentCount]);
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      if (followsEnd.current) toEnd();
    });
    observer.observe(scroller.current!);
    observer.observe(content.current!);
    return () => observer.disconnect();
  }, []);

  // Turns that are inserted before the visible ones must not move those on the screen.
  const beginning = `${chat.id} ${chat.oldest?.epoch} ${chat.oldest?.seq}`;
  const previous = useRef({ beginning, chat: chat.id });
  const box = scroller.current;
  const prepends = box && previous.current.beginning !== beginning && previous.current.chat === chat.id && !followsEnd.current;
  const fromEnd = prepends ? box.scrollHeight - box.scrollTop : 0;
  useLayoutEffect(() => {
    previous.current = { beginning, chat: chat.id };
    if (prepends) box.scrollTop = box.scrollHeight - fromEnd;
  }, [beginning]);

  const canLoad = chat.before !== undefined && chat.phase === "live" && online;
  const loadOlderIfNear = useStable(() => {
    // After a refusal, only the button requests the page again.
    if (canLoad && !loadingOlder && !olderError && scroller.current && scroller.current.scrollTop < LOAD_OLDER_WITHIN_PX) onLoadOlder();
  });
  // A thread that does not fill the screen cannot be scrolled, so more history is loaded at once.
  useEffect(loadOlderIfNear, [canLoad, loadingOlder, beginning]);

  const onScroll = () => {
    const now = scroller.current!;
    followsEnd.current = now.scrollHeight - now.scrollTop - now.clientHeight < FOLLOW_WITHIN_PX;
    setAwayFromEnd(!followsEnd.current);
    loadOlderIfNear();
  };

  const byItself = agentTurn(chat);
  const shown = useShownItems(chat);
  const receivedTurnIds = new Set(chat.turns.map((turn) => turn.id));
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
          <Online.Provider value={online}>{chat.turns.map((turn) => (
            <TurnView key={turn.id} turn={turn} shown={shown.get(turn.id)!} online={online} stopping={chat.stopping.includes(turn.id)} behind={byItself !== undefined && turn.origin !== "agent"}
              stalledMs={chat.stalled?.turnId === turn.id ? chat.stalled.idleMs : undefined}
              onCancel={props.onCancel} onReuse={props.onReuse} />
          ))}</Online.Provider>
          {unsent.filter((each) => !receivedTurnIds.has(each.turnId)).map((each) => (
            <UnsentMessage key={each.turnId} message={each} online={online} onDiscard={props.onDiscard} onReuse={props.onReuse} />
          ))}
        </div>
      </div>
      {awayFromEnd && <button type="button" class="to-end" onClick={toEnd} aria-label="Go to the newest message"><IconDown /></button>}
    </div>
  );
}
