/** Reads the description of a chat's agent from gateway events. */
import type { AgentState } from "./wire.ts";

/**
 * Reads the agent description from a part of an event, such as a snapshot's state. Gives undefined if the part has no
 * `agent` text, and leaves out fields of the wrong type. Gateways differ: an older one sends no description, a newer one
 * may send more fields.
 */
export function agentIn(part: unknown): AgentState | undefined {
  if (typeof part !== "object" || part === null || !("agent" in part)) return undefined;
  const { agent, dialect, workspace, sandbox } = part as Record<string, unknown>;
  if (typeof agent !== "string") return undefined;
  return {
    agent,
    ...(typeof dialect === "string" && { dialect }), ...(typeof workspace === "string" && { workspace }),
    ...(typeof sandbox === "string" && { sandbox }),
  };
}
