/** A request takes no answer before this much time has passed without a change of the request or a key press or click. */
export const ARMED_AFTER_MS = 600;

/**
 * Decides whether a request takes answers yet, so that a key press or click meant for something else cannot answer a request
 * that has just appeared or changed. A press that began too early has to end first, and the whole time has to pass again.
 */
export class Arming {
  #now: () => number;
  #changedAtMs: number;
  #isPressed = false;

  /** `now`: a monotonic clock in milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
    this.#changedAtMs = now();
  }

  /** The request was replaced or looks different. */
  changed(): void { this.#changedAtMs = this.#now(); }

  /** A key or a pointer button was pressed. `repeat`: the key was already down, and the event is its auto-repeat. */
  pressed(repeat: boolean): void {
    if (this.armed && !repeat) return;
    this.#isPressed = true;
    this.changed();
  }

  /** All keys and buttons were released, or the window lost the focus and will not see their release. */
  released(): void {
    if (this.armed) return;
    this.#isPressed = false;
    this.changed();
  }

  get armed(): boolean { return this.remainingMs === 0; }

  /** Milliseconds until the request is armed if nothing else happens; undefined while a key or button is pressed. */
  get remainingMs(): number | undefined {
    return this.#isPressed ? undefined : Math.max(0, this.#changedAtMs + ARMED_AFTER_MS - this.#now());
  }
}
