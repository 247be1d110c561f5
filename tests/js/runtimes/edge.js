import { dirname, join } from "node:path";
import { build } from "esbuild";
import { runServed } from "../harness/served.js";

/** The suite in Vercel's edge-runtime, bundled as Next does: the core is imported as a compiled module. */
const edgeLight = {
  name: "edge-light",
  suite: { serves: true, lacks: ["gc", "wake-ups between calls", "async contexts"] },
  async run(tools) {
    const { project, root, start } = tools;
    const outfile = join(project, "edge.js");
    let wasm;
    const wasmModules = {
      name: "wasm-modules",
      setup(bundler) {
        bundler.onResolve({ filter: /\.wasm\?module$/ }, ({ path, resolveDir }) => ({
          path: join(resolveDir, path.replace("?module", "")),
          namespace: "wasm-module",
        }));
        bundler.onLoad({ filter: /.*/, namespace: "wasm-module" }, ({ path }) => {
          wasm = path;
          return { contents: "export default lentModule;", resolveDir: dirname(path) };
        });
      },
    };
    await build({
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
      outfile,
      logLevel: "error",
    });
    const args = ["--unhandled-rejections=strict", join(root, "tests/js/harness/edge-host.js"), outfile, wasm];
    const host = await start(process.execPath, args, /listens on (http:\/\/[\w.:]+)/);
    try {
      await runServed(tools, (path) => fetch(host.found[1] + path));
    } finally {
      await host.stop();
    }
    const faults = host.said().replace(/^listens on .*\n/, "");
    if (faults !== "") throw new Error(`edge-runtime says:\n${faults}`);
  },
};

export default [edgeLight];
