// The faults that the README tells of the guides' recipe.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { limiter, recipe } from "./recipe.js";
import { ask, rejection, serve, sleep, until } from "./support.js";

const refusing = (t, headers) =>
  serve(t, (request, response) => response.writeHead(429, { "content-type": "application/json", ...headers }).end('{"error":{"message":"too many"}}'));
const sdk = (url, maxRetries) => new OpenAI({ apiKey: "sk-simulated-0123456789", baseURL: url, maxRetries });

test("its limiter of two lets four through", async () => {
  const limit = limiter(2);
  let running = 0;
  let most = 0;
  const hold = (until) => async () => {
    most = Math.max(most, ++running);
    await until;
    running--;
  };
  let open;
  const opened = new Promise((resolve) => (open = resolve));
  const first = [limit(hold(opened)), limit(hold(opened))];
  const waiting = [limit(hold(sleep(20))), limit(hold(sleep(20)))];
  // Whoever comes when the places are free, before those that waited have woken up.
  const late = [1, 2].map(() => opened.then(() => {}).then(() => limit(hold(sleep(20)))));
  open();
  await Promise.all([...first, ...waiting, ...late]);
  assert.equal(most, 4);
});

test("it never sees a Retry-After", async (t) => {
  const server = await refusing(t, { "retry-after": "7" });
  const error = await rejection(sdk(server.url, 0).chat.completions.create(ask()));
  assert.deepEqual([error.headers["retry-after"], error.headers.get("retry-after")], [undefined, "7"]);
  const waits = [];
  await rejection(recipe(sdk(server.url, 0), 3, async (ms) => waits.push(ms))(ask()));
  assert.ok(waits.length === 5 && waits[0] < 1300, `it waits ${waits}`);
});

test("it makes eighteen requests of one call", async (t) => {
  // The SDK's own waits are as short as the server asks; how many there are does not depend on that.
  const server = await refusing(t, { "retry-after-ms": "1" });
  await rejection(recipe(sdk(server.url), 3, async () => {})(ask()));
  assert.equal(server.requests(), 18);
});

test("it keeps its place while it sleeps", async (t) => {
  const server = await refusing(t);
  let wake;
  const call = recipe(sdk(server.url, 0), 1, () => new Promise((resolve) => (wake = resolve)));
  const calls = [rejection(call(ask())), rejection(call(ask()))];
  await until(() => wake !== undefined, "the first call to sleep");
  await sleep(50);
  assert.equal(server.requests(), 1, "the second waits, though nothing is in flight");
  for (const ended = Promise.all(calls); ; wake()) if ((await Promise.race([ended, sleep(5)])) !== undefined) break;
});
