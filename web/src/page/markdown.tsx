/** Renders Markdown. Tokens become virtual DOM nodes; no HTML is parsed, so no sanitiser is needed. */
import type { Token } from "markdown-it";
import { createElement, Fragment, type ComponentChild } from "preact";
import { useRef } from "preact/hooks";
import { CodeBlock } from "./code.tsx";
import { memo } from "./hooks.ts";
import { parseBlocks, type Block, type Blocks } from "./text/blocks.ts";

/** Renders a Markdown text; `open`: more text may be appended. */
export const Markdown = memo<{ text: string; open: boolean }>(({ text, open }) => {
  const before = useRef<Blocks | undefined>(undefined);
  const blocks = parseBlocks(text, before.current, !open);
  before.current = blocks;
  return (
    <div class={open ? "markdown is-open" : "markdown"}>
      {blocks.settled.map((block, index) => <BlockView key={index} block={block} growing={false} />)}
      {blocks.open.map((block, index) => <BlockView key={blocks.settled.length + index} block={block} growing />)}
    </div>
  );
});

const BlockView = memo<{ block: Block; growing: boolean }>(({ block, growing }) => (block.plain ? <p class="md-plain" dir="auto">{block.source.trimEnd()}</p> : <>{elements(block.tokens, growing)}</>));

/** An answer's headings are placed below the page's own h1 and h2. */
const HEADINGS: Record<string, string> = { h1: "h3", h2: "h4", h3: "h5", h4: "h6", h5: "h6", h6: "h6" };

interface Open {
  readonly token: Token;
  readonly children: ComponentChild[];
}

function elements(tokens: readonly Token[], growing: boolean): ComponentChild[] {
  const root: ComponentChild[] = [];
  const stack: Open[] = [];
  const add = (child: ComponentChild) => (stack.at(-1)?.children ?? root).push(child);
  for (const token of tokens) {
    if (token.nesting === 1) stack.push({ token, children: [] });
    else if (token.nesting === -1) {
      const closed = stack.pop();
      if (closed) add(element(closed, stack.at(-1)?.token.type === "list_item_open"));
    } else add(leaf(token, growing));
  }
  return root;
}

/**
 * Blocks take their direction (left-to-right or right-to-left) from their own text. Paragraphs in a list item take it from
 * the item, so that text and bullet agree.
 */
function element({ token, children }: Open, inItem: boolean): ComponentChild {
  switch (token.type) {
    case "paragraph_open":
      return token.hidden ? createElement(Fragment, null, ...children) : createElement("p", inItem ? null : { dir: "auto" }, ...children);
    case "heading_open":
      return createElement(HEADINGS[token.tag] ?? "h6", { class: `md-${token.tag}`, dir: "auto" }, ...children);
    case "link_open":
      return createElement("a", { href: String(token.attrGet("href") ?? ""), target: "_blank", rel: "noopener noreferrer" }, ...children);
    case "ordered_list_open":
      return createElement("ol", { start: Number(token.attrGet("start") ?? 1) }, ...children);
    case "table_open":
      return createElement("div", { class: "table-scroll", tabIndex: 0 }, createElement("table", null, ...children));
    case "th_open":
    case "td_open": {
      const side = /text-align:(\w+)/.exec(String(token.attrGet("style") ?? ""))?.[1];
      return createElement(token.tag, { class: side && `align-${side}`, dir: "auto" }, ...children);
    }
    case "list_item_open":
      return createElement("li", { dir: "auto" }, ...children);
    default:
      return TAGS.has(token.tag) ? createElement(token.tag, null, ...children) : createElement(Fragment, null, ...children);
  }
}

const TAGS: ReadonlySet<string> = new Set(["ul", "blockquote", "thead", "tbody", "tr", "em", "strong", "s"]);

function leaf(token: Token, growing: boolean): ComponentChild {
  switch (token.type) {
    case "inline":
      return createElement(Fragment, null, ...taskBox(token.children ?? [], growing));
    case "code_inline":
      return <code>{token.content}</code>;
    case "fence":
    case "code_block":
      return <CodeBlock code={token.content.replace(/\n$/, "")} language={token.info.trim().split(/\s+/)[0] ?? ""} growing={growing} />;
    case "softbreak":
      return "\n";
    case "hardbreak":
      return <br />;
    case "hr":
      return <hr />;
    case "image": {
      // An image becomes a link: loading it would tell its server that this answer was read.
      const src = String(token.attrGet("src") ?? "");
      return <a href={src} target="_blank" rel="noopener noreferrer">{token.content || "image"}</a>;
    }
    default:
      return token.content;
  }
}

/** Renders `[ ]` and `[x]` at the beginning of a list item as a checkbox. */
function taskBox(tokens: readonly Token[], growing: boolean): ComponentChild[] {
  const children = elements(tokens, growing);
  const box = /^\[([ xX])\] /.exec(tokens[0]?.type === "text" ? tokens[0].content : "");
  if (!box) return children;
  const checked = box[1] !== " ";
  return [
    <input type="checkbox" checked={checked} disabled aria-label={checked ? "done" : "to do"} />, " ",
    tokens[0]!.content.slice(4), ...children.slice(1),
  ];
}
