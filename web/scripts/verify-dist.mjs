// Fails if the committed `dist` differs from what the sources build to, or is too large.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";

const MAX_BYTES = 400 * 1024;
const web = new URL("..", import.meta.url).pathname;
const built = mkdtempSync(join(tmpdir(), "switchboard-dist-"));

function files(folder) {
  return readdirSync(folder, { recursive: true }).map((name) => join(folder, name)).filter((path) => statSync(path).isFile())
    .map((path) => relative(folder, path)).sort();
}

try {
  execFileSync("npx", ["vite", "build", "--outDir", built, "--emptyOutDir", "--logLevel", "error"], { cwd: web, stdio: "inherit" });
  const committed = join(web, "dist");
  const names = files(built);
  const stale = JSON.stringify(names) !== JSON.stringify(files(committed))
    || names.some((name) => !readFileSync(join(built, name)).equals(readFileSync(join(committed, name))));
  const size = names.reduce((sum, name) => sum + statSync(join(built, name)).size, 0);
  if (stale) throw new Error("web/dist is stale: run `npm run build` in web/ and commit the result");
  if (size > MAX_BYTES) throw new Error(`web/dist has ${size} bytes; the limit is ${MAX_BYTES}`);
  process.stdout.write(`web/dist is what the sources build to (${names.length} files, ${Math.round(size / 1024)} KiB)\n`);
} finally {
  rmSync(built, { recursive: true });
}
