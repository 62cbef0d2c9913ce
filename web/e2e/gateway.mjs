// Starts a gateway for one test, which can kill and restart it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const START_LIMIT_MS = 20_000;

/** The gateway's program: the one that SWITCHBOARD_BINARY names, or cargo's debug build. Undefined when the mock is tested. */
export function gatewayBinary() {
  const built = fileURLToPath(new URL("../../target/debug/switchboard", import.meta.url));
  return process.env.SWITCHBOARD_BINARY ?? (process.env.SWITCHBOARD_URL && existsSync(built) ? built : undefined);
}

/**
 * Starts a gateway with the demo agent. `options` are flags of `serve`, and optionally `{ agent }` with the command of another agent
 * or `{ preset }` with the name of one, and `{ env }` with variables of the environment.
 */
export async function startGateway(...options) {
  const flags = options.filter((each) => typeof each === "string");
  const { agent, preset, env } = options.find((each) => typeof each === "object") ?? {};
  const dir = await mkdtemp(join(tmpdir(), "switchboard-e2e-"));
  const [workspace, home, temp] = ["workspace", "home", "tmp"].map((name) => join(dir, name));
  for (const each of [workspace, home, temp]) await mkdir(each);
  const open = flags.includes("--no-auth");
  const program = gatewayBinary();
  const agentFlags = preset ? ["--agent", preset] : ["--dialect", "claude", "--agent-command", agent ?? `${program} demo-agent`];
  let address = "127.0.0.1:0";
  let child;
  const gateway = {
    get base() { return `http://${address}/`; },
    token: null,
    /** The data directory. */
    data: join(dir, "data"),
    /** The directory in which the agent works. */
    workspace,
    async start() {
      const ports = join(dir, "addresses");
      await rm(ports, { force: true });
      child = spawn(program, ["serve", "--listen", address, ...agentFlags, "--port-file", ports, ...(open ? [] : ["--token-file", join(dir, "token")]),
        "--data-dir", join(dir, "data"), "--workspace", workspace, ...flags], { stdio: "ignore", env: { ...process.env, HOME: home, TMPDIR: temp, ...env } });
      const exited = once(child, "exit").then(([code, signal]) => { throw new Error(`the gateway ended with ${code ?? signal}`); });
      exited.catch(() => {});
      address = await Promise.race([exited, listening(ports)]);
      gateway.token = open ? null : (await readFile(join(dir, "token"), "utf8")).trim();
    },
    /** Ends the gateway at once, as a crash would, or with another signal. Its data stays. */
    async kill(signal = "SIGKILL") {
      const exited = once(child, "exit");
      child.kill(signal);
      await exited;
    },
    async end() {
      // On SIGINT the gateway also ends its agents.
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
    await pause(20); // the file has to be polled
  }
  throw new Error("the gateway wrote no address");
}
