/** Reads the addresses of an agent's sources, which may be anything. */

/** A web page's address, and its host for people. */
export interface Link {
  readonly href: string;
  readonly host: string;
}

/** The address as a link, if it is that of a web page (`http:` or `https:`); no other scheme may become a link. */
export function webLink(address: string): Link | undefined {
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    return undefined;
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return undefined;
  return { href: url.href, host: url.host };
}
