import type { Usage } from "../../client/index.ts";

/** Formats a duration: 840 ms, 12.4 s, 3 min 20 s. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(Math.round(seconds) / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds) % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Formats a number of tokens: 318, 1.2k, 10k. */
export function count(tokens: number): string {
  if (tokens < 1000) return String(tokens);
  return tokens < 10_000 ? `${(tokens / 1000).toFixed(1)}k` : `${Math.round(tokens / 1000)}k`;
}

export function usage({ input_tokens, output_tokens, cache_read_tokens, cache_write_tokens }: Usage): { short: string; long: string } {
  const read = input_tokens + cache_read_tokens + cache_write_tokens;
  return {
    short: `${count(read)} in, ${count(output_tokens)} out`,
    long: `${input_tokens} tokens read, ${cache_read_tokens} from the cache, ${cache_write_tokens} written to it, ${output_tokens} tokens written`,
  };
}

/** Formats a price in US dollars, with more digits for amounts below a cent or a dollar. */
export function cost(usd: number): string {
  if (usd > 0 && usd < 0.00005) return "under $0.0001";
  return `$${usd.toFixed(usd === 0 || usd >= 0.995 ? 2 : usd >= 0.01 ? 3 : 4)}`;
}

/** The heading of the chat list under which a chat with this last activity is listed. */
export function day(atMs: number, nowMs: number): string {
  const midnight = new Date(nowMs).setHours(0, 0, 0, 0);
  if (atMs >= midnight) return "Today";
  if (atMs >= midnight - 86_400_000) return "Yesterday";
  if (atMs >= midnight - 6 * 86_400_000) return "This week";
  return new Date(atMs).toLocaleDateString(undefined, { month: "long", year: "numeric" });
}

/** Formats a size in bytes: 840 B, 2 KB, 1.4 MB. */
export function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const [amount, unit] = bytes < 999_500 ? [bytes / 1000, "KB"] : [bytes / 1_000_000, "MB"];
  return `${amount < 9.95 ? amount.toFixed(1).replace(/\.0$/, "") : Math.round(amount)} ${unit}`;
}
