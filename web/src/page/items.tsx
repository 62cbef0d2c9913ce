/** The items of a turn: texts, thoughts, tool uses with their subagents, requests and notices. */
import type { ComponentChildren } from "preact";
import { useContext, useRef } from "preact/hooks";
import type { Item, NoticeItem, TextItem } from "../client/index.ts";
import { memo, Online } from "./hooks.ts";
import { IconChevron } from "./icons.tsx";
import { Markdown } from "./markdown.tsx";
import { ResolvedRequest } from "./requests.tsx";
import { Revealed } from "./revealed.tsx";
import { Sources } from "./sources.tsx";
import { EndedTask } from "./tasks.tsx";
import { levelText } from "./text/errors.ts";
import { nest, type Node } from "./text/nesting.ts";
import { noticeTitle } from "./text/notices.ts";
import { ToolRow } from "./tool.tsx";

/** `live`: the turn runs. */
export function Items({ items, live }: { items: readonly Item[]; live: boolean }) {
  const before = useRef<readonly Node[]>([]);
  const nodes = nest(items, before.current);
  before.current = nodes;
  return <>{drawNodes(nodes, live)}</>;
}

/** `live`: more may follow after the last of the nodes. */
function drawNodes(nodes: readonly Node[], live: boolean): ComponentChildren {
  return nodes.map((node, index) => <NodeView key={node.item.key} node={node} live={live && index === nodes.length - 1} />);
}

const NodeView = memo<{ node: Node; live: boolean }>(({ node, live }) => {
  const { item } = node;
  switch (item.kind) {
    case "tool": return <ToolRow tool={item} node={node} draw={drawNodes} />;
    case "request": return <ResolvedRequest request={item} />;
    case "thinking": return item.void ? null : <Thinking item={item} live={live && item.open} />;
    case "note": return <p class="note">{item.text}</p>;
    case "notice": return <Notice notice={item} />;
    case "task": return <EndedTask item={item} />;
    case "text": return item.void ? <Abandoned item={item} /> : <Answer item={item} />;
  }
});

function Answer({ item: { text, open, sources } }: { item: TextItem }) {
  return (
    <>
      <Markdown text={text} open={open} />
      {sources && sources.length > 0 && <Sources sources={sources} />}
    </>
  );
}

const LAMP_OF_LEVEL = new Map([["info", "off"], ["warning", "waiting"], ["error", "failed"]]);

/** A notice beside the answer. An agent may have chosen its text. */
function Notice({ notice: { level, code, text } }: { notice: NoticeItem }) {
  const title = noticeTitle(code);
  return (
    <p class="notice" role="note" data-level={level} data-code={code}>
      <span class="lamp" data-lamp={LAMP_OF_LEVEL.get(level) ?? "off"} />
      <span>{title !== undefined && level !== "info" && <span class="visually-hidden">{levelText(level)}: </span>}<strong>{title ?? levelText(level)}:</strong> <Revealed text={text} style="prose" /></span>
    </p>
  );
}

function Thinking({ item, live: isNewest }: { item: TextItem; live: boolean }) {
  const live = useContext(Online) && isNewest;
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
