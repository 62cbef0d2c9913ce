/** What happened, what it means and what to do, in the page's words. Each code has its own: a new one fails the build. */
import type { Closed, ErrorCode, NoticeLevel, Outcome } from "../../client/index.ts";

/** What was refused: a message, an answer to a request, or something else that a person did. */
export type Refused = "message" | "answer" | "other";

/** `said`: the gateway's words, without a full stop. */
type Words = (said: string, refused: Refused) => string;

const misunderstood: Words = (said, refused) => `The gateway did not take this: ${said}. ${refused === "answer" ? "Correct the answer, then send it again." : "Reload the page; if that does not help, it does not fit this version of the gateway."}`;

const WORDS: Record<ErrorCode, Words> = {
  malformed: misunderstood,
  unknown_type: misunderstood,
  missing_field: misunderstood,
  invalid_field: misunderstood,
  unsupported: (said) => `This gateway does not serve that: ${said}.`,
  too_large: (said, refused) => (refused === "message" ? "The message is too long. Shorten it, or put the text into a file of the workspace." : `This is too long: ${said}. Shorten it.`),
  unknown_chat: () => "That chat does not exist, or it is somebody else's. Choose another one from the list.",
  unknown_turn: () => "There was nothing left to stop: the turn has ended.",
  unknown_request: () => "The agent no longer asks this.",
  already_resolved: () => "This was answered before, or the agent took it back.",
  input_unseen: () => "This was not taken, since it was not an answer to all that is asked. Look at it again to its end, then answer.",
  turn_conflict: () => "Another message has this one's id. Edit it: then it is sent as a new message.",
  queue_full: () => "Too many messages wait in this chat. There is room again once the running turn has ended.",
  rate_limited: (said) => `Too much in a short time: ${said}.`,
  limit_reached: (said) => `A limit is reached: ${said}. Close another tab or program that is connected.`,
  unauthorized: () => "The token is missing, wrong or has ended. Sign in again.",
  unavailable: () => "The gateway cannot keep or read this at the moment.",
  damaged: () => "What the gateway has stored of this chat is damaged on its disk, so it cannot be read or go on. Trying again does not help. Other chats are not affected: begin a new one. Whoever runs the gateway can look at the damage with `switchboard doctor` and go back to a backup.",
  too_slow: () => "This page did not read for too long, so the gateway ended the connection. It connects again by itself and gets what it missed.",
  shutting_down: () => "The gateway stops. The page connects again by itself once it is back.",
  internal: () => "Something failed in the gateway. Its log says more.",
};

/** The code may be of a newer gateway, whose own words are all there is. */
export function explain(code: ErrorCode, detail: string, refused: Refused = "other"): string {
  const said = sentence(detail) || "it does not say why";
  return Object.hasOwn(WORDS, code) ? WORDS[code](said, refused) : `The gateway refused this: ${said}.`;
}

/** Why the gateway ended a connection; undefined where that needs no words, since it is back in a moment. */
export function explainClose({ code, reason }: Closed): string | undefined {
  const because = reason.trim() ? `: ${sentence(reason)}` : "";
  switch (code) {
    case 1000:
    case 1001:
    // Nobody said why, or nothing but that the network is gone.
    case 1006: return undefined;
    case 1002:
    case 1007: return `The gateway did not understand this page${because}. Reload the page; it connects again by itself.`;
    case 1008: return `The gateway ended the connection, since this page sent too much or too fast${because}. It connects again by itself, with less haste.`;
    case 1009: return "The gateway ended the connection, since a message was longer than it takes. The message says so; the page connects again by itself.";
    case 1012: return "The gateway stopped. The page connects again by itself once it is back; nothing is lost.";
    case 1013: return `The gateway has no room for another connection${because || ": close another page or program that is connected to it"}. This page tries again by itself.`;
    case 4401: return `The gateway did not accept the token${because}. Sign in again.`;
    case 4403: return `The gateway does not let this page in${because}. Ask whoever runs it.`;
    case 4408: return WORDS.too_slow("", "other");
    case 4409: return "Another page has taken this connection over. Connect here again to go on here.";
    default: return `The gateway ended the connection${because} (code ${code}). This page connects again by itself.`;
  }
}

/** Without its full stop: more follows. */
function sentence(text: string): string {
  return text.trim().replace(/\.+$/, "");
}

export function levelText(level: NoticeLevel): string {
  switch (level) {
    case "info": return "Note";
    case "warning": return "Warning";
    case "error": return "Error";
    // A newer gateway's.
    default: return "Note";
  }
}

export function outcomeText(outcome: Outcome): string {
  switch (outcome) {
    case "completed": return "Done";
    case "cancelled": return "Stopped";
    case "failed": return "Failed";
    case "interrupted": return "Interrupted";
  }
}
