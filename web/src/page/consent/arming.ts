/** So long must nothing have happened to a prompt, and nobody have pressed anything, before it takes an answer. */
export const ARMED_AFTER_MS = 600;

/**
 * Whether a prompt takes answers yet. One that just appeared or changed does not, nor does a key or a finger that was
 * on its way before it was armed: a press then must end, and the same time pass again.
 */
export class Arming {
  #now: () => number;
  #since: number;
  #held = false;

  /** `now`: milliseconds of a clock that never goes back. */
  constructor(now: () => number) {
    this.#now = now;
    this.#since = now();
  }

  /** The prompt is another one, or looks different. */
  changed(): void { this.#since = this.#now(); }

  /** A key or a button goes down; `repeat`: it was down before. */
  pressed(repeat: boolean): void {
    if (this.armed && !repeat) return;
    this.#held = true;
    this.changed();
  }

  /** Whatever was down is up, or nobody can tell any more. */
  released(): void {
    if (this.armed) return;
    this.#held = false;
    this.changed();
  }

  get armed(): boolean { return this.remainingMs === 0; }

  /** Until it is armed if nothing happens; undefined while something is held. */
  get remainingMs(): number | undefined {
    return this.#held ? undefined : Math.max(0, this.#since + ARMED_AFTER_MS - this.#now());
  }
}
