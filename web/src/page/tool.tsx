import { useState } from "preact/hooks";
import type { RequestItem, ToolItem } from "../client/index.ts";
import { CopyButton, UnifiedDiff } from "./code.tsx";
import { memo } from "./hooks.ts";
import { IconChevron } from "./icons.tsx";
import { Input } from "./input.tsx";
import { Revealed } from "./revealed.tsx";
import { summary } from "./text/tools.ts";

/**
 * The lamp's colour and the status word. Where `isShown` is false the word is for screen readers only, since the lamp says
 * the same.
 */
function state(tool: ToolItem, permission: RequestItem | undefined): { lamp: string; word: string; isShown: boolean } {
  if (permission && !permission.resolution) return { lamp: "waiting", word: "waits for your permission", isShown: true };
  if (permission?.resolution === "denied") return { lamp: "failed", word: "denied", isShown: true };
  switch (tool.status) {
    case "running": return { lamp: "running", word: "runs", isShown: true };
    case "error": return { lamp: "failed", word: "failed", isShown: true };
    case "stopped": return { lamp: "off", word: "stopped", isShown: true };
    case "done":
    case "edited": return { lamp: "done", word: permission?.resolution === "allowed" ? "allowed" : "done", isShown: permission?.resolution === "allowed" };
  }
}

/** One line for a tool call. The details are rendered only when they are opened. */
export const ToolRow = memo<{ tool: ToolItem; permission: RequestItem | undefined }>(({ tool, permission }) => {
  const { lamp, word, isShown } = state(tool, permission);
  const [open, setOpen] = useState(false);
  const added = tool.edits.reduce((sum, edit) => sum + edit.added, 0);
  const deleted = tool.edits.reduce((sum, edit) => sum + edit.deleted, 0);
  const argument = tool.edits[0]?.path ?? summary(tool.arguments);
  return (
    <details class="step tool" data-tool={tool.name} data-status={tool.status} data-resolution={permission?.resolution} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <span class="lamp" data-lamp={lamp} />
        <span class="tool-name"><Revealed text={tool.name} style="code" /></span>
        <span class="step-argument">{argument && <Revealed text={argument} style="code" />}</span>
        {tool.edits.length > 0 && <span class="counts"><ins>+{added}</ins> <del>−{deleted}</del></span>}
        <span class={isShown ? "tool-status" : "visually-hidden"}>{word}</span>
        <IconChevron />
      </summary>
      {open && <div class="step-body"><ToolBody tool={tool} /></div>}
    </details>
  );
});

function ToolBody({ tool }: { tool: ToolItem }) {
  return (
    <>
      {tool.edits.map((edit, index) => (
        <section key={index}>
          <h3 class="step-label"><Revealed text={edit.path} style="code" /></h3>
          {edit.diff ? <UnifiedDiff diff={edit.diff} /> : <p class="muted">{edit.added} lines added, {edit.deleted} deleted. The change is too large to show.</p>}
        </section>
      ))}
      {tool.edits.length === 0 && tool.arguments !== undefined && <Input input={tool.arguments} />}
      {tool.result !== undefined && <Output label="Output" text={tool.result} />}
      {tool.error !== undefined && <Output label="Error" text={tool.error} />}
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
