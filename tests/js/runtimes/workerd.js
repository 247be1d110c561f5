import { join } from "node:path";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { runServed } from "../harness/served.js";

/** As wrangler bundles: its conditions, and `.wasm` files beside the code. */
async function bundle(project) {
  await build({
    absWorkingDir: project,
    entryPoints: ["worker.js"],
    bundle: true,
    format: "esm",
    outdir: "worker",
    conditions: ["workerd", "worker", "browser"],
    loader: { ".wasm": "copy" },
    logLevel: "error",
  });
}

function workerd(compatibilityDate) {
  return {
    name: `workerd-${compatibilityDate}`,
    suite: { serves: true, lacks: ["gc", "wake-ups between calls"] },
    async run(tools) {
      const folder = join(tools.project, "worker");
      await bundle(tools.project);
      let said = "";
      const miniflare = new Miniflare({
        modules: true,
        rootPath: folder,
        modulesRoot: folder,
        scriptPath: "worker.js",
        modulesRules: [{ type: "CompiledWasm", include: ["**/*.wasm"] }],
        compatibilityDate,
        cf: false,
        handleRuntimeStdio(...streams) {
          for (const stream of streams) stream.on("data", (data) => (said += data));
        },
      });
      try {
        await runServed(tools, (path) => miniflare.dispatchFetch(`http://worker.test${path}`));
      } finally {
        await miniflare.dispose();
      }
      const bad = said.split("\n").filter((line) => /hung|cross-request|different request|uncaught|rejection/i.test(line));
      if (bad.length > 0) throw new Error(`workerd says:\n${bad.join("\n")}`);
    },
  };
}

export default [workerd("2024-01-01"), workerd("2026-04-01")];
