// The licences of what is bundled, beside it.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const ROOT = new URL("../node_modules/", import.meta.url).pathname;

/** Finds the packages that reached the bundle, fonts included, and writes their licences to `licenses.txt`. */
export function thirdPartyNotices() {
  const packages = new Set();
  return {
    name: "third-party-notices",
    apply: "build",
    load(id) {
      const name = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(id)?.[1];
      if (name) packages.add(name);
      return null;
    },
    generateBundle() {
      for (const font of ["@fontsource-variable/instrument-sans", "@fontsource/ibm-plex-mono"]) packages.add(font);
      const source = [...packages].sort().map(notice).join(`\n${"-".repeat(72)}\n\n`);
      this.emitFile({ type: "asset", fileName: "licenses.txt", source });
    },
  };
}

function notice(name) {
  const folder = join(ROOT, name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  if (!file) throw new Error(`${name} has no licence file`);
  return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
}
