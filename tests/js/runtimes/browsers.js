import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as vite from "vite";
import { open } from "../harness/browsers.js";

const page = (script, head = "") => `<!doctype html>${head}<link rel="icon" href="data:,"><script type="module" src="/${script}"></script>\n`;

/** No bundler: an import map says where the bare names are. */
const importMap = `<script type="importmap">${JSON.stringify({
  imports: {
    tidegate: "/node_modules/tidegate/dist/index.js",
    "#core-wasm": "/node_modules/tidegate/dist/wasm/inline.js",
    openai: "/node_modules/openai/index.mjs",
    "tidegate/openai": "/node_modules/tidegate/dist/adapters/openai.js",
  },
})}</script>`;

async function plain({ project }) {
  await writeFile(join(project, "index.html"), page("main.js", importMap));
  return project;
}

async function built({ project }, script = "main.js") {
  await writeFile(join(project, "index.html"), page(script));
  const outDir = join(project, "out");
  await rm(outDir, { recursive: true, force: true });
  await vite.build({ root: project, configFile: false, logLevel: "error", build: { outDir, chunkSizeWarningLimit: 5000 } });
  return outDir;
}

/** Where a browser is, installed first if need be. */
const locate = async ({ execute, root }, name) => (await execute(join(root, "tests/setup/browser"), [name], { timeout: 300_000 })).trim();

function browser(name, kind, make, more = []) {
  const lacks = ["async contexts", ...more];
  return {
    name,
    suite: { browser: true, lacks },
    async run(tools) {
      const executablePath = await locate(tools, kind === "chrome" ? "chromium" : "firefox-esr");
      const folder = await make(tools);
      return open({ browser: kind, executablePath, folder, isOver: tools.isOver });
    },
  };
}

export default [
  browser("chromium-module", "chrome", plain),
  browser("chromium-vite", "chrome", built),
  // Firefox lets no page ask for a collection.
  browser("firefox-module", "firefox", plain, ["gc"]),
  browser("firefox-vite", "firefox", built, ["gc"]),
  ...[["chromium", "chrome", "chromium"], ["firefox", "firefox", "firefox-esr"]].map(([family, kind, executable]) => ({
    name: `${family}-csp`,
    async run(tools) {
      const executablePath = await locate(tools, executable);
      const started = async (policy) => {
        const folder = await built(tools, "csp.js");
        await open({ browser: kind, executablePath, folder, policy, isOver: tools.untilOver() });
        return tools.results.get("start").error;
      };
      const self = `connect-src ${tools.control}; script-src 'self'`;
      const refused = await started(self);
      if (!/^CoreUnavailableError: .*'wasm-unsafe-eval'/.test(refused)) {
        throw new Error(`expected the error to name the directive that is missing, got: ${refused}`);
      }
      const allowed = await started(`${self} 'wasm-unsafe-eval'`);
      if (allowed !== undefined) throw new Error(`expected the core to start, got: ${allowed}`);
    },
  })),
];
