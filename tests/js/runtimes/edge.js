import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { EdgeRuntime } from "edge-runtime";
import { build } from "esbuild";
import { expectWorks } from "../works.js";

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
    async run({ project }) {
      const { outputFiles } = await build({
        absWorkingDir: project,
        stdin: {
          contents: `
            import worker from "./worker.js";
            addEventListener("fetch", (event) => event.respondWith(worker.fetch(event.request)));
          `,
          resolveDir: project,
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
        extend: (context) => Object.assign(context, { lentModule }),
      });
      const response = await runtime.dispatchFetch("http://edge.test/");
      expectWorks(await response.text());
    },
  },
];
