/** What the agent waits for: permission requests and questions, docked above the composer until they are answered. */
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Answer, PermissionRequest, RequestItem, Resolution } from "../client/index.ts";
import { memo } from "./hooks.ts";
import { Questions } from "./questions.tsx";
import { Revealed } from "./revealed.tsx";
import { Input } from "./tool.tsx";

/** A prompt that appears under a finger that is already on its way must not take the tap for an answer. */
const ARMED_AFTER_MS = 400;

interface DockProps {
  requests: readonly RequestItem[];
  online: boolean;
  isResponding: (requestId: string) => boolean;
  onAnswer: (requestId: string, answer: Answer) => void;
}

export function RequestDock({ requests, online, isResponding, onAnswer }: DockProps) {
  const request = requests[0];
  const card = useRef<HTMLElement>(null);
  const id = request?.requestId;
  const [armed, setArmed] = useState<string>();
  useLayoutEffect(() => {
    if (id === undefined) return;
    const timer = setTimeout(() => setArmed(id), ARMED_AFTER_MS);
    // Not into the words of somebody who writes.
    const { activeElement } = document;
    const writes = activeElement instanceof HTMLTextAreaElement && activeElement.value !== "";
    if (!writes) card.current?.focus({ preventScroll: true });
    return () => {
      clearTimeout(timer);
      const focus = document.activeElement;
      if (focus === document.body || card.current?.contains(focus)) document.querySelector<HTMLElement>("#composer")?.focus();
    };
  }, [id]);
  if (!request) return null;
  const busy = isResponding(request.requestId);
  const disabled = busy || !online || armed !== request.requestId;
  const answer = (given: Answer) => onAnswer(request.requestId, given);
  return (
    <section class="dock" key={request.requestId} ref={card} tabIndex={-1} role="group" aria-labelledby="dock-title" aria-describedby={request.permission?.description && "dock-why"}>
      {request.permission
        ? <Permission request={request.permission} disabled={disabled} onAnswer={answer} />
        : request.question && <Questions question={request.question} disabled={disabled} onAnswer={answer} />}
      <p class="dock-foot" role="status">
        {!online ? "Not connected. You can answer once the connection is back." : busy ? "Sending your answer…" : ""}
        {requests.length > 1 && <span>1 of {requests.length} requests</span>}
      </p>
    </section>
  );
}

interface PermissionProps {
  request: PermissionRequest;
  disabled: boolean;
  onAnswer: (answer: Answer) => void;
}

function Permission({ request, disabled, onAnswer }: PermissionProps) {
  const [reason, setReason] = useState<string>();
  const field = useRef<HTMLInputElement>(null);
  const asks = reason !== undefined;
  useLayoutEffect(() => {
    if (asks) field.current?.focus();
  }, [asks]);
  // Here Esc takes back the reason, not the turn.
  const back = (event: KeyboardEvent) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    setReason(undefined);
  };
  const deny = () => onAnswer({ decision: "deny", ...(reason?.trim() && { message: reason.trim() }) });
  return (
    <>
      <h2 id="dock-title"><span class="lamp" data-lamp="waiting" /><span>Allow <strong><Revealed text={request.tool} style="code" /></strong>?</span></h2>
      <div class="dock-input"><Input input={request.input} /></div>
      {request.description && <p id="dock-why" class="muted"><Revealed text={request.description} style="prose" /></p>}
      {request.truncated && <p class="warning">This was cut to the gateway's limit. The agent will do more than what you see here.</p>}
      {asks ? (
        <form class="dock-actions" onKeyDown={back} onSubmit={(event) => { event.preventDefault(); if (!disabled) deny(); }}>
          <label class="grow"><span class="visually-hidden">Reason, optional</span>
            <input ref={field} value={reason} placeholder="What should it do instead? (optional)" onInput={(event) => setReason(event.currentTarget.value)} />
          </label>
          <button type="button" onClick={() => setReason(undefined)}>Back</button>
          <button type="submit" class="danger" disabled={disabled}>Deny</button>
        </form>
      ) : (
        <div class="dock-actions">
          <button type="button" class="primary" disabled={disabled} onClick={() => onAnswer({ decision: "allow" })}>Allow once</button>
          <button type="button" disabled={disabled} onClick={deny}>Deny</button>
          <button type="button" class="quiet" onClick={() => setReason("")}>Deny with a reason…</button>
        </div>
      )}
    </>
  );
}

const RESOLUTIONS: Record<Resolution, string> = {
  allowed: "allowed", denied: "denied", answered: "answered", withdrawn: "withdrawn by the agent", turn_ended: "not answered before the turn ended",
};

/** The trace that a request leaves in its turn. */
export const ResolvedRequest = memo<{ request: RequestItem }>(({ request }) => {
  const { permission, question, resolution } = request;
  // The answer to a question can be read in what follows, its text cannot.
  if (!permission && !question) return null;
  return (
    <p class="trace" data-request={request.requestId} data-resolution={resolution}>
      <span class="lamp" data-lamp={resolution === undefined ? "waiting" : resolution === "denied" ? "failed" : resolution === "turn_ended" || resolution === "withdrawn" ? "off" : "done"} />
      {permission ? <span>Permission for <strong><Revealed text={permission.tool} style="code" /></strong></span> : <span><Revealed text={question!.questions.map((each) => each.question).join(" ")} style="prose" /></span>}
      <span class="muted">{resolution === undefined ? "waits for an answer" : RESOLUTIONS[resolution]}</span>
    </p>
  );
});
