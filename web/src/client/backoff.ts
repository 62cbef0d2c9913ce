export const BACKOFF_FLOOR_MS = 250;
export const BACKOFF_CEILING_MS = 15_000;

/** The wait before attempt `attempt` (from 0): exponential with full jitter, never below the floor. */
export function backoff(attempt: number, random: number): number {
  const ceiling = Math.min(BACKOFF_CEILING_MS, BACKOFF_FLOOR_MS * 2 ** Math.min(attempt + 1, 10));
  return Math.max(BACKOFF_FLOOR_MS, Math.round(random * ceiling));
}
