/** One turn: the person's message, what the agent did, and the outcome. */
import { useMemo, useState } from "preact/hooks";
import type { Item, NoticeItem, RequestItem, TextItem, Turn } from "../client/index.ts";
import { CopyButton } from "./code.tsx";
import { memo, useSecond } from "./hooks.ts";
import { IconChevron, IconClose } from "./icons.tsx";
import { Markdown } from "./markdown.tsx";
import { ResolvedRequest } from "./requests.tsx";
import { levelText, outcomeText } from "./text/errors.ts";
import { cost, duration, usage } from "./text/format.ts";
import { Revealed } from "./revealed.tsx";
import { ToolRow } from "./tool.tsx";

interface TurnProps {
  turn: Turn;
  online: boolean;
  /** The person asked to stop the turn, and it has not ended yet. */
  stopping: boolean;
  /** How long the running turn's agent has been silent, if the gateway reported it. */
  stalledMs: number | undefined;
  onCancel: (turnId: string) => void;
  /** Puts a message's text into the composer again. */
  onReuse: (text: string) => void;
}

export const TurnView = memo<TurnProps>(({ turn, online, stopping, stalledMs, onCancel, onReuse }) => (
  <article class="turn" data-turn={turn.id} data-phase={turn.phase} data-outcome={turn.end?.outcome} aria-label="Turn">
    {turn.user && <UserMessage text={turn.user.text} atMs={turn.user.createdAtMs} />}
    {turn.phase === "queued" ? (
      <p class="queued">
        <span class="lamp" data-lamp="waiting" /> Waits until the running turn has ended
        <button type="button" class="quiet" onClick={() => onCancel(turn.id)}><IconClose /> Take back</button>
      </p>
    ) : (
      <div class="answer">
        <Items turn={turn} stopping={stopping} />
        {turn.phase === "running" && <Running turn={turn} online={online} stopping={stopping} stalledMs={stalledMs} />}
        {turn.end && <Footer turn={turn} onReuse={onReuse} />}
      </div>
    )}
  </article>
));

/** The bubble of a longer message may scroll, so it takes the keyboard focus. */
const LONG_MESSAGE = 1_500;

export function UserMessage({ text, atMs }: { text: string; atMs: number }) {
  const at = new Date(atMs);
  return (
    <div class="said" title={at.toLocaleString()}>
      <h2 class="visually-hidden">You, {at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}</h2>
      <div class="bubble" dir="auto" tabIndex={text.length > LONG_MESSAGE ? 0 : undefined}>{text}</div>
    </div>
  );
}

/** Shows an open request as not answered while its turn is being stopped, before the gateway resolves it. */
function asNotAnswered(item: Item): Item {
  return item.kind === "request" && !item.resolution ? { ...item, resolution: "turn_ended" } : item;
}

function Items({ turn: receivedTurn, stopping }: { turn: Turn; stopping: boolean }) {
  const turn = useMemo(() => (stopping ? { ...receivedTurn, items: receivedTurn.items.map(asNotAnswered) } : receivedTurn), [receivedTurn, stopping]);
  const running = turn.phase === "running";
  const keys = new Set(turn.items.map((item) => item.key));
  // A permission request is shown in the row of its tool call, if there is one.
  const toolOf = (item: Item) => (item.kind === "request" && item.permission?.call_id !== undefined ? `tool ${item.permission.call_id}` : "");
  const permissions = new Map(turn.items.flatMap((item) => (item.kind === "request" ? [[toolOf(item), item] as const] : [])));
  return (
    <>
      {turn.items.map((item, index) => keys.has(toolOf(item)) ? null : (
        <ItemView key={item.key} item={item} permission={permissions.get(item.key)} live={running && index === turn.items.length - 1} />
      ))}
    </>
  );
}

const ItemView = memo<{ item: Item; permission: RequestItem | undefined; live: boolean }>(({ item, permission, live }) => {
  switch (item.kind) {
    case "tool": return <ToolRow tool={item} permission={permission} />;
    case "request": return <ResolvedRequest request={item} />;
    case "thinking": return item.void ? null : <Thinking item={item} live={live && item.open} />;
    case "note": return <p class="note">{item.text}</p>;
    case "notice": return <Notice notice={item} />;
    case "text": return item.void ? <Abandoned item={item} /> : <Markdown text={item.text} open={item.open} />;
  }
});

const LAMP_OF_LEVEL = new Map([["info", "off"], ["warning", "waiting"], ["error", "failed"]]);

/** A notice beside the answer. An agent may have chosen its text. */
function Notice({ notice: { level, code, text } }: { notice: NoticeItem }) {
  return (
    <p class="notice" role="note" data-level={level} data-code={code}>
      <span class="lamp" data-lamp={LAMP_OF_LEVEL.get(level) ?? "off"} />
      <span><strong>{levelText(level)}:</strong> <Revealed text={text} style="prose" /></span>
    </p>
  );
}

function Thinking({ item, live }: { item: TextItem; live: boolean }) {
  return (
    <details class="step thinking">
      <summary>
        <span class="lamp" data-lamp={live ? "running" : "off"} />
        <span class={live ? "shimmer" : ""}>{live ? "Thinking…" : "Thought"}</span>
        <span class="step-argument">{live ? item.text.slice(-160).trim().split("\n").at(-1) : item.text.slice(0, 160).trim().split("\n")[0]}</span>
        <IconChevron />
      </summary>
      <div class="step-body"><Markdown text={item.text} open={item.open} /></div>
    </details>
  );
}

function Abandoned({ item }: { item: TextItem }) {
  if (!item.text) return null;
  return (
    <details class="step abandoned">
      <summary><span class="lamp" data-lamp="off" /><span>Abandoned text</span><IconChevron /></summary>
      <div class="step-body"><Markdown text={item.text} open={false} /></div>
    </details>
  );
}

function Running({ turn, online, stopping, stalledMs }: { turn: Turn; online: boolean; stopping: boolean; stalledMs: number | undefined }) {
  // Measured with the browser's clock, from which the gateway's may differ by minutes.
  const [since] = useState(Date.now);
  const now = useSecond(true);
  const hasOpenRequest = turn.items.some((item) => item.kind === "request" && !item.resolution);
  const last = turn.items.at(-1);
  const isWriting = last !== undefined && last.kind === "text" && last.open;
  if (!online) return <p class="running"><span class="lamp" data-lamp="waiting" /> Not connected. What follows comes with the connection.</p>;
  if (stopping) return <p class="running" role="status"><span class="lamp" data-lamp="waiting" /> Stopping…</p>;
  if (stalledMs !== undefined && !hasOpenRequest) {
    return (
      <p class="running" role="status">
        <span class="lamp" data-lamp="waiting" /> The agent has been silent for {duration(stalledMs)}. It may still answer; Esc stops it.
      </p>
    );
  }
  const label = hasOpenRequest ? "Waits for you" : isWriting ? "Writing" : last?.kind === "tool" && last.status === "running" ? "Working" : "Thinking";
  return (
    <p class="running">
      <span class="lamp" data-lamp={hasOpenRequest ? "waiting" : "running"} /> {label}
      {now - since > 3000 && <span class="muted"> · {Math.round((now - since) / 1000)} s</span>}
    </p>
  );
}

function Footer({ turn, onReuse }: { turn: Turn; onReuse: (text: string) => void }) {
  const { outcome, latencyMs, usage: turnUsage, cost: turnCost, error } = turn.end!;
  const text = useMemo(() => answerText(turn), [turn]);
  const tokens = turnUsage && usage(turnUsage);
  // A turn that never started has no `turn_started` event and no items.
  const neverRan = outcome === "cancelled" && turn.user !== undefined && turn.startedAtMs === undefined && turn.items.length === 0;
  return (
    <>
      {error && outcome !== "cancelled" && (
        <div class="failure" data-outcome={outcome}>
          <p><strong>{outcomeText(outcome)}.</strong> <Revealed text={error.detail} style="prose" /></p>
          {turn.user && <button type="button" onClick={() => onReuse(turn.user!.text)}>Edit and send again</button>}
        </div>
      )}
      <footer class="turn-footer">
        {text && <CopyButton text={text} what="answer" />}
        {outcome !== "completed" && <span class="outcome" data-outcome={outcome}>{neverRan ? "Stopped before it began" : outcomeText(outcome)}</span>}
        {latencyMs > 0 && !neverRan && <span>{duration(latencyMs)}{turn.user?.waited && " with waiting"}</span>}
        {tokens && <span title={tokens.long}>{tokens.short}</span>}
        {turnCost && <span title="What the agent says this turn cost">{cost(turnCost.usd)}</span>}
      </footer>
    </>
  );
}

/** The text of an answer, without abandoned streams and tool calls, for copying and for screen readers. */
export function answerText(turn: Turn): string {
  return turn.items.flatMap((item) => (item.kind === "text" && !item.void ? [item.text] : [])).join("\n\n");
}
