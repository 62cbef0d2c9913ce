import { defineConfig } from "vite";
import { thirdPartyNotices } from "./scripts/notices.mjs";

export default defineConfig({
  // Relative, so that the page works under any subpath.
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    // Data URLs would need `font-src data:`.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
  plugins: [thirdPartyNotices()],
});
