import { mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { runServed } from "../harness/served.js";

/** The suite looks for async contexts where Vercel's edge has them. */
const LEND = 'import * as hooks from "node:async_hooks";\nglobalThis.AsyncLocalStorage = hooks.AsyncLocalStorage;';

/** As wrangler bundles: its conditions, and `.wasm` files beside the code. */
async function bundle(project, entry, outdir) {
  await build({
    absWorkingDir: project,
    entryPoints: [entry],
    bundle: true,
    format: "esm",
    outdir,
    conditions: ["workerd", "worker", "browser"],
    loader: { ".wasm": "copy" },
    banner: { js: LEND },
    logLevel: "error",
  });
}

/** Calls of different requests can't wake one another, and nothing forces a collection. */
const LACKS = ["gc", "wake-ups between calls"];

/** Has a Worker run by `use`, and workerd at peace with it. */
async function within(project, entry, compatibilityDate, use) {
  const folder = await mkdtemp(join(project, "worker-"));
  await bundle(project, entry, folder);
  let said = "";
  const miniflare = new Miniflare({
    modules: true,
    rootPath: folder,
    modulesRoot: folder,
    scriptPath: entry,
    modulesRules: [{ type: "CompiledWasm", include: ["**/*.wasm"] }],
    compatibilityDate,
    compatibilityFlags: ["nodejs_als"],
    cf: false,
    handleRuntimeStdio(...streams) {
      for (const stream of streams) stream.on("data", (data) => (said += data));
    },
  });
  try {
    await use(miniflare);
  } finally {
    await miniflare.dispose();
  }
  expectPeace(said);
}

function workerd(compatibilityDate) {
  return {
    name: `workerd-${compatibilityDate}`,
    suite: { serves: true, lacks: LACKS },
    run: (tools) =>
      within(tools.project, "worker.js", compatibilityDate, (miniflare) =>
        runServed(tools, (path) => miniflare.dispatchFetch(`http://worker.test${path}`)),
      ),
  };
}

/** Whose visitor leaves, and whose handler does not wait for it, leaves nobody to give a permit back: it comes back all the same. */
const visitors = {
  name: "workerd-visitors",
  async run({ project, simulators }) {
    const service = { first_token: 0.02, tokens_per_second: 10, output_tokens: 2000, chunk_tokens: 1 };
    const provider = await simulators.lend({ service });
    const ways = ["fetched", "events", "sdk", "read-once", "not-awaited"];
    try {
      // Each in a Worker of its own, so that none waits for another's.
      await Promise.all(
        ways.map((way) =>
          within(project, "visitors.js", "2024-01-01", async (miniflare) => {
            const visit = async (path, signal) => fetch(new URL(`${path}?provider=${encodeURIComponent(provider)}`, await miniflare.ready), { signal });
            const leaver = new AbortController();
            const limit = setTimeout(() => leaver.abort(), 20_000);
            await (await visit(`/${way}`, leaver.signal)).body.getReader().read();
            clearTimeout(limit);
            leaver.abort();
            const next = await visit("/ask", AbortSignal.timeout(20_000)).catch(() => undefined);
            if (next?.status !== 200) throw new Error(`after a visitor by /${way} had left, the next was not answered in 20 s`);
          }),
        ),
      );
    } finally {
      simulators.takeBack(provider);
    }
    return `after ${ways.length} that left`;
  },
};

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

export default [workerd("2024-01-01"), workerd("2026-04-01"), visitors, wranglerDev];
