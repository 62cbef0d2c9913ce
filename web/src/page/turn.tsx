/** One turn: the person's message or why the agent began it, what the agent did, and the outcome. */
import { useMemo, useState } from "preact/hooks";
import { hasAnswer, type ShownItems, type ToolItem, type Turn } from "../client/index.ts";
import { CopyButton } from "./code.tsx";
import { memo, useSecond } from "./hooks.ts";
import { IconClose, IconStop } from "./icons.tsx";
import { Items } from "./items.tsx";
import { outcomeText } from "./text/errors.ts";
import { cost, duration, usage } from "./text/format.ts";
import { about } from "./text/tools.ts";
import { reasonText } from "./text/turns.ts";
import { Revealed } from "./revealed.tsx";

interface TurnProps {
  turn: Turn;
  shown: ShownItems;
  online: boolean;
  /** The person asked to stop the turn, and it has not ended yet. */
  stopping: boolean;
  /** The turn's message waits, since the agent works in a turn that it began by itself. */
  behind: boolean;
  /** How long the running turn's agent has been silent, if the gateway reported it. */
  stalledMs: number | undefined;
  onCancel: (turnId: string) => void;
  /** Puts a message's text into the composer again. */
  onReuse: (text: string) => void;
}

export const TurnView = memo<TurnProps>(({ turn, shown, online, stopping, behind, stalledMs, onCancel, onReuse }) => (isShownElsewhere(turn, shown) ? null : (
  <article class="turn" data-turn={turn.id} data-origin={turn.origin ?? "user"} data-phase={turn.phase} data-outcome={turn.end?.outcome} aria-label="Turn">
    {turn.user && <UserMessage text={turn.user.text} atMs={turn.user.createdAtMs} />}
    {turn.origin === "agent" && <p class="self-begun" data-reason={turn.reason}>{reasonText(turn.reason)}</p>}
    {turn.phase === "queued" ? (
      <p class="queued">
        <span class="lamp" data-lamp="waiting" /> Waits until the running turn has ended
        <button type="button" class="quiet" onClick={() => onCancel(turn.id)}><IconClose /> Take back</button>
      </p>
    ) : (
      <div class="answer">
        <Items items={shown.items} live={turn.phase === "running"} />
        {shown.elsewhere.length > 0 && <Elsewhere uses={shown.elsewhere} />}
        {turn.phase === "running" && (behind && !stopping
          ? <Behind turn={turn} online={online} onCancel={onCancel} />
          : <Running turn={turn} online={online} stopping={stopping} stalledMs={stalledMs} onCancel={onCancel} />)}
        {turn.end && <Footer turn={turn} elsewhere={shown.elsewhere.length > 0} onReuse={onReuse} />}
      </div>
    )}
  </article>
)));

/** Whether nothing is left to show of an event outside of turns, since it belongs to a subagent. */
function isShownElsewhere({ user, origin, end, phase }: Turn, { items, elsewhere }: ShownItems): boolean {
  return phase === "done" && !user && !origin && !end && items.length === 0 && elsewhere.length > 0;
}

/** Says which subagents went on in a turn that does not show what they did. */
function Elsewhere({ uses }: { uses: readonly ToolItem[] }) {
  return <>{uses.map((use) => <SubagentElsewhere key={use.key} use={use} />)}</>;
}

function SubagentElsewhere({ use }: { use: ToolItem }) {
  return (
    <p class="trace elsewhere">
      <span class="lamp" data-lamp="off" />
      <span>A subagent went on. Shown where it began:</span>
      <span class="step-argument"><Revealed text={about(use) || use.name} style="code" /></span>
    </p>
  );
}

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

/** A message that waits for the end of a turn that the agent began by itself. */
function Behind({ turn, online, onCancel }: { turn: Turn; online: boolean; onCancel: (turnId: string) => void }) {
  return (
    <p class="queued">
      <span class="lamp" data-lamp="waiting" /> Waits until the agent is done with what it began by itself
      <button type="button" class="quiet" disabled={!online} onClick={() => onCancel(turn.id)}><IconClose /> Take back</button>
    </p>
  );
}

interface RunningProps {
  turn: Turn;
  online: boolean;
  stopping: boolean;
  stalledMs: number | undefined;
  onCancel: (turnId: string) => void;
}

function Running({ turn, online, stopping, stalledMs, onCancel }: RunningProps) {
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
      {turn.origin === "agent" && <button type="button" class="quiet stop-turn" onClick={() => onCancel(turn.id)}><IconStop /> Stop</button>}
    </p>
  );
}

/** `elsewhere`: subagents of other turns worked in this one. */
function Footer({ turn, elsewhere, onReuse }: { turn: Turn; elsewhere: boolean; onReuse: (text: string) => void }) {
  const { outcome, latencyMs, usage: turnUsage, cost: turnCost, error, answeredIn } = turn.end!;
  const text = useMemo(() => answerText(turn), [turn]);
  const tokens = turnUsage && usage(turnUsage);
  // A turn that never started has no `turn_started` event and no items.
  const neverRan = outcome === "cancelled" && turn.user !== undefined && turn.startedAtMs === undefined && turn.items.length === 0;
  const silent = outcome === "completed" && !hasAnswer(turn) && !(turn.origin === "agent" && elsewhere);
  return (
    <>
      {silent && answeredIn === undefined && <p class="note silent">Ended without an answer.</p>}
      {silent && answeredIn !== undefined && (
        <p class="note silent">
          The agent took this into what it did by itself, and answered there. <button type="button" class="quiet" onClick={() => goTo(answeredIn)}>Go to the answer</button>
        </p>
      )}
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

function goTo(turnId: string): void {
  document.querySelector(`[data-turn="${CSS.escape(turnId)}"]`)?.scrollIntoView();
}

/** The text of an answer, without abandoned streams, tool calls and subagents, for copying and for screen readers. */
export function answerText(turn: Turn): string {
  return turn.items.flatMap((item) => (item.kind === "text" && item.parent === undefined && !item.void ? [item.text] : [])).join("\n\n");
}
