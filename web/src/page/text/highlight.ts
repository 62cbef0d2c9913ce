/** Highlights code as a tree of pieces; no HTML is made. */
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";

const LANGUAGES = { bash, c, css, diff, go, ini, java, javascript, json, markdown, python, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language);
hljs.registerAliases(["console", "shell", "shellsession"], { languageName: "bash" });
hljs.registerAliases(["cpp", "c++", "h"], { languageName: "c" });

/** Longer code is not highlighted: it would take too long. */
const MAX_CHARACTERS = 60_000;

export type Piece = string | { readonly scope: string; readonly children: readonly Piece[] };

interface EmittedNode { scope?: string; children?: (string | EmittedNode)[] }

export function highlight(code: string, language: string): readonly Piece[] {
  if (!language || code.length > MAX_CHARACTERS || !hljs.getLanguage(language)) return [code];
  const result = hljs.highlight(code, { language, ignoreIllegals: true });
  // highlight.js builds this internal tree before it makes HTML from it.
  const root = (result as unknown as { _emitter: { rootNode: EmittedNode } })._emitter.rootNode;
  return pieces(root);
}

function pieces(node: EmittedNode): Piece[] {
  return (node.children ?? []).flatMap((child): Piece[] => {
    if (typeof child === "string") return [child];
    return child.scope ? [{ scope: child.scope, children: pieces(child) }] : pieces(child);
  });
}
