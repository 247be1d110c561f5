import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { EdgeRuntime } from "edge-runtime";
import { build } from "esbuild";
import { runServed } from "../harness/served.js";

/** As Next bundles for its edge: the module is compiled outside, in another realm, and lent as a global. */
const wasmModules = {
  name: "wasm-modules",
  setup(bundler) {
    bundler.onResolve({ filter: /\.wasm\?module$/ }, ({ path, resolveDir }) => ({
      path: join(resolveDir, path.replace("?module", "")),
      namespace: "wasm-module",
    }));
    bundler.onLoad({ filter: /.*/, namespace: "wasm-module" }, ({ path }) => {
      wasmModules.file = path;
      return { contents: "export default lentModule;", resolveDir: dirname(path) };
    });
  },
};

export default [
  {
    name: "edge-light",
    suite: { serves: true, lacks: ["gc", "wake-ups between calls"] },
    async run(tools) {
      const { outputFiles } = await build({
        absWorkingDir: tools.project,
        stdin: {
          contents: `
            import worker from "./worker.js";
            addEventListener("fetch", (event) => event.respondWith(worker.fetch(event.request)));
          `,
          resolveDir: tools.project,
        },
        bundle: true,
        format: "iife",
        conditions: ["edge-light", "worker", "browser"],
        plugins: [wasmModules],
        write: false,
        logLevel: "error",
      });
      const lentModule = new WebAssembly.Module(await readFile(wasmModules.file));
      const runtime = new EdgeRuntime({
        initialCode: outputFiles[0].text,
        codeGeneration: { strings: false, wasm: false },
        // The openai package asks for the version of its process on Vercel's edge, where Next lends it one.
        extend: (context) => Object.assign(context, { lentModule, process: { env: {}, version: process.version } }),
      });
      await runServed(tools, (path) => runtime.dispatchFetch(`http://edge.test${path}`));
    },
  },
];
