// The behaviour suite: what must hold in every runtime. Each case is a function of its context (see `support.js`), or
// that and what it needs of the runtime beyond the standard.
import { aborts } from "./aborts.js";
import { adapters } from "./adapters.js";
import { equal } from "./assert.js";
import { calls } from "./calls.js";
import { asyncContexts } from "./contexts.js";
import { gate } from "./gate.js";
import { touched, unhandled } from "./globals.js";
import { requests } from "./requests.js";
import { streams } from "./streams.js";
import { contextOf, sleep, tell } from "./support.js";

const all = { ...calls, ...streams, ...aborts, ...gate, ...requests, ...adapters, ...asyncContexts };
export const cases = Object.keys(all);

/** What must hold once all of them have run. */
const afterwards = {
  "no rejection was left unhandled": () => equal([...unhandled.values()].join("\n"), ""),
  "nothing global was touched": ({ changes }) => equal(touched().filter((name) => !changes.includes(name)).join(), ""),
};
export const lastCases = Object.keys(afterwards);

/** However slow the machine: a case that takes longer hangs. */
const PATIENCE = 60_000;

/** Runs one case; how it went. */
export async function run(environment, name) {
  const found = all[name] ?? afterwards[name];
  if (found === undefined) return { name, error: "there is no such case" };
  const { needs, test } = typeof found === "function" ? { test: found } : found;
  if (environment.lacks.includes(needs)) return { name, lacks: needs };
  const context = contextOf(environment);
  const started = Date.now();
  let timer;
  try {
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`it did not end in ${PATIENCE} ms`)), PATIENCE);
    });
    await Promise.race([test(context), late]);
    await Promise.race([context.end(), late]);
    return { name, ms: Date.now() - started };
  } catch (error) {
    await context.end().catch(() => {});
    // Firefox's stacks don't say what it is.
    const stack = String(error?.stack ?? "");
    return { name, ms: Date.now() - started, error: stack.includes(error?.message) ? stack : `${error}\n${stack}` };
  } finally {
    clearTimeout(timer);
  }
}

/** An answer whose body nobody reads, and which is not collected either. */
export let unread;

/** Runs all of them, some at once, and tells the process that has the servers how each went. */
export async function runAll(environment) {
  const report = async (name) => tell(`${environment.control}/results/${environment.runtime}`, await run(environment, name));
  const queue = [...environment.cases];
  const worker = async () => {
    while (queue.length > 0) await report(queue.shift());
  };
  await Promise.all(Array.from({ length: environment.atOnce }, worker));
  // What nobody handles is told a moment later.
  await sleep(50);
  for (const name of lastCases) await report(name);
  // A client that nobody closes, with listeners, calls that are over and an answer that nobody reads, must not keep a
  // program from ending.
  const { url } = await contextOf(environment).simulate();
  const client = new environment.tidegate.Tidegate({ apiKey: "sk-1", baseURL: url, dangerouslyAllowBrowser: true });
  client.on("limit", () => {});
  const ask = { model: "deepseek-flash", messages: [{ role: "user", content: "hi" }] };
  await Promise.all([1, 2, 3].map(() => client.chat.completions.create(ask)));
  unread = await client.fetch(`${url}/models`);
  await client.schedule(async () => {});
  await tell(`${environment.control}/results/${environment.runtime}`, { over: true });
}
