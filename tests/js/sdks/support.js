// What the tests with other people's SDKs stand on: a simulated provider, servers that misbehave, clients with adapters.
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { FAST } from "../suite/support.js";

export { rejection } from "../suite/assert.js";
export { FAST, ask, delta, event, finish, sleep, until } from "../suite/support.js";

// The package under test: that of the project this runs in, or the folder that TIDEGATE_PACKAGE names.
const from = process.env.TIDEGATE_PACKAGE;
const entry = (name, file) => import(from === undefined ? name : new URL(`file://${join(from, "dist", file)}`).href);
export const tidegate = await entry("tidegate", "index.js");
export const { chatOpenAIOptions, openaiOptions } = await entry("tidegate/openai", "adapters/openai.js");
export const { providerSettings } = await entry("tidegate/ai-sdk", "adapters/ai-sdk.js");

const root = join(fileURLToPath(import.meta.url), "../../../..");

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
  const play = (scenario) => control("scenario", { service: FAST, ...scenario });
  await play(scenario);
  return { url, tally: () => control("tally"), play };
}

/** A client of `url`, closed after the test. */
export function clientOf(t, url, options = {}) {
  const client = new tidegate.Tidegate({ apiKey: "sk-simulated-0123456789", baseURL: url, ...options });
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

/** A cap that moves while `service` takes its time: what makes SDKs of their own lose calls. */
export const MOVING = {
  cap: { steps: { points: [[0, 14], [1.2, 5], [3, 10]], repeat: 5 } },
  service: { time: { uniform: [0.1, 0.4] }, output_tokens: 40, chunk_tokens: 4 },
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
