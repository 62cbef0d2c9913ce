/** Shows the agent's open permission requests and questions above the composer, and the resolved ones in their turns. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Answer, PermissionRequest, Refusal, RequestItem, Resolution, WholeInput } from "../client/index.ts";
import { excerpt } from "./consent/seen.ts";
import { PagedBox } from "./consent/paged-box.tsx";
import { Collapsed } from "./consent/seen-box.tsx";
import { useArming } from "./consent/use-arming.ts";
import { memo } from "./hooks.ts";
import { Questions } from "./questions.tsx";
import { Revealed } from "./revealed.tsx";
import { explain } from "./text/errors.ts";
import { blocksOf, blocksOfText, JSON_CHARACTERS, text, type Block } from "./text/pages.ts";
import { countMarks, type MarkCount } from "./text/reveal.ts";

/** A longer tool name is cut in the heading and shown whole in the box. */
const TOOL_CHARACTERS = 80;
const DESCRIPTION_LINES = 3;
const DESCRIPTION_CHARACTERS = 280;

/** Whose request it is. */
export interface Asker {
  /** It belongs to a turn that the agent began by itself. */
  readonly byItself: boolean;
  /** What the subagent is for that asks; empty if that is not known. */
  readonly subagent?: string;
}

interface DockProps {
  requests: readonly RequestItem[];
  online: boolean;
  askerOf: (request: RequestItem) => Asker | undefined;
  isResponding: (requestId: string) => boolean;
  onAnswer: (requestId: string, answer: Answer) => void;
  refusalOf: (requestId: string) => Refusal | undefined;
  inputOf: (requestId: string) => WholeInput | undefined;
  onLoadInput: (request: PermissionRequest) => void;
}

export function RequestDock({ requests, online, askerOf, isResponding, onAnswer, refusalOf, inputOf, onLoadInput }: DockProps) {
  const request = requests[0];
  const card = useRef<HTMLElement>(null);
  // A request id can be used again, so the position of the request's event is part of the key.
  const id = request && `${request.requestId} ${request.at?.epoch} ${request.at?.seq}`;
  const refusal = request && refusalOf(request.requestId);
  // After `input_unseen`, the request has to be seen to its end again.
  const reviewId = `${id} ${refusal?.code === "input_unseen" ? refusal.nth : 0}`;
  const [seenReview, setSeen] = useState<string>();
  const seen = id !== undefined && seenReview === reviewId;
  const armed = useArming(id && `${id} ${seen} ${online} ${refusal?.nth}`);
  useLayoutEffect(() => {
    if (id === undefined) return;
    // The focus stays in a text field with text in it, since a person is writing there.
    const { activeElement } = document;
    const writes = activeElement instanceof HTMLTextAreaElement && activeElement.value !== "";
    if (!writes) card.current?.focus({ preventScroll: true });
    return () => {
      const focus = document.activeElement;
      if (focus === document.body || card.current?.contains(focus)) document.querySelector<HTMLElement>("#composer")?.focus();
    };
  }, [id]);
  if (!request) return null;
  const asker = askerOf(request);
  const busy = isResponding(request.requestId);
  const disabled = busy || !online || !armed;
  const parts = { disabled, seen, reviewId, onSeen: () => setSeen(reviewId), onAnswer: (given: Answer) => onAnswer(request.requestId, given) };
  // Auto-repeat of a key that is held down presses no button.
  const ignoreRepeats = (event: KeyboardEvent) => {
    if (event.repeat && (event.key === "Enter" || event.key === " ") && event.target instanceof HTMLElement && event.target.closest("button, input")) event.preventDefault();
  };
  return (
    <section class="dock" key={id} ref={card} tabIndex={-1} role="group" aria-labelledby="dock-title" aria-describedby={request.permission?.description && "dock-why"} onKeyDown={ignoreRepeats}>
      {asker && <AskerLine asker={asker} />}
      {request.permission
        ? <Permission request={request.permission} whole={inputOf(request.requestId)} onLoad={onLoadInput} {...parts} />
        : request.question && <Questions question={request.question} {...parts} />}
      {refusal && !busy && <p class="warning dock-refusal" role="alert">{explain(refusal.code, refusal.detail, "answer")}{refusal.retryable && " Answer again in a moment."}</p>}
      <p class="dock-foot" role="status">
        {!online ? "Not connected. You can answer once the connection is back." : busy ? "Sending your answer…" : !seen ? `You can ${request.question ? "answer" : "agree"} once you have seen the end of it.` : ""}
        {requests.length > 1 && <span>1 of {requests.length} requests</span>}
      </p>
    </section>
  );
}

function AskerLine({ asker: { byItself, subagent } }: { asker: Asker }) {
  return (
    <p class="dock-asker">
      {subagent !== undefined && <span>A subagent asks{subagent && <>: <Revealed text={excerpt(subagent, 1, TOOL_CHARACTERS).text} style="prose" /></>}</span>}
      {byItself && <span>In a turn that the agent began by itself</span>}
    </p>
  );
}

interface PermissionProps {
  request: PermissionRequest;
  /** The input that was loaded, for a request whose event has it truncated or not exactly as the agent wrote it. */
  whole: WholeInput | undefined;
  onLoad: (request: PermissionRequest) => void;
  disabled: boolean;
  /** Whether the input was on the screen to its end. */
  seen: boolean;
  /** Identifies one presentation of the request; after a change it has to be seen again to its end. */
  reviewId: string;
  onSeen: () => void;
  onAnswer: (answer: Answer) => void;
}

function Permission({ request, whole, onLoad, disabled, seen, reviewId, onSeen, onAnswer }: PermissionProps) {
  const [reason, setReason] = useState<string>();
  const field = useRef<HTMLInputElement>(null);
  const askingReason = reason !== undefined;
  const tool = excerpt(request.tool, 1, TOOL_CHARACTERS);
  const partial = (request.truncated ?? false) || (request.raw ?? false);
  // A loaded input counts only if it has the hash that the request names.
  const loaded = whole?.phase === "whole" && whole.sha256 === request.input_sha256 ? whole : undefined;
  const blocks = useMemo(() => blocksToSee(request, loaded?.text), [request, loaded, reviewId]);
  const complete = !partial || loaded !== undefined;
  const loading = whole?.phase === "loading" || whole?.phase === "read";
  const failed = whole !== undefined && !loading && loaded === undefined;
  const allow = () => onAnswer({ decision: "allow", ...(partial && loaded?.sha256 !== undefined && { input_sha256: loaded.sha256 }) });
  const otherMarks = useMemo(() => sum(countMarks(request.tool, "code"), countMarks(request.description ?? "", "prose")), [request]);
  useEffect(() => {
    // The event has the whole text here, so nothing is transferred, and only the hash is computed.
    if (request.raw && !request.truncated && whole === undefined) onLoad(request);
  }, [request, whole === undefined]);
  useLayoutEffect(() => {
    if (askingReason) field.current?.focus();
  }, [askingReason]);
  // In the reason field, Esc closes the field; it does not stop the turn.
  const back = (event: KeyboardEvent) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    setReason(undefined);
  };
  const deny = () => onAnswer({ decision: "deny", ...(reason?.trim() && { message: reason.trim() }) });
  return (
    <>
      <h2 id="dock-title"><span class="lamp" data-lamp="waiting" /><span>Allow <strong><Revealed text={tool.text} style="code" />{tool.characters > 0 && "…"}</strong>?</span></h2>
      <PagedBox blocks={blocks} otherMarks={otherMarks} onSeen={() => { if (complete) onSeen(); }} />
      {request.description !== undefined && <Collapsed text={request.description} style="prose" lines={DESCRIPTION_LINES} characters={DESCRIPTION_CHARACTERS} id="dock-why" />}
      {request.description_truncated && <p class="muted">The description was cut to the gateway's limit.</p>}
      {!complete && (request.truncated || failed || request.input_sha256 === undefined) && (
        <div class="warning">
          {request.truncated && <p>This is the beginning of the input{request.input_bytes !== undefined && `, which has ${request.input_bytes.toLocaleString("en")} bytes`}. It cannot be allowed before all of it was shown.</p>}
          {failed && <p>What came of it is not what the request is about, so it cannot be allowed. Deny it, or load it again.</p>}
          {request.input_sha256 === undefined
            ? <p>The gateway does not say what the whole is, so it cannot be allowed here.</p>
            : <button type="button" disabled={loading} onClick={() => onLoad(request)}>{loading ? "Loading…" : "Show all of it"}</button>}
        </div>
      )}
      {askingReason ? (
        <form class="dock-actions" onKeyDown={back} onSubmit={(event) => { event.preventDefault(); if (!disabled) deny(); }}>
          <label class="grow"><span class="visually-hidden">Reason, optional</span>
            <input ref={field} value={reason} placeholder="What should it do instead? (optional)" onInput={(event) => setReason(event.currentTarget.value)} />
          </label>
          <button type="button" onClick={() => setReason(undefined)}>Back</button>
          <button type="submit" class="danger" disabled={disabled}>Deny</button>
        </form>
      ) : (
        <div class="dock-actions">
          <button type="button" class="primary" disabled={disabled || !seen || !complete} onClick={allow}>Allow once</button>
          <button type="button" disabled={disabled} onClick={deny}>Deny</button>
          <button type="button" class="quiet" onClick={() => setReason("")}>Deny with a reason…</button>
        </div>
      )}
    </>
  );
}

/**
 * The value of a JSON text, or undefined if the text is too long or no JSON. Texts that parsing would change have `raw` set
 * and do not come here.
 */
function parsed(text: string): unknown {
  if (text.length > JSON_CHARACTERS) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** The blocks that a person has to see before allowing a request: from the request's event, or from the loaded input. */
function blocksToSee({ tool, input, raw }: PermissionRequest, whole: string | undefined): Block[] {
  const name = tool.length > TOOL_CHARACTERS || tool.includes("\n") ? [text("tool", tool)] : [];
  if (whole === undefined) return [...name, ...(raw ? blocksOfText(String(input)) : blocksOf(input))];
  const value = raw ? undefined : parsed(whole);
  return [...name, ...(value === undefined ? blocksOfText(whole) : blocksOf(value))];
}

function sum(one: MarkCount, other: MarkCount): MarkCount {
  return { hidden: one.hidden + other.hidden, words: one.words + other.words };
}

const RESOLUTIONS: Record<Resolution, string> = {
  allowed: "allowed", denied: "denied", answered: "answered", withdrawn: "no longer asked", turn_ended: "not answered before the turn ended",
};

/** A line in the turn that says how a request was resolved. */
export const ResolvedRequest = memo<{ request: RequestItem }>(({ request }) => {
  const { permission, question, resolution } = request;
  // Without the request's event, from an older history page, there is no text to show.
  if (!permission && !question) return null;
  return (
    <p class="trace" data-request={request.requestId} data-resolution={resolution}>
      <span class="lamp" data-lamp={resolution === undefined ? "waiting" : resolution === "denied" ? "failed" : resolution === "turn_ended" || resolution === "withdrawn" ? "off" : "done"} />
      {permission ? <span>Permission for <strong><Revealed text={permission.tool} style="code" /></strong></span> : <span><Revealed text={question!.questions.map((each) => each.question).join(" ")} style="prose" /></span>}
      <span class="muted">{resolution === undefined ? "waits for an answer" : RESOLUTIONS[resolution]}</span>
    </p>
  );
});
