export const BACKOFF_FLOOR_MS = 250;
export const BACKOFF_CEILING_MS = 15_000;

/**
 * The milliseconds to wait before retry `attempt`, which counts from 0: exponential backoff with full jitter, between the
 * floor and the ceiling. `random` is in [0, 1).
 */
export function backoff(attempt: number, random: number): number {
  const ceiling = Math.min(BACKOFF_CEILING_MS, BACKOFF_FLOOR_MS * 2 ** Math.min(attempt + 1, 10));
  return Math.max(BACKOFF_FLOOR_MS, Math.round(random * ceiling));
}
