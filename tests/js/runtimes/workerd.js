import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { runServed } from "../harness/served.js";

/** The suite looks for async contexts where Vercel's edge has them. */
const LEND = 'import * as hooks from "node:async_hooks";\nglobalThis.AsyncLocalStorage = hooks.AsyncLocalStorage;';

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
    banner: { js: LEND },
    logLevel: "error",
  });
}

/** Calls of different requests can't wake one another, and nothing forces a collection. */
const LACKS = ["gc", "wake-ups between calls"];

function workerd(compatibilityDate) {
  return {
    name: `workerd-${compatibilityDate}`,
    suite: { serves: true, lacks: LACKS },
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
        compatibilityFlags: ["nodejs_als"],
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
      expectPeace(said);
    },
  };
}

/** What workerd says of a request that waits for another, or touches what is another's. */
function expectPeace(said) {
  const bad = said.split("\n").filter((line) => /hung|cross-request|different request|uncaught|rejection/i.test(line));
  if (bad.length > 0) throw new Error(`workerd says:\n${bad.join("\n")}`);
}

const wranglerDev = {
  name: "wrangler-dev",
  // It has them only in what is written for Node's library.
  suite: { serves: true, lacks: [...LACKS, "async contexts"] },
  async run(tools) {
    const settings = { name: "tidegate-test", main: "worker.js", compatibility_date: "2026-04-01" };
    await writeFile(join(tools.project, "wrangler.json"), JSON.stringify(settings));
    const args = ["dev", "--local", "--ip", "127.0.0.1", "--port", "0", "--inspector-port", "0", "--show-interactive-dev-session=false"];
    // Nothing is asked of Cloudflare.
    const env = { CLOUDFLARE_CF_FETCH_ENABLED: "false", WRANGLER_SEND_METRICS: "false", CI: "true", HOME: tools.project };
    const dev = await tools.start(join(tools.bin, "wrangler"), args, /Ready on (http:\/\/[\w.:]+)/, { env });
    try {
      await runServed(tools, (path) => fetch(dev.found[1] + path));
    } finally {
      await dev.stop();
    }
    expectPeace(dev.said());
  },
};

export default [workerd("2024-01-01"), workerd("2026-04-01"), wranglerDev];
