/** Which agent a chat talks to, as the gateway tells it. */
import type { AgentState } from "./wire.ts";

/** The agent in an event's part that may have one; undefined where it has none or something else. */
export function agentIn(part: unknown): AgentState | undefined {
  if (typeof part !== "object" || part === null || !("agent" in part)) return undefined;
  // An older gateway has none; a newer one may say more.
  const { agent, dialect, workspace, sandbox } = part as Record<string, unknown>;
  if (typeof agent !== "string") return undefined;
  return {
    agent,
    ...(typeof dialect === "string" && { dialect }), ...(typeof workspace === "string" && { workspace }),
    ...(typeof sandbox === "string" && { sandbox }),
  };
}
