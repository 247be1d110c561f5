import { join } from "node:path";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { expectWorks } from "../works.js";

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
    async run({ project }) {
      await bundle(project);
      const miniflare = new Miniflare({
        modules: true,
        rootPath: join(project, "worker"),
        modulesRoot: join(project, "worker"),
        scriptPath: "worker.js",
        modulesRules: [{ type: "CompiledWasm", include: ["**/*.wasm"] }],
        compatibilityDate,
        cf: false,
      });
      try {
        const responses = await Promise.all(
          Array.from({ length: 4 }, () => miniflare.dispatchFetch("http://worker.test/")),
        );
        for (const response of responses) expectWorks(await response.text());
      } finally {
        await miniflare.dispose();
      }
    },
  };
}

export default [workerd("2024-01-01"), workerd("2026-04-01")];
