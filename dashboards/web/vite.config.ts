import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// Imports only what package.json's "dependencies" hold: the build hook installs no devDependencies.
export default defineConfig({
  plugins: [svelte()],
  html: { cspNonce: "__CSP_NONCE__" },
  build: {
    outDir: "../static",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // data: URIs would need img-src data:
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    host: "127.0.0.1",
    proxy: { "/api": "http://127.0.0.1:8600", "/jaeger": "http://127.0.0.1:8600" },
  },
});
