/** What the page reads from its address: a token and a chat, both from the fragment, which no server sees. */

/** The token of the printed URL, taken out of the address before anything else runs. */
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

/** The gateway that served the page, under whatever path; never from the query or the fragment. */
export function webSocketUrl(): string {
  const url = new URL("./ws", location.origin + location.pathname);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/** The same for server-sent events, which are beside it. */
export function streamBase(): string {
  return new URL("./", location.origin + location.pathname).href;
}

/** Keys of storage: gateways that share an origin under different paths keep apart. */
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
