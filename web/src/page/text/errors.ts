/**
 * The page's texts for errors: what happened, what it means and what to do. Each error code has its own text; a new code
 * fails the build.
 */
import type { Closed, ErrorCode, NoticeLevel, Outcome } from "../../client/index.ts";

/** What the gateway refused: a message, an answer to a request, or another action of a person. */
export type Refused = "message" | "answer" | "other";

/** Makes the text; `detail` is the gateway's explanation without a full stop. */
type ErrorText = (detail: string, refused: Refused) => string;

const notUnderstood: ErrorText = (detail, refused) => `The gateway did not take this: ${detail}. ${refused === "answer" ? "Correct the answer, then send it again." : "Reload the page; if that does not help, it does not fit this version of the gateway."}`;

const TEXTS: Record<ErrorCode, ErrorText> = {
  malformed: notUnderstood,
  unknown_type: notUnderstood,
  missing_field: notUnderstood,
  invalid_field: notUnderstood,
  unsupported: (detail) => `This gateway does not serve that: ${detail}.`,
  too_large: (detail, refused) => (refused === "message" ? "The message is too long. Shorten it, or put the text into a file of the workspace." : `This is too long: ${detail}. Shorten it.`),
  unknown_chat: () => "That chat does not exist, or it is somebody else's. Choose another one from the list.",
  unknown_turn: () => "There was nothing left to stop: the turn has ended.",
  unknown_request: () => "The agent no longer asks this.",
  already_resolved: () => "This was answered before, or the agent took it back.",
  input_unseen: () => "This was not taken, since it was not an answer to all that is asked. Look at it again to its end, then answer.",
  turn_conflict: () => "Another message has this one's id. Edit it: then it is sent as a new message.",
  queue_full: () => "Too many messages wait in this chat. There is room again once the running turn has ended.",
  rate_limited: (detail) => `Too much in a short time: ${detail}.`,
  limit_reached: (detail) => `A limit is reached: ${detail}. Close another tab or program that is connected.`,
  unauthorized: () => "The token is missing, wrong or has ended. Sign in again.",
  unavailable: () => "The gateway cannot keep or read this at the moment.",
  damaged: () => "What the gateway has stored of this chat is damaged on its disk, so it cannot be read or go on. Trying again does not help. Other chats are not affected: begin a new one. Whoever runs the gateway can look at the damage with `switchboard doctor` and go back to a backup.",
  too_slow: () => "This page did not read for too long, so the gateway ended the connection. It connects again by itself and gets what it missed.",
  shutting_down: () => "The gateway stops. The page connects again by itself once it is back.",
  internal: () => "Something failed in the gateway. Its log says more.",
};

/** The text for an error. For the code of a newer gateway, it is the gateway's own explanation. */
export function explain(code: ErrorCode, detail: string, refused: Refused = "other"): string {
  const reason = sentence(detail) || "it does not say why";
  return Object.hasOwn(TEXTS, code) ? TEXTS[code](reason, refused) : `The gateway refused this: ${reason}.`;
}

/** Why the gateway ended a connection. Undefined where no explanation is needed, since the page reconnects in a moment. */
export function explainClose({ code, reason }: Closed): string | undefined {
  const because = reason.trim() ? `: ${sentence(reason)}` : "";
  switch (code) {
    case 1000:
    case 1001:
    // There was no close frame: the network or the gateway is gone, and nothing is known about why.
    case 1006: return undefined;
    case 1002:
    case 1007: return `The gateway did not understand this page${because}. Reload the page; it connects again by itself.`;
    case 1008: return `The gateway ended the connection, since this page sent too much or too fast${because}. It connects again by itself, with less haste.`;
    case 1009: return "The gateway ended the connection, since a message was longer than it takes. The message says so; the page connects again by itself.";
    case 1012: return "The gateway stopped. The page connects again by itself once it is back; nothing is lost.";
    case 1013: return `The gateway has no room for another connection${because || ": close another page or program that is connected to it"}. This page tries again by itself.`;
    case 4401: return `The gateway did not accept the token${because}. Sign in again.`;
    case 4403: return `The gateway does not let this page in${because}. Ask whoever runs it.`;
    case 4408: return TEXTS.too_slow("", "other");
    case 4409: return "Another page has taken this connection over. Connect here again to go on here.";
    default: return `The gateway ended the connection${because} (code ${code}). This page connects again by itself.`;
  }
}

/** Removes the full stop, since the text goes on after it. */
function sentence(text: string): string {
  return text.trim().replace(/\.+$/, "");
}

export function levelText(level: NoticeLevel): string {
  switch (level) {
    case "info": return "Note";
    case "warning": return "Warning";
    case "error": return "Error";
    // A level of a newer gateway.
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
