/** What the agent waits for: permission requests and questions, docked above the composer until they are answered. */
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { AskedPermission, GivenAnswer, RequestItem, Resolution, WholeInput } from "../client/index.ts";
import { RevealedCode } from "./code.tsx";
import { excerpt } from "./consent/seen.ts";
import { Collapsed, SeenBox } from "./consent/seen-box.tsx";
import { useArming } from "./consent/use-arming.ts";
import { memo } from "./hooks.ts";
import { Questions } from "./questions.tsx";
import { Revealed } from "./revealed.tsx";
import { odd } from "./text/reveal.ts";
import { pretty } from "./text/tools.ts";
import { Input } from "./tool.tsx";

/** Longer names of tools stand whole in the box. */
const TOOL_CHARACTERS = 80;
const DESCRIPTION_LINES = 3;
const DESCRIPTION_CHARACTERS = 280;

interface DockProps {
  requests: readonly RequestItem[];
  online: boolean;
  isResponding: (requestId: string) => boolean;
  onAnswer: (requestId: string, answer: GivenAnswer) => void;
  inputOf: (requestId: string) => WholeInput | undefined;
  onLoadInput: (requestId: string) => void;
}

export function RequestDock({ requests, online, isResponding, onAnswer, inputOf, onLoadInput }: DockProps) {
  const request = requests[0];
  const card = useRef<HTMLElement>(null);
  // One asking of a request: an id that comes again is another one.
  const id = request && `${request.requestId} ${request.at?.epoch} ${request.at?.seq}`;
  const [seenId, setSeen] = useState<string>();
  const seen = id !== undefined && seenId === id;
  const armed = useArming(id && `${id} ${seen} ${online}`);
  useLayoutEffect(() => {
    if (id === undefined) return;
    // Not into the words of somebody who writes.
    const { activeElement } = document;
    const writes = activeElement instanceof HTMLTextAreaElement && activeElement.value !== "";
    if (!writes) card.current?.focus({ preventScroll: true });
    return () => {
      const focus = document.activeElement;
      if (focus === document.body || card.current?.contains(focus)) document.querySelector<HTMLElement>("#composer")?.focus();
    };
  }, [id]);
  if (!request) return null;
  const busy = isResponding(request.requestId);
  const disabled = busy || !online || !armed;
  const parts = { disabled, seen, onSeen: () => setSeen(id), onAnswer: (given: GivenAnswer) => onAnswer(request.requestId, given) };
  // A key that is held answers nothing.
  const ignoreRepeats = (event: KeyboardEvent) => {
    if (event.repeat && (event.key === "Enter" || event.key === " ") && event.target instanceof HTMLElement && event.target.closest("button, input")) event.preventDefault();
  };
  return (
    <section class="dock" key={id} ref={card} tabIndex={-1} role="group" aria-labelledby="dock-title" aria-describedby={request.permission?.description && "dock-why"} onKeyDown={ignoreRepeats}>
      {request.permission
        ? <Permission request={request.permission} whole={inputOf(request.requestId)} onLoad={() => onLoadInput(request.requestId)} {...parts} />
        : request.question && <Questions question={request.question} {...parts} />}
      <p class="dock-foot" role="status">
        {!online ? "Not connected. You can answer once the connection is back." : busy ? "Sending your answer…" : !seen ? "You can agree once you have seen the end of it." : ""}
        {requests.length > 1 && <span>1 of {requests.length} requests</span>}
      </p>
    </section>
  );
}

interface PermissionProps {
  request: AskedPermission;
  /** Its input, where the event shows it cut and somebody wanted to see all of it. */
  whole: WholeInput | undefined;
  onLoad: () => void;
  disabled: boolean;
  /** All of it was on the screen. */
  seen: boolean;
  onSeen: () => void;
  onAnswer: (answer: GivenAnswer) => void;
}

function Permission({ request, whole, onLoad, disabled, seen, onSeen, onAnswer }: PermissionProps) {
  const [reason, setReason] = useState<string>();
  const field = useRef<HTMLInputElement>(null);
  const asks = reason !== undefined;
  const tool = excerpt(request.tool, 1, TOOL_CHARACTERS);
  // Only the very text that the request's hash is of.
  const all = whole?.phase === "whole" && whole.sha256 === request.input_sha256 ? whole.text : undefined;
  const input = useMemo(() => all ?? pretty(request.input), [request.input, all]);
  const complete = !request.truncated || all !== undefined;
  const failed = whole !== undefined && whole.phase !== "loading" && all === undefined;
  const allow = () => onAnswer({ decision: "allow", ...((request.truncated || request.raw) && request.input_sha256 !== undefined && { input_sha256: request.input_sha256 }) });
  const size = input.length + (tool.characters > 0 ? request.tool.length : 0);
  const marked = useMemo(() => oddities(input, request), [input, request]);
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
      <h2 id="dock-title"><span class="lamp" data-lamp="waiting" /><span>Allow <strong><Revealed text={tool.text} style="code" />{tool.characters > 0 && "…"}</strong>?</span></h2>
      <SeenBox characters={size} complete={complete} onSeen={onSeen}>
        {tool.characters > 0 && <RevealedCode code={request.tool} label="tool" />}
        {all === undefined && !request.raw ? <Input input={request.input} /> : <RevealedCode code={input} label="the input as the agent wrote it" />}
      </SeenBox>
      {marked && <p class="warning">{marked}</p>}
      {request.description && <Collapsed text={request.description} style="prose" lines={DESCRIPTION_LINES} characters={DESCRIPTION_CHARACTERS} id="dock-why" />}
      {request.description_truncated && <p class="muted">The description was cut to the gateway's limit.</p>}
      {!complete && (
        <div class="warning">
          <p>This is the beginning of the input{request.input_bytes !== undefined && `, which has ${request.input_bytes.toLocaleString("en")} bytes`}. It cannot be allowed before all of it was shown.</p>
          {failed && <p>The gateway's pages of it do not fit together.</p>}
          {request.input_sha256 !== undefined && <button type="button" disabled={whole?.phase === "loading"} onClick={onLoad}>{whole?.phase === "loading" ? "Loading…" : "Show all of it"}</button>}
        </div>
      )}
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
          <button type="button" class="primary" disabled={disabled || !seen || !complete} onClick={allow}>Allow once</button>
          <button type="button" disabled={disabled} onClick={deny}>Deny</button>
          <button type="button" class="quiet" onClick={() => setReason("")}>Deny with a reason…</button>
        </div>
      )}
    </>
  );
}

/** Says that something is marked, for who does not look for it. */
function oddities(input: string, { tool, description }: AskedPermission): string {
  const all = [odd(input, "code"), odd(tool, "code"), odd(description ?? "", "prose")];
  const hidden = all.reduce((sum, each) => sum + each.hidden, 0);
  const words = all.reduce((sum, each) => sum + each.words, 0);
  const said = [
    ...(hidden > 0 ? [`${hidden.toLocaleString("en")} ${hidden === 1 ? "character" : "characters"} that cannot be seen`] : []),
    ...(words > 0 ? [`${words.toLocaleString("en")} ${words === 1 ? "word" : "words"} that may look like something else`] : []),
  ];
  return said.length === 0 ? "" : `Marked here: ${said.join(", and ")}.`;
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
