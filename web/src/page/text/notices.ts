/** Names the kinds of notices for people. */

const TITLES = new Map([
  ["usage_limit", "Usage limit"],
  ["compacting", "Compacting"],
  ["compacted", "Compacted"],
  ["compaction_failed", "Not compacted"],
  ["context_cleared", "Context cleared"],
  ["memory_lost", "Memory lost"],
  ["sign_in", "Not signed in"],
  ["hook", "Hook"],
  ["command_output", "Output"],
  ["last_words", "Last words"],
  ["permission_denied", "Denied"],
  ["request_refused", "Request refused"],
  ["budget", "Budget"],
  ["agent_stopped", "Agent stopped"],
  ["degraded", "Storage"],
]);

/** The title of a notice with this code. Undefined for `other` and for the codes of newer gateways. */
export function noticeTitle(code: string): string | undefined {
  return TITLES.get(code);
}
