import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { memo } from "./hooks.ts";
import { IconCheck, IconCopy } from "./icons.tsx";
import { collapseBlankLines, fromUnified, type DiffLine } from "./text/diff.ts";
import { highlight, type Piece } from "./text/highlight.ts";
import { Gap, Revealed } from "./revealed.tsx";

/** A code block that is still growing is highlighted in every frame, but only up to this length. */
const MAX_GROWING_CHARACTERS = 4_000;

export const CodeBlock = memo<{ code: string; language: string; growing?: boolean }>(({ code, language, growing }) => {
  const pieces = useMemo(
    () => highlight(code, growing && code.length > MAX_GROWING_CHARACTERS ? "" : language.toLowerCase()),
    [code, language, growing],
  );
  return (
    <figure class="code">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton text={code} what="code" />
      </figcaption>
      <pre tabIndex={0}><code>{pieces.map(piece)}</code></pre>
    </figure>
  );
});

/**
 * A code block of a permission request. It is not highlighted, so that no part of a command can look like a comment. `copied`
 * is the text for the copy button.
 */
export function CodeFigure({ label, copied, children }: { label: string; copied: string; children: ComponentChildren }) {
  return (
    <figure class="code">
      <figcaption><span>{label}</span><CopyButton text={copied} what="code" /></figcaption>
      <pre tabIndex={0} class="revealed-code"><code>{children}</code></pre>
    </figure>
  );
}

function piece(part: Piece): preact.ComponentChild {
  if (typeof part === "string") return part;
  return <span class={`hl-${part.scope.replace(".", " hl-")}`}>{part.children.map(piece)}</span>;
}

export function CopyButton({ text, what }: { text: string; what: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1600);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = () => copyText(text).then(setCopied);
  return (
    <button type="button" class="quiet icon-button" onClick={copy} aria-label={copied ? "Copied" : `Copy ${what}`} title={`Copy ${what}`}>
      {copied ? <IconCheck /> : <IconCopy />}
    </button>
  );
}

async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // The clipboard API is missing on plain http from another host; copying a selection works there.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}

export function UnifiedDiff({ diff }: { diff: string }) {
  return <DiffLines lines={useMemo(() => collapseBlankLines(fromUnified(diff)), [diff])} />;
}

const SIGNS = { same: " ", added: "+", deleted: "−", hunk: "" };

export function DiffLines({ lines }: { lines: readonly DiffLine[] }) {
  return (
    <pre class="diff" tabIndex={0}>
      {lines.length === 0 && <Gap text="empty" />}
      {lines.map((line, index) => (
        <span key={index} class={`diff-line is-${line.kind}`}>
          <span class="diff-sign" aria-label={line.kind === "added" ? "added" : line.kind === "deleted" ? "deleted" : undefined}>{SIGNS[line.kind]}</span>
          {line.blank ? <Gap text={`${line.blank} blank lines`} /> : <span class="diff-text"><Revealed text={line.text || " "} style="code" />{"\n"}</span>}
        </span>
      ))}
    </pre>
  );
}
