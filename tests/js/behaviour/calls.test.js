import assert from "node:assert/strict";
import { test } from "node:test";

import { FAST, Tidegate, ask, clientOf, rejection, serve, simulate, sleep, tidegate } from "./support.js";

test("a plain call is answered", async (t) => {
  const sim = await simulate(t);
  const client = clientOf(t, sim.url);
  const answer = await client.chat.completions.create(ask());
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.ok(answer.choices[0].message.content.length > 0);
  assert.ok(answer.usage.total_tokens > 0);
  assert.ok(answer._request_id, "the server's id is kept");
  assert.ok(!Object.keys(answer).includes("_request_id"));
  const { total, inFlight } = client.metrics();
  assert.deepEqual([total.completed, total.attempts, inFlight], [1, 1, 0]);
  assert.equal(total.promptTokens, answer.usage.prompt_tokens);
  assert.match(client.prometheus(), /^tidegate_calls_completed_total\{route=".*"\} 1$/m);
});

test("500 calls at once on a cap that moves all end well", async (t) => {
  const cap = { steps: { points: [[0, 64], [1, 16], [2, 48]], repeat: 3 } };
  const sim = await simulate(t, { cap, service: { ...FAST, time: { uniform: [0.05, 0.3] } } });
  const client = clientOf(t, sim.url);
  const limits = [];
  client.on("limit", ({ model, limit }) => limits.push([model, limit]));
  const answers = await Promise.all(Array.from({ length: 500 }, (_, i) => client.chat.completions.create(ask(`Number ${i}.`))));
  assert.equal(answers.length, 500);
  const { completed } = await sim.tally();
  assert.equal(completed, 500, "nothing is lost and nothing asked for twice");
  const { total, lanes, inFlight, queued } = client.metrics();
  assert.deepEqual([total.completed, total.failed, inFlight, queued], [500, 0, 0, 0]);
  assert.ok(total.slotRejections < 250, `${total.slotRejections} of ${total.attempts} attempts were rejected`);
  assert.ok(limits.length > 0 && limits.every(([model]) => model === "deepseek-flash"));
  assert.equal(lanes[0].breaker, "closed");
});

test("an overload is waited out", async (t) => {
  const sim = await simulate(t, { windows: [{ status: 503, from: 0, to: 0.7, latency: 0 }] });
  const client = clientOf(t, sim.url);
  const seen = [];
  for (const name of ["pressure", "recovered", "retry"]) client.on(name, (event) => seen.push([name, event]));
  const answers = await Promise.all([1, 2, 3].map(() => client.chat.completions.create(ask())));
  assert.equal(answers.length, 3);
  const names = new Set(seen.map(([name]) => name));
  assert.deepEqual([...names].sort(), ["pressure", "recovered", "retry"]);
  assert.equal(seen.find(([name]) => name === "retry")[1].cause, "pressure");
});

test("an account without money ends every call, and is open again after resume()", async (t) => {
  const sim = await simulate(t, { windows: [{ status: 402, latency: 0 }] });
  const client = clientOf(t, sim.url);
  const stopped = [];
  client.on("stopped", (event) => stopped.push(event));
  const first = await rejection(client.chat.completions.create(ask()));
  assert.ok(first instanceof tidegate.InsufficientBalanceError);
  assert.ok(first instanceof tidegate.TidegateError);
  assert.deepEqual([first.type, first.status, first.isRetryable, first.attemptsMade], ["insufficient_balance", 402, false, 1]);
  assert.match(first.message, /^the account is out of money \(route `127\.0\.0\.1:\d+`, attempt 1, status 402.*\): .*; top up the account, then call resume\(\)$/);
  assert.ok(first.body.includes("Insufficient"), first.body);
  assert.ok(first.headers instanceof Headers);
  const second = await rejection(client.chat.completions.create(ask()));
  assert.deepEqual([second.type, second.attemptsMade], ["insufficient_balance", 0], "nothing more is sent");
  assert.deepEqual(stopped, [{ route: first.route, cause: "billing" }]);
  await sim.play({});
  client.resume();
  assert.ok(await client.chat.completions.create(ask()));
});

test("a Retry-After is never undercut", async (t) => {
  const times = [];
  const server = await serve(t, (request, response, number) => {
    times.push(performance.now());
    if (number === 1) return response.writeHead(500, { "retry-after": "1" }).end("{}");
    response.end(JSON.stringify({ choices: [{ index: 0, message: { role: "assistant", content: "yes" }, finish_reason: "stop" }] }));
  });
  const client = clientOf(t, server.url);
  const answer = await client.chat.completions.create(ask());
  assert.equal(answer.choices[0].message.content, "yes");
  assert.ok(times[1] - times[0] >= 990, `asked again after ${times[1] - times[0]} ms`);
});

test("a refusal ends the call at once, with the server's own words and without the key", async (t) => {
  const server = await serve(t, (request, response) => {
    response.writeHead(400, { "x-ds-trace-id": "abc" });
    response.end(JSON.stringify({ error: { message: `no such thing for ${request.headers.authorization}`, type: "bad", code: "x" } }));
  });
  const client = clientOf(t, server.url, { apiKey: "odd-key-42" });
  const error = await rejection(client.chat.completions.create(ask()));
  assert.ok(error instanceof tidegate.RefusedError);
  assert.deepEqual([error.status, error.code, error.errorType, error.requestId], [400, "x", "bad", "abc"]);
  assert.deepEqual(error.attempts.map(({ outcome, status, requestId }) => [outcome, status, requestId]), [["refused", 400, "abc"]]);
  const whole = [error.message, error.body, JSON.stringify(error), String(error.stack)].join();
  assert.ok(!whole.includes("odd-key-42"), whole);
  assert.equal(server.requests(), 1);
});

test("a blank 200, garbage and an error inside a 200 are failures, and retried", async (t) => {
  const good = JSON.stringify({ choices: [{ index: 0, message: { role: "assistant", content: "at last" }, finish_reason: "stop" }], odd: 1 });
  const bodies = ["", "\n  \n", "<html>", JSON.stringify({ error: { message: "overloaded", code: 503 } }), `\n\n${good}\n`];
  const server = await serve(t, (request, response, number) => response.end(bodies[number - 1]));
  const client = clientOf(t, server.url, { maxAttempts: 9 });
  const answer = await client.chat.completions.create(ask());
  assert.deepEqual([answer.choices[0].message.content, answer.odd, server.requests()], ["at last", 1, 5]);
});

test("a route that fails is left for the next, under its own name for the model", async (t) => {
  const broken = await serve(t, (request, response) => response.writeHead(401).end("{}"));
  const asked = [];
  const sound = await serve(t, async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    asked.push([request.url, request.headers.authorization, JSON.parse(body).model]);
    response.end(JSON.stringify({ choices: [{ index: 0, message: { role: "assistant", content: "here" }, finish_reason: "stop" }] }));
  });
  const client = clientOf(t, broken.url, {
    routes: [{ name: "other", baseURL: `${sound.url}/v1/`, apiKey: "sk-other-0123456789", models: { "deepseek-flash": { upstream: "ds/flash" } } }],
  });
  const failovers = [];
  client.on("failover", (event) => failovers.push(event.to));
  assert.equal((await client.chat.completions.create(ask())).choices[0].message.content, "here");
  assert.deepEqual(asked, [["/v1/chat/completions", "Bearer sk-other-0123456789", "ds/flash"]]);
  assert.deepEqual(failovers, ["other"]);
});

test("people go before batches", async (t) => {
  const sim = await simulate(t, { cap: 1, service: { ...FAST, time: 0.03 } });
  const client = clientOf(t, sim.url, { maxConcurrency: 1, workloads: { eval: { class: "background" } } });
  const order = [];
  const call = (workload) => client.chat.completions.create(ask(), { workload }).then(() => order.push(workload));
  const calls = [..."12345"].map(() => call("eval"));
  calls.push(call("normal"), call("interactive"));
  await Promise.all(calls);
  assert.deepEqual(order.slice(0, 3), ["eval", "interactive", "normal"]);
});

test("fill-in-the-middle, models and balance", async (t) => {
  const sim = await simulate(t);
  const client = clientOf(t, sim.url, { betaURL: `${sim.url}/beta` });
  const fim = await client.completions.create({ model: "deepseek-flash", prompt: "def f(", suffix: "return 1" });
  assert.ok(fim.choices[0].text.length > 0);
  const parts = [];
  for await (const chunk of await client.completions.create({ model: "deepseek-flash", prompt: "def f(", stream: true })) {
    parts.push(chunk.choices[0]?.text ?? "");
  }
  assert.ok(parts.join("").length > 0);
  assert.ok((await client.models.list()).data.some(({ id }) => id === "deepseek-flash"));
  assert.equal(typeof (await client.balance()).is_available, "boolean");
});

test("a deadline ends a call that waits", async (t) => {
  const sim = await simulate(t, { cap: 1, service: { ...FAST, time: 2 } });
  const client = clientOf(t, sim.url, { maxConcurrency: 1 });
  const first = client.chat.completions.create(ask());
  first.catch(() => {});
  const error = await rejection(client.chat.completions.create(ask(), { timeout: 100 }));
  assert.deepEqual([error.type, error.attemptsMade, error.isRetryable], ["deadline", 0, true]);
});

test("a full queue refuses, or is waited for", async (t) => {
  const sim = await simulate(t, { service: { ...FAST, time: 0.1 } });
  const client = clientOf(t, sim.url, { maxConcurrency: 1, maxQueued: 1 });
  const calls = [client.chat.completions.create(ask()), client.chat.completions.create(ask())];
  const error = await rejection(client.chat.completions.create(ask()));
  assert.ok(error instanceof tidegate.QueueFullError);
  calls.push(client.chat.completions.create(ask(), { onFull: "wait" }));
  assert.equal((await Promise.all(calls)).length, 3);
});

test("close() rejects who waits and lets who is in flight end", async (t) => {
  const sim = await simulate(t, { service: { ...FAST, time: 0.2 } });
  const client = clientOf(t, sim.url, { maxConcurrency: 1 });
  const first = client.chat.completions.create(ask());
  const second = rejection(client.chat.completions.create(ask()));
  await sleep(50);
  await client.close();
  assert.ok(await first);
  assert.ok((await second) instanceof tidegate.ClosedError);
  assert.equal((await rejection(client.chat.completions.create(ask()))).type, "closed");
});

test("what was learned outlives the client", async (t) => {
  const sim = await simulate(t, { cap: 8, service: { ...FAST, time: 0.02 } });
  const client = clientOf(t, sim.url);
  await Promise.all(Array.from({ length: 100 }, () => client.chat.completions.create(ask())));
  const learned = JSON.parse(JSON.stringify(client.snapshot()));
  assert.equal(learned[0].model, "deepseek-flash");
  const next = clientOf(t, sim.url);
  next.restore(learned);
  await next.chat.completions.create(ask());
  const limits = [client, next].map((client) => client.metrics().lanes[0].limit);
  assert.ok(limits[1] > 4 || limits[0] <= 4, `${limits} are learned limits`);
  assert.throws(() => next.restore("nonsense"), tidegate.InvalidRequestError);
});

test("bad input is refused in one shape of sentence", async () => {
  const refused = (options, message) => assert.throws(() => new Tidegate(options), (error) => {
    assert.ok(error instanceof tidegate.ConfigError);
    assert.match(error.message, message);
    return true;
  });
  refused({ apiKey: "" }, /^Expected `apiKey` to be a non-empty string, got "" \(route `deepseek`\)$/);
  refused({ apiKey: "sk-secret\n" }, /^Expected `apiKey` to be without line breaks; was it read/);
  refused({ apiKey: "sk-1", maxConcurency: 3 }, /^Expected the client's options to have no option `maxConcurency`, did you mean `maxConcurrency`\?$/);
  refused({ apiKey: "sk-1", maxConcurrency: 0 }, /^Expected `maxConcurrency` to be a whole number between 1 and 1,000,000, got 0$/);
  refused({ apiKey: "sk-1", fetch: 3 }, /^Expected `fetch` to be a function, got 3$/);
  refused({ baseURL: "api.example" }, /^Expected `baseURL` to be an absolute URL such as https:\/\/api\.deepseek\.com \(route `default`\)$/);
  refused({ apiKey: "sk-1", workloads: { chat: { class: "urgent" } } }, /^Expected `class` of workload `chat` to be "interactive" or "normal" or "background", got "urgent"$/);
  refused({ routes: [{ name: "a", baseURL: "http://a" }, { name: "a", baseURL: "http://b" }] }, /^Expected route names to be unique, got `a` twice$/);
  refused(null, /^Expected the client's options to be an object, got null$/);
  const client = new Tidegate({ baseURL: "http://127.0.0.1:9" });
  const refusedCall = async (params, options, message) => {
    const error = await rejection(client.chat.completions.create(params, options));
    assert.ok(error instanceof tidegate.InvalidRequestError, String(error));
    assert.match(error.message, message);
  };
  await refusedCall({ messages: [] }, {}, /^Expected `model` to be a non-empty string, got undefined$/);
  await refusedCall({ model: "m", messages: [] }, {}, /^Expected `messages` to be an array of at least one message, got an empty array$/);
  await refusedCall(ask("", { n: 1n }), {}, /^Expected the request to be serialisable as JSON: TypeError/);
  await refusedCall(ask(), { signal: 3 }, /^Expected `signal` to be an AbortSignal, got 3$/);
  await refusedCall(ask(), { worklod: "x" }, /did you mean `workload`\?$/);
  assert.throws(() => client.on("limits", () => {}), /^InvalidRequestError: Expected the event to be one of limit/);
});

test("a key in a browser needs to be allowed", () => {
  globalThis.window = { document: {} };
  const had = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true, writable: true });
  try {
    assert.throws(() => new Tidegate({ apiKey: "sk-1" }), /^ConfigError: Expected no `apiKey` in a browser/);
    new Tidegate({ apiKey: "sk-1", dangerouslyAllowBrowser: true });
    new Tidegate({ baseURL: "/".replace("/", "https://proxy.example/api") });
  } finally {
    delete globalThis.window;
    if (had) Object.defineProperty(globalThis, "navigator", had);
    else delete globalThis.navigator;
  }
});
