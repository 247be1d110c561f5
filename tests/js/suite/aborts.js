import { deepEqual, equal, ok, rejection } from "./assert.js";
import { FAST, STREAMING, ask, delta, event, sleep, textOf, until } from "./support.js";

const reason = new Error("enough");
/** A request that is never answered. */
const SILENT = { head: false, end: "open" };
/** A stream that has begun and stays. */
const BEGUN = { body: event(delta({ content: "a" })), end: "open" };

export const aborts = {
  async "a signal already aborted is refused, with its reason as the cause"(t) {
    const server = await t.serve({});
    const aborted = AbortSignal.abort(reason);
    const client = t.client(server.url);
    const options = { signal: aborted };
    const calls = [
      () => client.chat.completions.create(ask(), options),
      () => client.schedule(() => {}, options),
      () => client.balance(options),
      () => client.models.list(options),
    ];
    for (const call of calls) {
      const error = await rejection(call());
      ok(error instanceof t.tidegate.AbortedError, String(error));
      deepEqual([error.type, error.name, error.cause, await server.count()], ["aborted", "AbortError", reason, 0]);
    }
  },

  async "a call that waits leaves the queue"(t) {
    const sim = await t.simulate({ service: { ...FAST, time: 0.3 } });
    const client = t.client(sim.url, { maxConcurrency: 1 });
    const first = client.chat.completions.create(ask());
    const controller = new AbortController();
    const second = client.chat.completions.create(ask(), { signal: controller.signal });
    const third = client.chat.completions.create(ask());
    await sleep(20);
    equal(client.metrics().queued, 2);
    controller.abort(reason);
    equal(client.metrics().queued, 1, "at once");
    equal(await rejection(second), reason);
    await Promise.all([first, third]);
    equal((await sim.tally()).requests, 2);
  },

  async "a call that backs off is given up"(t) {
    const server = await t.serve({ status: 500, headers: { "retry-after": "60" }, body: "{}" });
    const client = t.client(server.url);
    const controller = new AbortController();
    const call = client.chat.completions.create(ask(), { signal: controller.signal });
    await until(() => client.metrics().backingOff === 1, "the call to back off");
    controller.abort(reason);
    equal(await rejection(call), reason);
    equal(client.metrics().backingOff, 0);
  },

  "a request in flight is closed, before the head": (t) => closesInFlight(t, SILENT),
  "a request in flight is closed, within the body": (t) => closesInFlight(t, { body: '{"choices":', end: "open" }),

  async "a stream is closed in the middle"(t) {
    const server = await t.serve(BEGUN);
    const client = t.client(server.url);
    const controller = new AbortController();
    const stream = await client.chat.completions.create(STREAMING, { signal: controller.signal });
    await stream.next();
    const next = rejection(stream.next());
    controller.abort(reason);
    equal(await next, reason);
    await server.closed();
    equal(client.metrics().inFlight, 0);
  },

  async "a stream that nobody reads is closed all the same, by its signal"(t) {
    const server = await t.serve(BEGUN);
    const client = t.client(server.url);
    const controller = new AbortController();
    const stream = await client.chat.completions.create(STREAMING, { signal: controller.signal });
    equal(await server.open(), 1);
    controller.abort(reason);
    await server.closed();
    equal((await stream.next()).value.choices[0].delta.content, "a", "what came can be read");
    equal(await rejection(stream.next()), reason);
  },

  "a stream that nobody reads is closed all the same, by its deadline and by close()": {
    needs: "wake-ups between calls",
    async test(t) {
      const server = await t.serve(BEGUN);
      const client = t.client(server.url);
      const make = (options) => client.chat.completions.create(STREAMING, options);
      const streams = [await make(), await make({ timeout: 3000 })];
      await server.closed(2);
      equal(await server.open(), 1);
      await client.close({ grace: 0 });
      await server.closed(1);
      for (const stream of streams) equal((await stream.next()).value.choices[0].delta.content, "a", "what came can be read");
      const { type, attemptsMade } = await rejection(streams[0].next());
      deepEqual([type, attemptsMade], ["closed", 1], "it was sent");
      equal((await rejection(streams[1].next())).type, "deadline");
    },
  },

  async "the default reason is an AbortError, and AbortSignal.timeout's a TimeoutError"(t) {
    const server = await t.serve(SILENT);
    const client = t.client(server.url);
    const controller = new AbortController();
    const call = client.chat.completions.create(ask(), { signal: controller.signal });
    setTimeout(() => controller.abort(), 30);
    equal((await rejection(call)).name, "AbortError");
    const timed = client.chat.completions.create(ask(), { signal: AbortSignal.timeout(30) });
    equal((await rejection(timed)).name, "TimeoutError");
  },

  // Of more than ten Node would say that they look like a leak.
  async "one signal for many calls has one listener, and none afterwards"(t) {
    const sim = await t.simulate();
    const client = t.client(sim.url);
    const { signal } = new AbortController();
    const listeners = new Set();
    for (const [name, change] of [["addEventListener", "add"], ["removeEventListener", "delete"]]) {
      const own = signal[name].bind(signal);
      signal[name] = (type, listener, ...rest) => (listeners[change](listener), own(type, listener, ...rest));
    }
    const calls = [1, 2, 3, 4, 5].map(() => client.chat.completions.create(ask(), { signal }));
    equal(listeners.size, 1);
    calls.push(client.chat.completions.create(STREAMING, { signal }).then(textOf));
    calls.push(client.schedule(async () => {}, { signal }));
    await Promise.all(calls);
    equal(listeners.size, 0);
    const answered = await client.fetch(`${sim.url}/models`, { signal });
    ok(listeners.size <= 1, `${listeners.size} listeners`);
    await answered.text();
    equal(listeners.size, 0);
  },

  async "a custom fetch that knows no signal can't hold a call"(t) {
    let fetches = 0;
    const fetch = async () => (fetches++, new Promise(() => {}));
    const client = t.client("http://127.0.0.1:9", { fetch });
    const controller = new AbortController();
    const call = client.chat.completions.create(ask(), { signal: controller.signal });
    await until(() => fetches === 1, "the fetch");
    controller.abort("now");
    equal(await rejection(call), "now");
    const open = { status: 200, headers: new Headers(), text: () => new Promise(() => {}) };
    for (const answer of [new Promise(() => {}), open]) {
      const client = t.client("http://127.0.0.1:9", { fetch: () => answer });
      const controller = new AbortController();
      const asked = [client.balance({ signal: controller.signal }), client.models.list({ signal: controller.signal })].map(rejection);
      setTimeout(() => controller.abort("now"), 20);
      deepEqual(await Promise.all(asked), ["now", "now"]);
    }
  },
};

async function closesInFlight(t, answer) {
  const server = await t.serve(answer);
  const client = t.client(server.url, { maxConcurrency: 1 });
  const controller = new AbortController();
  const call = client.chat.completions.create(ask(), { signal: controller.signal });
  await server.arrived();
  await sleep(50);
  controller.abort(reason);
  equal(client.metrics().inFlight, 0, "the permit is back at once");
  equal(await rejection(call), reason);
  await server.closed();
}
