// The agent of the mock gateway: short versions of what the demo agent does.

const HELP = `I am a scripted agent. Try one of these:

| Message | What happens |
|---|---|
| \`tool\` | asks for leave to run a command |
| \`question\` | asks you something |
| \`edit\` | changes a file |
| \`slow\` | answers slowly, so that you can stop it |
| \`long\` | answers at length |
| \`fail\` | fails |
| \`background\` | begins background work, and goes on by itself when that ends; \`background ask\` then asks |
| \`subagent\` | gives a part of the work to a subagent; \`subagent ask\`: which asks; \`subagent later\`: which goes on in a later turn |

Anything else is **repeated**.`;

const LONG = `## Following the log

A client keeps a *cursor* for every chat: the epoch and the number of the last event it has. When the connection comes back it says where it stands, and gets what it missed. Nothing twice, nothing lost.

1. Connect and authenticate.
2. Attach with the cursor:
   - if it is usable, the missing events follow,
   - otherwise a snapshot replaces what was there.
3. Go on live.

\`\`\`rust
/// Where a client stands in a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub epoch: Epoch,
    pub seq: u64, // 0 before the first
}

impl Cursor {
    pub fn next(&self) -> u64 {
        self.seq + 1
    }
}
\`\`\`

> The journal is the log of record: nothing is shown before it is in it.

A check on the command line:

\`\`\`sh
switchboard serve --listen 127.0.0.1:0 --port-file port | grep "ready"
\`\`\`

- [x] order
- [x] resume
- [ ] lunch

See [the protocol](https://example.com/protocol) for the rest. An <img src=x onerror=alert(1)> in an answer stays text.
`;

/**
 * Plays the answer to one message. `turn` has functions that emit events and ask the person, and says whether the turn was
 * stopped.
 */
export async function play(turn, text) {
  const [word, ...rest] = text.trim().split(/\s+/);
  const say = async (answer, pause = 12, stream = "s1") => {
    for (const piece of answer.match(/\S+\s*|\s+/g) ?? []) {
      if (turn.stopped) return;
      turn.emit({ event: "delta", stream_id: stream, text: piece });
      await turn.pause(pause);
    }
    turn.emit({ event: "stream_end", stream_id: stream });
  };
  const think = async (thought) => {
    for (const piece of thought.split(/(?<= )/)) {
      turn.emit({ event: "reasoning_delta", stream_id: "r1", text: piece });
      await turn.pause(8);
    }
    turn.emit({ event: "reasoning_end", stream_id: "r1" });
  };
  switch (word) {
    case "help":
      return say(HELP, 3);
    case "long":
      await think("The person wants to see a long answer. I will explain how a client follows the log, with a list, a quotation and code. ");
      for (let part = 0; part < (Number(rest[0]) || 1); part += 1) await say(LONG, 6, `s${part}`);
      return;
    case "slow":
      return say(Array.from({ length: Number(rest[0]) || 20 }, (_, index) => `word${index + 1} `).join(""), 250);
    case "fast":
      for (let delta = 1; delta <= (Number(rest[0]) || 1000) && !turn.stopped; delta += 1) {
        turn.emit({ event: "delta", stream_id: "s1", text: rest[1] && delta % 40 === 0 ? `${delta}\n\n` : `${delta} ` });
        if (delta % 64 === 0) await turn.pause(1);
      }
      return turn.emit({ event: "stream_end", stream_id: "s1" });
    case "fail":
      await say("This will not end well. ");
      return turn.fail("agent_error", "The agent reported an error: the model is overloaded.");
    case "hang":
      turn.control({ event: "turn_stalled", idle_ms: 61_000 });
      return turn.never();
    case "die":
      await say("One moment, ");
      return turn.interrupt("agent_exited", "The agent's process ended.");
    case "tool": {
      await think("I should look at the disk before I answer. ");
      turn.emit({ event: "tool_event", phase: "start", call_id: "c1", name: "Read", arguments: { file_path: "Cargo.toml" } });
      await turn.pause(150);
      turn.emit({ event: "tool_event", phase: "end", call_id: "c1", name: "Read", result: "[workspace]\nresolver = \"3\"\nmembers = [\"core\", \"gateway\"]" });
      turn.emit({ event: "tool_event", phase: "start", call_id: "c2", name: "Bash", arguments: { command: "df -h . && du -sh target", description: "How full the disk is" } });
      const answer = await turn.ask({
        event: "permission_request", tool: "Bash", call_id: "c2",
        input: { command: "df -h . && du -sh target", description: "How full the disk is" }, description: "How full the disk is",
      });
      if (turn.stopped) return;
      if (answer.decision === "allow") {
        turn.emit({ event: "tool_event", phase: "end", call_id: "c2", name: "Bash", result: "Filesystem      Size  Used Avail Use% Mounted on\n/dev/vda1        79G   31G   45G  41% /\n2.1G\ttarget" });
        return say("The command ran. The disk is **41 %** full, and `target` takes 2.1 GiB of it.");
      }
      turn.emit({ event: "tool_event", phase: "error", call_id: "c2", name: "Bash", error: `Denied. ${answer.message ?? ""}`.trim() });
      return say(`The command was denied${answer.message ? `: ${answer.message}` : "."}`);
    }
    case "question": {
      const answer = await turn.ask({ event: "question", questions: [
        { question: "Which database should it use?", header: "Database", multi_select: false, options: [
          { label: "SQLite", description: "One file, nothing to run" }, { label: "PostgreSQL", description: "A server of its own" } ] },
        { question: "What should be tested?", header: "Tests", multi_select: true, options: [{ label: "Units" }, { label: "The page" }, { label: "Crashes" }] },
      ] });
      if (turn.stopped) return;
      if (answer.decision !== "answer") return say("You would rather not say. That is fine.");
      return say(`You chose: ${Object.values(answer.answers).flat().join(", ")}.`);
    }
    case "edit": {
      turn.emit({ event: "tool_event", phase: "start", call_id: "e1", name: "Edit", arguments: { file_path: "src/limits.rs", old_string: "20", new_string: "30" } });
      const answer = await turn.ask({
        event: "permission_request", tool: "Edit", call_id: "e1", truncated: rest[0] === "big",
        input: { file_path: "src/limits.rs", old_string: "    ping: 20,\n    pong: 20,", new_string: "    ping: 30,\n    pong: 20,\n    header: 10," },
      });
      if (turn.stopped || answer.decision !== "allow") return say("Then I leave the file as it is.");
      const diff = "--- a/src/limits.rs\n+++ b/src/limits.rs\n@@ -10,6 +10,7 @@ impl Default for Limits {\n     fn default() -> Self {\n         Self {\n-            ping: 20,\n+            ping: 30,\n             pong: 20,\n+            header: 10,\n         }\n     }\n";
      turn.emit({ event: "file_edit", edits: [{ call_id: "e1", tool: "Edit", path: "src/limits.rs", added: 2, deleted: 1, diff }] });
      turn.emit({ event: "tool_event", phase: "end", call_id: "e1", name: "Edit", result: "The file was changed." });
      return say("`src/limits.rs` now pings every 30 s.");
    }
    case "background": {
      const task = { task_id: `b${Math.random().toString(16).slice(2)}`, kind: "shell", title: "cargo build --release", parent_call_id: "b1" };
      turn.emit({ event: "tool_event", phase: "start", call_id: "b1", name: "Bash", title: "Build it", arguments: { command: task.title, run_in_background: true } });
      turn.emit({ event: "tool_event", phase: "end", call_id: "b1", name: "Bash", result: "Runs in the background." });
      turn.task({ ...task, status: "running" });
      await say("The build runs in the background.");
      turn.pause((Number(rest.at(-1)) || 0.8) * 1000).then(() => {
        if (!turn.task({ ...task, status: "completed" })) return undefined;
        return turn.byItself("background", async (own) => {
          own.emit({ event: "delta", stream_id: "s1", text: "The build is " });
          await own.pause(200);
          own.emit({ event: "delta", stream_id: "s1", text: "done." });
          own.emit({ event: "stream_end", stream_id: "s1" });
          if (rest[0] === "hang") return own.never();
          if (rest[0] !== "ask") return undefined;
          const answer = await own.ask({ event: "permission_request", tool: "Bash", input: { command: "cargo test" } });
          return own.emit({ event: "message", text: `You said: ${answer.decision}.` });
        });
      });
      return undefined;
    }
    case "subagent": {
      turn.emit({ event: "tool_event", phase: "start", call_id: "a1", name: "Agent", title: "Look for the fault", arguments: { prompt: "Look for the fault in src/parser.rs." } });
      const inside = (body) => turn.emit({ ...body, parent_call_id: "a1" });
      if (rest[0] === "later") return inBackground(turn, inside, say);
      inside({ event: "reasoning_delta", stream_id: "r1", text: "I begin with the parser." });
      inside({ event: "reasoning_end", stream_id: "r1" });
      inside({ event: "tool_event", phase: "start", call_id: "n1", name: "Read", title: "Read parser.rs", locations: [{ path: "src/parser.rs", line: 12 }] });
      inside({ event: "tool_event", phase: "update", call_id: "n1", name: "Read", output: "fn parse" });
      await turn.pause(100);
      inside({ event: "tool_event", phase: "update", call_id: "n1", name: "Read", output: "() {}" });
      inside({ event: "tool_event", phase: "end", call_id: "n1", name: "Read", media: [{ media_type: "image/png", bytes: 2048 }], sources: [{ url: "https://example.com/parser", title: "On parsers" }, { url: "javascript:alert(1)", title: "Not a page" }] });
      inside({ event: "delta", stream_id: "s1", text: "The fault is in line 12." });
      inside({ event: "stream_end", stream_id: "s1" });
      const call = { event: "tool_event", call_id: "n2", name: "Bash" };
      inside({ ...call, phase: "start", arguments: { command: "cargo test parser" } });
      const answer = rest[0] === "ask" ? await turn.ask({ event: "permission_request", tool: "Bash", call_id: "n2", input: { command: "cargo test parser" }, parent_call_id: "a1" }) : { decision: "allow" };
      if (answer.decision === "allow") inside({ ...call, phase: "end", result: "ok. 3 passed" });
      else inside({ ...call, phase: "error", error: "Denied." });
      turn.emit({ event: "tool_event", phase: "end", call_id: "a1", name: "Agent", result: "Line 12 drops a token." });
      return say("The subagent found it: line 12.");
    }
    default:
      return say(word === "echo" ? rest.join(" ") : `You said: ${text}`);
  }
}

/** A subagent that goes on in a turn of the agent's own. It reads a file, which ends there, and asks. */
async function inBackground(turn, inside, say) {
  const task = { task_id: "s1", kind: "agent", title: "Look for the fault", parent_call_id: "a1" };
  inside({ event: "tool_event", phase: "start", call_id: "n1", name: "Read", title: "Read parser.rs" });
  turn.task({ ...task, status: "running" });
  turn.emit({ event: "tool_event", phase: "end", call_id: "a1", name: "Agent", result: "Runs in the background." });
  await say("A subagent looks for it.");
  turn.pause(300).then(() => turn.byItself("other", async (own) => {
    const later = (body) => own.emit({ ...body, parent_call_id: "a1" });
    later({ event: "tool_event", phase: "end", call_id: "n1", name: "Read", result: "fn parse() {}" });
    later({ event: "tool_event", phase: "start", call_id: "n2", name: "Bash", arguments: { command: "cargo test parser" } });
    const answer = await own.ask({ event: "permission_request", tool: "Bash", call_id: "n2", input: { command: "cargo test parser" }, parent_call_id: "a1" });
    later({ event: "tool_event", phase: "end", call_id: "n2", name: "Bash", result: answer.decision ?? "not answered" });
    later({ event: "delta", stream_id: "s1", text: "The fault is in line 12." });
    later({ event: "stream_end", stream_id: "s1" });
    turn.task({ ...task, status: "completed" });
  }));
}
