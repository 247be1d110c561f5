// Headless browsers, driven over WebDriver BiDi and the DevTools protocol.
import { createReadStream } from "node:fs";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import puppeteer from "puppeteer-core";
import { listen } from "./scripted.js";

const types = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };

/** Serves a folder, with a Content-Security-Policy if one is given. */
async function serve(folder, policy) {
  const server = createServer(async (request, response) => {
    const file = join(folder, new URL(request.url, "http://x").pathname);
    const found = await stat(file).catch(() => undefined);
    if (!found?.isFile()) return response.writeHead(404).end();
    response.setHeader("content-type", types[extname(file)] ?? "application/octet-stream");
    if (policy) response.setHeader("content-security-policy", policy);
    createReadStream(file).pipe(response);
  });
  const url = await listen(server);
  return { url, stop: () => (server.closeAllConnections(), server.close()) };
}

const arguments_ = {
  chrome: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--js-flags=--expose-gc",
  ],
  firefox: [],
};

/**
 * Opens `index.html` of a folder in a `chrome` or `firefox`, until `isOver` resolves. What the page throws or writes as
 * errors is told with what goes wrong.
 */
export async function open({ browser: kind, executablePath, folder, policy, isOver, patience = 120_000 }) {
  const home = await mkdtemp(join(tmpdir(), `tidegate-${kind}-`));
  const server = await serve(folder, policy);
  const errors = [];
  let browser;
  let timer;
  try {
    browser = await puppeteer.launch({
      browser: kind,
      executablePath,
      headless: true,
      args: arguments_[kind],
      userDataDir: join(home, "profile"),
      // Firefox keeps more beside its profile.
      env: { ...process.env, HOME: home },
    });
    const page = await browser.newPage();
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    await page.goto(`${server.url}/index.html`);
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`the page did not end in ${patience} ms`)), patience);
    });
    await Promise.race([isOver, late]);
    return await browser.version();
  } catch (error) {
    throw new Error([error.message, ...errors].join("\n"));
  } finally {
    clearTimeout(timer);
    await browser?.close();
    server.stop();
    // A browser that ends may still be writing.
    await rm(home, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
}
