// A gateway of one's own, to be killed and started again. SWITCHBOARD_BINARY names the program.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const START_LIMIT_MS = 20_000;

export async function ownGateway(...flags) {
  const dir = await mkdtemp(join(tmpdir(), "switchboard-e2e-"));
  const workspace = join(dir, "workspace");
  await mkdir(workspace);
  const open = flags.includes("--no-auth");
  const binary = process.env.SWITCHBOARD_BINARY;
  let address = "127.0.0.1:0";
  let child;
  const gateway = {
    get base() { return `http://${address}/`; },
    token: null,
    async start() {
      const ports = join(dir, "addresses");
      await rm(ports, { force: true });
      child = spawn(binary, ["serve", "--listen", address, "--dialect", "claude", "--agent-command", `${binary} demo-agent`,
        "--port-file", ports, ...(open ? [] : ["--token-file", join(dir, "token")]), "--data-dir", join(dir, "data"), "--workspace", workspace, ...flags], { stdio: "ignore" });
      const ended = once(child, "exit").then(([code, signal]) => { throw new Error(`the gateway ended with ${code ?? signal}`); });
      ended.catch(() => {});
      address = await Promise.race([ended, listening(ports)]);
      gateway.token = open ? null : (await readFile(join(dir, "token"), "utf8")).trim();
    },
    /** As a crash would. */
    async kill(signal = "SIGKILL") {
      const gone = once(child, "exit");
      child.kill(signal);
      await gone;
    },
    async end() {
      // Ctrl-C ends the agents too.
      if (child.exitCode === null && child.signalCode === null) await gateway.kill("SIGINT");
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  await gateway.start();
  return gateway;
}

async function listening(ports) {
  const deadline = Date.now() + START_LIMIT_MS;
  while (Date.now() < deadline) {
    const line = (await readFile(ports, "utf8").catch(() => "")).split("\n", 1)[0];
    if (/^[\d.]+:\d+$/.test(line)) return line;
    await pause(20); // a file says nothing when it is written
  }
  throw new Error("the gateway wrote no address");
}
