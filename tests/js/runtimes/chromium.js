import { createReadStream } from "node:fs";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { createServer, request as ask } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { chromium as browsers } from "playwright-core";
import * as vite from "vite";
import { expectWorks } from "../works.js";

const types = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };

/**
 * Serves a folder, with a Content-Security-Policy if one is given, and under `/v1` what the provider answers: in a browser
 * the key belongs to a proxy.
 */
async function serve(folder, policy, provider) {
  const server = createServer(async (request, response) => {
    if (request.url.startsWith("/v1/")) {
      const { method, headers } = request;
      const onward = ask(provider + request.url.slice(3), { method, headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      request.pipe(onward);
      return;
    }
    const file = join(folder, new URL(request.url, "http://x").pathname);
    const found = await stat(file).catch(() => undefined);
    if (!found?.isFile()) return response.writeHead(404).end();
    response.setHeader("content-type", types[extname(file)] ?? "application/octet-stream");
    if (policy) response.setHeader("content-security-policy", policy);
    createReadStream(file).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, stop: () => server.close() };
}

/** Opens a page and waits for what it writes into its title. */
async function open(tools, folder, policy) {
  const executablePath = (await tools.execute(join(tools.root, "tests/setup/chromium"), [])).trim();
  const profile = await mkdtemp(join(tmpdir(), "tidegate-chromium-"));
  const server = await serve(folder, policy, tools.provider);
  const browser = await browsers.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  try {
    const page = await browser.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    await page.goto(`${server.url}/index.html`);
    await page.waitForFunction(() => document.title !== "", undefined, { timeout: 30_000 }).catch((error) => {
      throw new Error(`the page never ended: ${errors.join("; ") || error.message}`);
    });
    return await page.title();
  } finally {
    await browser.close();
    server.stop();
    await rm(profile, { recursive: true, force: true });
  }
}

const script = (body, head = "") => `<!doctype html>${head}<script type="module"${body}</script>\n`;

const pageCode = `
  import * as tidegate from "tidegate";
  import { check } from "./check.js";
  check(tidegate, { url: location.origin + "/v1" }).then((said) => (document.title = said), (error) => (document.title = String(error)));
`;

/** No bundler: an import map says where the two bare names are. */
const importMap = `<script type="importmap">${JSON.stringify({
  imports: {
    tidegate: "/node_modules/tidegate/dist/index.js",
    "#core-wasm": "/node_modules/tidegate/dist/wasm/inline.js",
  },
})}</script>`;

async function plain(tools, policy) {
  await writeFile(join(tools.project, "page.js"), pageCode);
  await writeFile(join(tools.project, "index.html"), script(' src="/page.js">', importMap));
  return open(tools, tools.project, policy);
}

async function built(tools, policy) {
  await writeFile(join(tools.project, "page.js"), pageCode);
  await writeFile(join(tools.project, "index.html"), script(' src="/page.js">'));
  await vite.build({ root: tools.project, configFile: false, logLevel: "warn", build: { outDir: "out" } });
  return open(tools, join(tools.project, "out"), policy);
}

export default [
  {
    name: "chromium-module",
    async run(tools) {
      expectWorks(await plain(tools));
    },
  },
  {
    name: "chromium-vite",
    async run(tools) {
      expectWorks(await built(tools));
    },
  },
  {
    name: "chromium-csp",
    async run(tools) {
      const refused = await built(tools, "script-src 'self'");
      if (!refused.includes("CoreUnavailableError") || !refused.includes("'wasm-unsafe-eval'")) {
        throw new Error(`expected the error to name the directive that is missing, got: ${refused}`);
      }
      await rm(join(tools.project, "out"), { recursive: true });
      expectWorks(await built(tools, "script-src 'self' 'wasm-unsafe-eval'"));
    },
  },
];
