// Collects the licences of the bundled packages into the file `licenses.txt` of the bundle.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const ROOT = new URL("../node_modules/", import.meta.url).pathname;

/** A Vite plugin that notes each package whose files are bundled, and adds the fonts, which only CSS refers to. */
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
