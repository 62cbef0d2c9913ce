import type { ComponentChildren } from "preact";
import { useContext, useState } from "preact/hooks";
import type { RequestItem, ToolItem } from "../client/index.ts";
import { CopyButton, UnifiedDiff } from "./code.tsx";
import { memo, Online } from "./hooks.ts";
import { IconChevron } from "./icons.tsx";
import { Input } from "./input.tsx";
import { Revealed } from "./revealed.tsx";
import { Sources } from "./sources.tsx";
import { size } from "./text/format.ts";
import type { Node } from "./text/nesting.ts";
import { about, place } from "./text/tools.ts";

/**
 * The lamp's colour and the status word. Where `isShown` is false the word is for screen readers only, since the lamp says
 * the same.
 */
function state(tool: ToolItem, permission: RequestItem | undefined, online: boolean): { lamp: string; word: string; isShown: boolean } {
  /** What was going on when the gateway was last heard of. */
  const present = (lamp: string, now: string, before: string) => ({ isShown: true, ...(online ? { lamp, word: now } : { lamp: "waiting", word: `${before} when last connected` }) });
  if (permission && !permission.resolution) return present("waiting", "waits for your permission", "asked");
  if (permission?.resolution === "denied") return { lamp: "failed", word: "denied", isShown: true };
  // The use itself ended when its task began, so the task tells what became of the work.
  if (tool.status !== "running") {
    if (tool.task === "running") return present("running", "runs in the background", "ran");
    if (tool.task === "failed") return { lamp: "failed", word: "failed", isShown: true };
    if (tool.task === "stopped") return { lamp: "off", word: "stopped", isShown: true };
  }
  switch (tool.status) {
    case "running": return present("running", "runs", "ran");
    case "error": return isTakenBack(permission) ? { lamp: "off", word: "not run", isShown: true } : { lamp: "failed", word: "failed", isShown: true };
    case "stopped": return { lamp: "off", word: "stopped", isShown: true };
    case "done":
    case "edited": return { lamp: "done", word: permission?.resolution === "allowed" ? "allowed" : "done", isShown: permission?.resolution === "allowed" };
  }
}

/** Whether the request ended without a person's answer: then the tool did not run, so it did not fail either. */
function isTakenBack(permission: RequestItem | undefined): boolean {
  return permission?.resolution === "withdrawn" || permission?.resolution === "turn_ended";
}

interface ToolRowProps {
  tool: ToolItem;
  node: Node;
  /** Draws what the subagent did that this use of a tool began. */
  draw: (nodes: readonly Node[], live: boolean) => ComponentChildren;
}

/**
 * One line for a use of a tool. The details, and what its subagent does, are rendered only while they are open. They are open
 * while the subagent asks something.
 */
export const ToolRow = memo<ToolRowProps>(({ tool, node, draw }) => {
  const { permission, children } = node;
  const { lamp, word, isShown } = state(tool, permission, useContext(Online));
  const [chosen, choose] = useState(false);
  const open = chosen || node.asks;
  const added = tool.edits.reduce((sum, edit) => sum + edit.added, 0);
  const deleted = tool.edits.reduce((sum, edit) => sum + edit.deleted, 0);
  const argument = about(tool);
  // The state decides whether the element is open, since a request opens it too.
  const toggle = (event: Event) => {
    event.preventDefault();
    choose(!open);
  };
  return (
    <details class="step tool" open={open} data-tool={tool.name} data-call={tool.callId} data-status={tool.status} data-resolution={permission?.resolution}>
      <summary onClick={toggle}>
        <span class="lamp" data-lamp={node.asks ? "waiting" : lamp} />
        <span class="tool-name"><Revealed text={tool.name} style="code" /></span>
        <span class="step-argument">{argument && <Revealed text={argument} style="code" />}</span>
        {tool.edits.length > 0 && <span class="counts"><ins>+{added}</ins> <del>−{deleted}</del></span>}
        {children.length > 0 && <span class="tool-status">subagent, {children.length === 1 ? "1 step" : `${children.length} steps`}</span>}
        <span class={isShown ? "tool-status" : "visually-hidden"}>{word}</span>
        <IconChevron />
      </summary>
      {open && (
        <div class="step-body">
          <ToolInput tool={tool} />
          {children.length > 0 && <div class="subagent" role="group" aria-label="Subagent">{draw(children, tool.status === "running" || tool.task === "running")}</div>}
          <ToolOutput tool={tool} />
        </div>
      )}
    </details>
  );
});

function ToolInput({ tool: { edits, locations = [], arguments: input, inputGoesOn } }: { tool: ToolItem }) {
  return (
    <>
      {edits.map((edit, index) => (
        <section key={index}>
          <h3 class="step-label"><Revealed text={edit.path} style="code" /></h3>
          {edit.diff !== undefined && <UnifiedDiff diff={edit.diff} />}
          {edit.diff !== undefined && edit.diff_truncated && <p class="muted">The change goes on: in all, {edit.added} lines were added and {edit.deleted} deleted.</p>}
          {edit.diff === undefined && <p class="muted">{edit.added} lines added, {edit.deleted} deleted. {edit.diff_truncated ? "The change is too large to show." : "The change itself is not known."}</p>}
        </section>
      ))}
      {edits.length === 0 && locations.length > 0 && (
        <ul class="places" aria-label="Files">{locations.map((location, index) => <li key={index}><Revealed text={place(location)} style="code" /></li>)}</ul>
      )}
      {edits.length === 0 && input !== undefined && <Input input={input} />}
      {edits.length === 0 && inputGoesOn && <p class="muted">The input goes on.</p>}
    </>
  );
}

function ToolOutput({ tool }: { tool: ToolItem }) {
  const { output, result, error, media = [], sources = [] } = tool;
  return (
    <>
      {output !== undefined && result === undefined && (
        <>
          {tool.outputCut && <p class="muted">Only the end of the output is shown.</p>}
          <Output label="Output" text={output} />
        </>
      )}
      {result !== undefined && <Output label="Output" text={result} />}
      {error !== undefined && <Output label={tool.status === "stopped" ? "Stopped" : "Error"} text={error} />}
      {media.length > 0 && (
        <ul class="media" aria-label="Media">{media.map((medium, index) => <li key={index}><Revealed text={medium.media_type} style="code" />, {size(medium.bytes)}</li>)}</ul>
      )}
      {sources.length > 0 && <Sources sources={sources} />}
      {tool.truncated && <p class="muted">Cut to the gateway's limit.</p>}
    </>
  );
}

function Output({ label, text }: { label: string; text: string }) {
  return (
    <section>
      <h3 class="step-label">{label}<CopyButton text={text} what={label.toLowerCase()} /></h3>
      <pre class="output" tabIndex={0}>{text || "(nothing)"}</pre>
    </section>
  );
}
