// What the tests with other people's SDKs stand on: a simulated provider on a real socket, a client of it, the adapters.
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = join(fileURLToPath(import.meta.url), "../../../..");

// The package under test: that of the project this runs in, or the folder that TIDEGATE_PACKAGE names.
const from = process.env.TIDEGATE_PACKAGE;
export const tidegate = await import(from === undefined ? "tidegate" : new URL(`file://${join(from, "dist/index.js")}`).href);
export const { Tidegate } = tidegate;

/** `tidegate sim` as a process of its own, playing `scenario`; ended after the test. */
export async function simulate(t, scenario = {}) {
  const program = process.env.TIDEGATE_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "debug/tidegate");
  const child = spawn(program, ["sim", "--scenario", "steady", "--listen", "127.0.0.1:0"], { stdio: ["ignore", "ignore", "pipe"] });
  t.after(() => child.kill());
  let said = "";
  const url = await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", () => reject(new Error(`the simulator ended:\n${said}`)));
    createInterface(child.stderr).on("line", (line) => {
      said += `${line}\n`;
      const found = /https?:\/\/127\.0\.0\.1:\d+/.exec(line);
      if (found) resolve(found[0]);
    });
  });
  const control = async (path, body) => {
    const response = await fetch(`${url}/__sim/${path}`, body && { method: "POST", body: JSON.stringify(body) });
    if (!response.ok) throw new Error(await response.text());
    return response.json().catch(() => undefined);
  };
  await control("scenario", { service: FAST, ...scenario });
  return { url, tally: () => control("tally"), play: (scenario) => control("scenario", { service: FAST, ...scenario }) };
}

/** Answers of a few tokens, at once. */
export const FAST = { first_token: 0.02, tokens_per_second: 2000, output_tokens: 40, chunk_tokens: 4 };

/** A client of `url`, closed after the test. */
export function clientOf(t, url, options = {}) {
  const client = new Tidegate({ apiKey: "sk-simulated-0123456789", baseURL: url, ...options });
  t.after(() => client.close({ grace: 0 }));
  return client;
}

/** A server of `handle(request, response, number)`, ended after the test. */
export async function serve(t, handle) {
  let number = 0;
  const server = createServer((request, response) => handle(request, response, ++number));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => (server.closeAllConnections(), server.close()));
  return { url: `http://127.0.0.1:${server.address().port}`, requests: () => number };
}

/** Server-sent events of `chunks`, each an object or text as it is. */
export const event = (chunk) => `data: ${typeof chunk === "string" ? chunk : JSON.stringify(chunk)}\n\n`;
export const delta = (delta, more = {}) => ({ id: "1", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta, finish_reason: null }], ...more });
export const finish = (reason = "stop", more = {}) => ({ id: "1", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta: {}, finish_reason: reason }], ...more });

export const ask = (content = "Say something.", more = {}) => ({ model: "deepseek-flash", messages: [{ role: "user", content }], ...more });
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `found` is true. */
export async function until(found, what, ms = 10_000) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(5)) if (await found()) return;
  throw new Error(`waited ${ms} ms for ${what}`);
}

/** What `promise` rejects with. */
export async function rejection(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`expected a rejection, got ${JSON.stringify(value)}`);
}
const adapter = (name) => import(from === undefined ? `tidegate/${name}` : new URL(`file://${join(from, `dist/adapters/${name}.js`)}`).href);

export const { chatOpenAIOptions, openaiOptions } = await adapter("openai");
export const { providerSettings } = await adapter("ai-sdk");

/** A cap that moves while `service` takes its time: what makes SDKs of their own lose calls. */
export const MOVING = {
  cap: { steps: { points: [[0, 32], [0.6, 8], [1.5, 24]], repeat: 2.5 } },
  service: { time: { uniform: [0.05, 0.25] }, output_tokens: 40, chunk_tokens: 4 },
};

export const weather = {
  name: "get_weather",
  description: "The weather in a city.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

/** How many of `promises` ended well, and with what the others failed. */
export async function settle(promises) {
  const results = await Promise.allSettled(promises);
  return {
    values: results.filter(({ status }) => status === "fulfilled").map(({ value }) => value),
    errors: results.filter(({ status }) => status === "rejected").map(({ reason }) => reason),
  };
}
