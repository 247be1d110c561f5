import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { FAST, ask, clientOf, delta, event, finish, rejection, serve, simulate, sleep, tidegate, until } from "./support.js";

test("client.fetch is a fetch that holds its permit until the body has ended", async (t) => {
  const server = await serve(t, async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    response.writeHead(200, { "x-path": request.url, "x-key": request.headers.authorization });
    response.write("echo ");
    setTimeout(() => response.end(body), 50);
  });
  const client = clientOf(t, `${server.url}/v1`, { maxConcurrency: 1 });
  const input = new Request(`${server.url}/v1/things?x=1`, { method: "POST", body: JSON.stringify({ model: "m" }), headers: { authorization: "Bearer theirs" } });
  const response = await client.fetch(input);
  assert.equal(response.url, input.url);
  assert.deepEqual([response.headers.get("x-path"), response.headers.get("x-key")], ["/v1/things?x=1", "Bearer sk-simulated-0123456789"]);
  assert.equal(client.metrics().inFlight, 1);
  assert.equal(await response.text(), 'echo {"model":"m"}');
  assert.equal(client.metrics().inFlight, 0);
  assert.equal(client.metrics().models[0].name, "m");
  const body = new ReadableStream({ start: (out) => (out.enqueue(new TextEncoder().encode("streamed")), out.close()) });
  const up = await client.fetch(new URL(`${server.url}/v1/up`), { method: "PUT", body });
  assert.equal(await up.text(), "echo streamed");
  const cancelled = await client.fetch(`${server.url}/v1/x`);
  await cancelled.body.cancel();
  assert.equal(client.metrics().inFlight, 0);
  const outside = await rejection(client.fetch("http://127.0.0.1:9/v1/x"));
  assert.match(outside.message, /^Expected a URL under the base URL of a route, got one at `127\.0\.0\.1:9`$/);
});

test("the openai package runs through the gate", async (t) => {
  const { default: OpenAI, BadRequestError } = await import("openai");
  const sim = await simulate(t, { cap: 4, service: { ...FAST, time: 0.02 } });
  const client = clientOf(t, sim.url);
  const openai = new OpenAI({ apiKey: "unused", baseURL: sim.url, fetch: client.fetch, maxRetries: 0 });
  const answers = await Promise.all(Array.from({ length: 40 }, () => openai.chat.completions.create(ask())));
  assert.ok(answers.every((answer) => answer.choices[0].finish_reason === "stop"));
  let text = "";
  for await (const chunk of await openai.chat.completions.create(ask("", { stream: true }))) text += chunk.choices[0]?.delta.content ?? "";
  assert.ok(text);
  assert.deepEqual([client.metrics().total.completed, client.metrics().inFlight], [41, 0]);
  const stream = await openai.chat.completions.create(ask("", { stream: true }));
  for await (const chunk of stream) if (chunk) break;
  await until(() => client.metrics().inFlight === 0, "the permit to be freed");

  const bad = await serve(t, (request, response, number) => response.writeHead(number === 1 ? 400 : 500).end('{"error":{"message":"no"}}'));
  const retrying = new OpenAI({ apiKey: "unused", baseURL: bad.url, fetch: clientOf(t, bad.url, { maxAttempts: 1 }).fetch, maxRetries: 2 });
  assert.ok((await rejection(retrying.chat.completions.create(ask()))) instanceof BadRequestError);
  assert.equal((await rejection(retrying.chat.completions.create(ask()))).status, 500);
  assert.equal(bad.requests(), 2, "its own retries are not stacked on ours");
  const controller = new AbortController();
  const hanging = await serve(t, () => {});
  const hung = new OpenAI({ apiKey: "unused", baseURL: hanging.url, fetch: clientOf(t, hanging.url).fetch, maxRetries: 0 });
  const call = hung.chat.completions.create(ask(), { signal: controller.signal });
  setTimeout(() => controller.abort(), 50);
  assert.equal((await rejection(call)).constructor.name, "APIUserAbortError");
});

test("schedule runs tasks as permits allow, once each", async (t) => {
  const client = clientOf(t, "http://127.0.0.1:9", { maxConcurrency: 3 });
  let running = 0;
  let most = 0;
  const task = (value) => async () => {
    most = Math.max(most, ++running);
    await sleep(5);
    running--;
    return value;
  };
  const results = await Promise.all(Array.from({ length: 20 }, (_, i) => client.schedule(task(i))));
  assert.deepEqual(results, Array.from({ length: 20 }, (_, i) => i));
  assert.equal(most, 3);
  let runs = 0;
  const fault = Object.assign(new Error("429 slow down"), { status: 429 });
  const error = await rejection(client.schedule(() => (runs++, Promise.reject(fault)), { model: "m" }));
  assert.deepEqual([error, runs], [fault, 1]);
  assert.equal(client.metrics().total.slotRejections, 1);
  assert.equal(await rejection(client.schedule(() => { throw fault; }, { model: "m" })), fault, "a task may throw at once");
  assert.deepEqual([client.metrics().inFlight, client.metrics().queued], [0, 0]);
  assert.match((await rejection(client.schedule(3))).message, /^Expected the task to be a function, got 3$/);
  const controller = new AbortController();
  const waiting = [1, 2, 3, 4].map(() => client.schedule(() => sleep(50), { signal: controller.signal }));
  const last = rejection(waiting[3]);
  await sleep(10);
  controller.abort("stop");
  assert.equal(await last, "stop");
  assert.equal(client.metrics().inFlight, 3, "tasks that run keep their permits");
  await Promise.all(waiting.slice(0, 3));
  assert.equal(client.metrics().inFlight, 0);
});

test("where requests may not wake one another, every call looks for itself", async (t) => {
  const sim = await simulate(t, { cap: 1, service: { ...FAST, time: 0.02 } });
  globalThis.EdgeRuntime = "test";
  let client;
  try {
    client = clientOf(t, sim.url, { maxConcurrency: 1, clocks: { firstContent: 5000 } });
  } finally {
    delete globalThis.EdgeRuntime;
  }
  const answers = await Promise.all(Array.from({ length: 8 }, () => client.chat.completions.create(ask())));
  assert.equal(answers.length, 8);
  let text = "";
  for await (const chunk of await client.chat.completions.create(ask("", { stream: true }))) text += chunk.choices[0]?.delta.content ?? "";
  assert.ok(text);
  const controller = new AbortController();
  const calls = [client.chat.completions.create(ask()), rejection(client.chat.completions.create(ask(), { signal: controller.signal }))];
  controller.abort("gone");
  assert.equal((await Promise.all(calls))[1], "gone");
  assert.equal((await rejection(client.chat.completions.create(ask("", { max_tokens: 9 }), { timeout: 1 }))).type, "deadline");
});

test("a program ends by itself once its calls have", async (t) => {
  const sim = await simulate(t);
  const support = fileURLToPath(new URL("support.js", import.meta.url));
  const program = `
    import { Tidegate } from ${JSON.stringify(support)};
    const client = new Tidegate({ apiKey: "sk-1", baseURL: ${JSON.stringify(sim.url)}, maxConcurrency: 2 });
    client.on("limit", () => {});
    const call = () => client.chat.completions.create({ model: "deepseek-flash", messages: [{ role: "user", content: "hi" }] });
    await Promise.all([call(), call(), call(), call()]);
    await client.schedule(async () => {});
    client.chat.completions.create({}).catch(() => {});
    console.log("done");`;
  const child = spawn(process.execPath, ["--unhandled-rejections=strict", "--input-type=module", "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill());
  let out = "";
  child.stdout.on("data", (data) => (out += data));
  const code = await new Promise((resolve) => child.on("close", resolve));
  assert.deepEqual([out, code], ["done\n", 0]);
});

test("a custom fetch that knows no signal can't hold a call", async (t) => {
  let fetches = 0;
  const fetch = async () => (fetches++, new Promise(() => {}));
  const client = clientOf(t, "http://127.0.0.1:9", { fetch });
  const controller = new AbortController();
  const call = client.chat.completions.create(ask(), { signal: controller.signal });
  await until(() => fetches === 1, "the fetch");
  controller.abort("now");
  assert.equal(await rejection(call), "now");
});

test("connections that fail are tried again, and then say why", async (t) => {
  const client = clientOf(t, "http://127.0.0.1:9", { maxAttempts: 2 });
  const error = await rejection(client.chat.completions.create(ask()));
  assert.ok(error instanceof tidegate.ConnectionError);
  assert.equal(error.attemptsMade, 2);
  const flaky = await serve(t, (request, response, number) => (number === 1 ? request.destroy() : response.end(event(delta({ content: "x" })) + event(finish()))));
  for await (const chunk of await clientOf(t, flaky.url).chat.completions.create(ask("", { stream: true }))) assert.ok(chunk);
});
