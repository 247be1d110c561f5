import { deepEqual, equal, rejection } from "./assert.js";
import { AsyncLocalStorage } from "./globals.js";
import { STREAMING, answer, ask, delta, event, finish, sleep, textOf } from "./support.js";

const needs = "async contexts";

/** What stands for an application's requests, each of which has a context of its own for tracing and logging. */
function contexts() {
  const storage = new AsyncLocalStorage();
  const seen = [];
  return {
    seen,
    see: (what) => void seen.push(`${what} in ${storage.getStore()}`),
    within: (name, run) => storage.run(name, run),
  };
}

export const asyncContexts = {
  "a task runs in the context it was submitted in, whoever makes room for it": {
    needs,
    async test(t) {
      const { see, seen, within } = contexts();
      const client = t.client("http://127.0.0.1:9", { maxConcurrency: 1 });
      const task = (name, run = () => {}, options) =>
        within(name, async () => {
          const work = async (signal) => {
            see(name);
            await sleep(1);
            return run(signal);
          };
          await client.schedule(work, options).catch(() => {});
          see(`after ${name}`);
        });
      const controller = new AbortController();
      const overload = { status: 503, headers: new Headers({ "retry-after": "1" }) };
      await Promise.all([
        task("a"),
        task("b", () => Promise.reject(new Error("not our affair"))),
        task("c", () => within("another", () => controller.abort())),
        // Leaves the queue, and never runs.
        task("d", undefined, { signal: controller.signal }),
        // What follows has to wait until a timer rings that was set by it.
        task("e", () => Promise.reject(overload)),
        task("f"),
        task("g"),
      ]);
      const ran = ["a", "b", "c", "e", "f", "g"].map((name) => `${name} in ${name}`);
      const ended = [...ran, "d in d"].map((at) => `after ${at}`);
      deepEqual(seen.sort(), [...ran, ...ended].sort());
    },
  },

  "a call's requests are made in the context of that call, however often": {
    needs,
    async test(t) {
      const { see, seen, within } = contexts();
      const events = event(delta({ content: "x" })) + event(finish());
      let sent = 0;
      const fetch = async (_url, { headers, body }) => {
        see(headers.get("x-name"));
        await sleep(1);
        // A timer ends the pause.
        if (sent++ === 0) return new Response("{}", { status: 503, headers: { "retry-after": "1" } });
        return new Response(JSON.parse(body ?? "{}").stream ? events : answer("x"));
      };
      const client = t.client("http://127.0.0.1:9", { fetch, maxConcurrency: 1 });
      const named = (name, run) =>
        within(name, async () => {
          await run({ headers: { "x-name": name } });
          see(`after ${name}`);
        });
      await Promise.all([
        named("a", (options) => client.chat.completions.create(ask(), options)),
        named("b", (options) => client.chat.completions.create(ask(), options)),
        named("c", async (options) => textOf(await client.chat.completions.create(STREAMING, options))),
        named("d", async (init) => (await client.fetch("http://127.0.0.1:9/x", init)).text()),
      ]);
      const each = ["a", "b", "c", "d"].map((name) => `${name} in ${name}`);
      const ended = each.map((at) => `after ${at}`);
      deepEqual(seen.sort(), ["a in a", ...each, ...ended].sort());
    },
  },

  "a custom fetch hears in its call's context that the call is over": {
    needs,
    async test(t) {
      const { see, seen, within } = contexts();
      const begun = new TextEncoder().encode(event(delta({ content: "x" })));
      const fetch = async (_url, { headers, signal }) => {
        const name = headers.get("x-name");
        signal.addEventListener("abort", () => see(name));
        return new Response(new ReadableStream({ start: (out) => out.enqueue(begun) }));
      };
      const client = t.client("http://127.0.0.1:9", { fetch });
      // One timer for both, set by one of them.
      const late = (name) =>
        within(name, async () => {
          const stream = await client.chat.completions.create(STREAMING, { headers: { "x-name": name }, timeout: 500 });
          equal((await rejection(textOf(stream))).type, "deadline");
        });
      await Promise.all([late("a"), late("b")]);
      deepEqual(seen.sort(), ["a in a", "b in b"]);
    },
  },
};
