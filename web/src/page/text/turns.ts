/** The page's texts for turns and for background tasks. */
import type { TaskKind, TaskStatus, TurnReason } from "../../client/index.ts";

/** Why the agent works although nobody wrote to it. The reason of a newer gateway gets the sentence without one. */
export function reasonText(reason: TurnReason | undefined): string {
  const went = "The agent went on by itself";
  switch (reason) {
    case "background": return `${went}: background work ended.`;
    case "schedule": return `${went}: it was scheduled.`;
    case "hook": return `${went}: a hook asked for it.`;
    case "resume": return `${went}: its session was resumed.`;
    default: return `${went}.`;
  }
}

/** The kind of a task in one word; that of a newer gateway is `Task`. */
export function taskKindText(kind: TaskKind): string {
  switch (kind) {
    case "shell": return "Command";
    case "agent": return "Subagent";
    case "monitor": return "Monitor";
    case "schedule": return "Schedule";
    default: return "Task";
  }
}

/** How a task ended. */
export function taskEndText(status: TaskStatus): string {
  switch (status) {
    case "completed": return "is done";
    case "failed": return "failed";
    case "stopped": return "was stopped";
    default: return "ended";
  }
}
