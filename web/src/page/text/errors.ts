/** What happened and what to do, in the page's words; the gateway's detail where the page has none. */
import type { ErrorCode, NoticeLevel, Outcome } from "../../client/index.ts";

const WHAT_TO_DO: Partial<Record<ErrorCode, string>> = {
  unknown_chat: "That chat does not exist, or it is somebody else's. Choose another one from the list.",
  unknown_turn: "There was nothing left to stop: the turn has ended.",
  unknown_request: "The agent no longer asks this.",
  already_resolved: "Somebody else answered first; their answer counts.",
  input_unseen: "This was not taken, since it was not an answer to all that is asked. Look at it again to its end, then answer.",
  turn_conflict: "Another message has this one's id. Send it again as a new message.",
  queue_full: "Too many messages wait in this chat. It is sent when there is room.",
  rate_limited: "Too many messages in a short time. It is sent again in a moment.",
  limit_reached: "Too many connections or chats are open. Close another tab and try again.",
  too_large: "The message is too long. Shorten it, or put the text into a file of the workspace.",
  unavailable: "The gateway cannot keep messages at the moment. It is tried again by itself.",
  shutting_down: "The gateway is restarting. The page reconnects by itself.",
  internal: "Something failed in the gateway. Its log says more.",
};

export function explain(code: ErrorCode, detail: string): string {
  return WHAT_TO_DO[code] ?? (detail || "The gateway refused this.");
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
