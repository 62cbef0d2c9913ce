/** Browser storage that may be full, forbidden or absent: then the page forgets, and works. */
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
    // see above
  }
}

/** Forgets everything that this page keeps on this device. */
export function forgetAll(): void {
  for (const area of ["localStorage", "sessionStorage"] as const) {
    try {
      for (const key of Object.keys(window[area])) if (key.startsWith(storagePrefix())) window[area].removeItem(key);
    } catch {
      // see above
    }
  }
}

/** For the client, which copes with what is thrown. */
export const unsentStore: KeyValueStore = {
  keys: () => Object.keys(localStorage),
  get: (key) => localStorage.getItem(key),
  set: (key, value) => localStorage.setItem(key, value),
  remove: (key) => localStorage.removeItem(key),
};

/** The token: of this tab first, so that a second gateway's tab does not take it away. */
export class Credentials {
  #token: string | undefined;

  constructor(given: string | undefined) {
    this.#token = given ?? read("sessionStorage", "token") ?? read("localStorage", "token");
    if (given !== undefined) this.try(given);
  }

  get token(): string | undefined {
    return this.#token;
  }

  /** Takes a token that has yet to prove good: until then it is this tab's alone. */
  try(token: string): void {
    this.#token = token;
    write("sessionStorage", "token", token);
  }

  /** The gateway accepted it: other tabs and later visits may have it. */
  accepted(): void {
    if (this.#token !== undefined) write("localStorage", "token", this.#token);
  }

  /** Takes over what another tab signed in with; says whether there is anything new. */
  adopt(): boolean {
    const other = read("localStorage", "token");
    if (other === undefined || other === this.#token) return false;
    this.try(other);
    return true;
  }

  /** After a refusal: another tab may have a newer one. Says whether there is another to try. */
  refused(): boolean {
    const old = this.#token;
    write("sessionStorage", "token", undefined);
    const other = read("localStorage", "token");
    this.#token = other === old ? undefined : other;
    if (other !== undefined && other === old) write("localStorage", "token", undefined);
    return this.#token !== undefined;
  }
}
