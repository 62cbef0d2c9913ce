// A gateway of one's own, to be killed and started again.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const START_LIMIT_MS = 20_000;

/** The program to start: the named one, or what cargo built, where a gateway rather than the mock is tested. */
export function binary() {
  const built = fileURLToPath(new URL("../../target/debug/switchboard", import.meta.url));
  return process.env.SWITCHBOARD_BINARY ?? (process.env.SWITCHBOARD_URL && existsSync(built) ? built : undefined);
}

/** The flags of `serve`, and before them, if another one than the demo is to answer, `{ agent }` with its command. */
export async function ownGateway(...given) {
  const flags = given.filter((each) => typeof each === "string");
  const { agent } = given.find((each) => typeof each === "object") ?? {};
  const dir = await mkdtemp(join(tmpdir(), "switchboard-e2e-"));
  const workspace = join(dir, "workspace");
  await mkdir(workspace);
  const open = flags.includes("--no-auth");
  const program = binary();
  let address = "127.0.0.1:0";
  let child;
  const gateway = {
    get base() { return `http://${address}/`; },
    token: null,
    /** Where it keeps what it stores. */
    data: join(dir, "data"),
    async start() {
      const ports = join(dir, "addresses");
      await rm(ports, { force: true });
      child = spawn(program, ["serve", "--listen", address, "--dialect", "claude", "--agent-command", agent ?? `${program} demo-agent`,
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
  try {
    await gateway.start();
  } catch (error) {
    await gateway.end();
    throw error;
  }
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
