import { defineConfig } from "vite";
import { thirdPartyNotices } from "./scripts/notices.mjs";

export default defineConfig({
  // Relative addresses, so that the page works below any path.
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    // No inlined assets: fonts in data URLs would need `font-src data:` in the Content-Security-Policy.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
  plugins: [thirdPartyNotices()],
});
