/** Reads and writes the page's address. The token and the chat are in the fragment, which browsers send to no server. */

/** Takes the token out of the address, so that it does not stay visible. Undefined if there is none. */
export function takeToken(): string | undefined {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("token");
  if (token === null) return undefined;
  fragment.delete("token");
  replaceFragment(fragment);
  return token.trim() || undefined;
}

export function chatInAddress(): string | undefined {
  const chat = new URLSearchParams(location.hash.slice(1)).get("chat");
  return chat !== null && /^[A-Za-z0-9_:-]{1,64}$/.test(chat) ? chat : undefined;
}

export function showChatInAddress(chatId: string | undefined, push: boolean): void {
  if (chatId === chatInAddress()) return;
  const fragment = new URLSearchParams(chatId === undefined ? [] : [["chat", chatId]]);
  if (push) history.pushState(null, "", address(fragment));
  else replaceFragment(fragment);
}

/** The WebSocket address of the gateway that served the page, below the same path. The query and the fragment do not matter. */
export function webSocketUrl(): string {
  const url = new URL("./ws", location.origin + location.pathname);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** The address below which the gateway serves server-sent events and takes POSTs. */
export function streamBase(): string {
  return new URL("./", location.origin + location.pathname).href;
}

/** The prefix of the page's storage keys. It has the path, since gateways below different paths of one origin share its storage. */
export function storagePrefix(): string {
  return `switchboard:${location.pathname.replace(/[^/]*$/, "")}:`;
}

function replaceFragment(fragment: URLSearchParams): void {
  history.replaceState(null, "", address(fragment));
}

function address(fragment: URLSearchParams): string {
  const text = fragment.toString();
  return location.pathname + location.search + (text && `#${text}`);
}
