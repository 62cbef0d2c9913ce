import type { Source } from "../client/index.ts";
import { Revealed } from "./revealed.tsx";
import { webLink } from "./text/links.ts";

/** A longer title or address is cut. */
const MAX_CHARACTERS = 160;

/** The pages that an agent cites. Title and address are the agent's, so the address's host is always shown. */
export function Sources({ sources }: { sources: readonly Source[] }) {
  return (
    <ul class="sources" aria-label="Sources">
      {sources.map((source, index) => <li key={index}><SourceView source={source} /></li>)}
    </ul>
  );
}

function SourceView({ source: { url, title } }: { source: Source }) {
  const link = webLink(url);
  const name = title?.trim() && <Revealed text={shortened(title.trim())} style="label" />;
  if (!link) return <span>{name} <Revealed text={shortened(url)} style="code" /></span>;
  return (
    <a href={link.href} target="_blank" rel="noopener noreferrer">
      {name ? <>{name} <span class="source-host"><Revealed text={link.host} style="code" /></span></> : <Revealed text={shortened(url)} style="code" />}
    </a>
  );
}

function shortened(text: string): string {
  return text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS)}…` : text;
}
