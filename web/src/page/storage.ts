/** Access to browser storage. If storage is full, forbidden or absent, nothing is stored and the page works on without it. */
import type { KeyValueStore } from "../client/index.ts";
import { storagePrefix } from "./location.ts";

type Area = "localStorage" | "sessionStorage";

export function read(area: Area, name: string): string | undefined {
  try {
    return window[area].getItem(storagePrefix() + name) ?? undefined;
  } catch {
    return undefined;
  }
}

export function write(area: Area, name: string, value: string | undefined): void {
  try {
    if (value === undefined) window[area].removeItem(storagePrefix() + name);
    else window[area].setItem(storagePrefix() + name, value);
  } catch {
    // storage is not available
  }
}

/** Deletes everything that this page stored in this browser. */
export function forgetAll(): void {
  for (const area of ["localStorage", "sessionStorage"] as const) {
    try {
      for (const key of Object.keys(window[area])) if (key.startsWith(storagePrefix())) window[area].removeItem(key);
    } catch {
      // storage is not available
    }
  }
}

/** The client's store. Its methods may throw; the client handles that. */
export const unsentStore: KeyValueStore = {
  keys: () => Object.keys(localStorage),
  get: (key) => localStorage.getItem(key),
  set: (key, value) => localStorage.setItem(key, value),
  remove: (key) => localStorage.removeItem(key),
};

/** The access token. Each tab has its own in `sessionStorage`, so that signing in to a second gateway does not replace it. */
export class Credentials {
  #token: string | undefined;

  constructor(given: string | undefined) {
    this.#token = given ?? read("sessionStorage", "token") ?? read("localStorage", "token");
    if (given !== undefined) this.try(given);
  }

  get token(): string | undefined {
    return this.#token;
  }

  /** Uses a token in this tab only, until the gateway has accepted it. */
  try(token: string): void {
    this.#token = token;
    write("sessionStorage", "token", token);
  }

  /** Stores the token for other tabs and later visits, after the gateway accepted it. */
  accepted(): void {
    if (this.#token !== undefined) write("localStorage", "token", this.#token);
  }

  /** Uses the token that another tab stored. False if there is none, or no new one. */
  adopt(): boolean {
    const other = read("localStorage", "token");
    if (other === undefined || other === this.#token) return false;
    this.try(other);
    return true;
  }

  /**
   * Drops the token that the gateway refused, and uses the one that another tab stored, if it is another one. False if there
   * is none.
   */
  refused(): boolean {
    const old = this.#token;
    write("sessionStorage", "token", undefined);
    const other = read("localStorage", "token");
    this.#token = other === old ? undefined : other;
    if (other !== undefined && other === old) write("localStorage", "token", undefined);
    return this.#token !== undefined;
  }
}
