import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";

import { FAST, ask, clientOf, delta, event, rejection, serve, simulate, sleep, tidegate, until } from "./support.js";

const reason = new Error("enough");

test("a signal already aborted is refused, with its reason as the cause", async (t) => {
  const server = await serve(t, (request, response) => response.end());
  const error = await rejection(clientOf(t, server.url).chat.completions.create(ask(), { signal: AbortSignal.abort(reason) }));
  assert.ok(error instanceof tidegate.AbortedError);
  assert.deepEqual([error.type, error.name, error.cause, server.requests()], ["aborted", "AbortError", reason, 0]);
});

test("a call that waits leaves the queue", async (t) => {
  const sim = await simulate(t, { service: { ...FAST, time: 0.3 } });
  const client = clientOf(t, sim.url, { maxConcurrency: 1 });
  const first = client.chat.completions.create(ask());
  const controller = new AbortController();
  const second = client.chat.completions.create(ask(), { signal: controller.signal });
  const third = client.chat.completions.create(ask());
  await sleep(20);
  assert.equal(client.metrics().queued, 2);
  controller.abort(reason);
  assert.equal(client.metrics().queued, 1, "at once");
  assert.equal(await rejection(second), reason);
  await Promise.all([first, third]);
  assert.equal((await sim.tally()).requests, 2);
});

test("a call that backs off is given up", async (t) => {
  const server = await serve(t, (request, response) => response.writeHead(500, { "retry-after": "60" }).end("{}"));
  const client = clientOf(t, server.url);
  const controller = new AbortController();
  const call = client.chat.completions.create(ask(), { signal: controller.signal });
  await until(() => client.metrics().backingOff === 1, "the call to back off");
  controller.abort(reason);
  assert.equal(await rejection(call), reason);
  assert.equal(client.metrics().backingOff, 0);
});

for (const [stage, head] of [["before the head", false], ["within the body", true]]) {
  test(`a request in flight is closed, ${stage}`, async (t) => {
    let closed = false;
    const server = await serve(t, (request, response) => {
      response.on("close", () => (closed = true));
      if (head) response.write('{"choices":');
    });
    const client = clientOf(t, server.url, { maxConcurrency: 1 });
    const controller = new AbortController();
    const call = client.chat.completions.create(ask(), { signal: controller.signal });
    await until(() => server.requests() === 1, "the request");
    await sleep(50);
    controller.abort(reason);
    assert.equal(client.metrics().inFlight, 0, "the permit is back at once");
    assert.equal(await rejection(call), reason);
    await until(() => closed, "the connection to be closed");
  });
}

test("a stream is closed in the middle", async (t) => {
  let closed = false;
  const server = await serve(t, (request, response) => {
    response.on("close", () => (closed = true));
    response.write(event(delta({ content: "a" })));
  });
  const client = clientOf(t, server.url);
  const controller = new AbortController();
  const stream = await client.chat.completions.create(ask("", { stream: true }), { signal: controller.signal });
  await stream.next();
  const next = rejection(stream.next());
  controller.abort(reason);
  assert.equal(await next, reason);
  await until(() => closed, "the connection to be closed");
  assert.equal(client.metrics().inFlight, 0);
});

test("a stream that nobody reads is closed all the same, by its signal, its deadline and close()", async (t) => {
  let open = 0;
  const server = await serve(t, (request, response) => {
    open++;
    response.on("close", () => open--);
    response.write(event(delta({ content: "a" })));
  });
  const client = clientOf(t, server.url);
  const controller = new AbortController();
  const make = (options) => client.chat.completions.create(ask("", { stream: true }), options);
  const streams = [await make({ signal: controller.signal }), await make({ timeout: 300 }), await make()];
  assert.equal(open, 3);
  controller.abort(reason);
  await until(() => open === 2, "the signal to close the first");
  await until(() => open === 1, "the deadline to close the second");
  await client.close({ grace: 0 });
  await until(() => open === 0, "the client to close the third");
  for (const stream of streams) assert.equal((await stream.next()).value.choices[0].delta.content, "a", "what came can be read");
  assert.equal(await rejection(streams[0].next()), reason);
  assert.equal((await rejection(streams[1].next())).type, "deadline");
  assert.equal((await rejection(streams[2].next())).type, "closed");
});

test("the default reason is an AbortError, and AbortSignal.timeout's a TimeoutError", async (t) => {
  const server = await serve(t, () => {});
  const client = clientOf(t, server.url);
  const controller = new AbortController();
  const call = client.chat.completions.create(ask(), { signal: controller.signal });
  setTimeout(() => controller.abort(), 30);
  assert.equal((await rejection(call)).name, "AbortError");
  const timed = client.chat.completions.create(ask(), { signal: AbortSignal.timeout(30) });
  assert.equal((await rejection(timed)).name, "TimeoutError");
});

test("one signal for many calls has one listener a call, and none afterwards", async (t) => {
  const sim = await simulate(t);
  const client = clientOf(t, sim.url);
  const { signal } = new AbortController();
  const ours = () => getEventListeners(signal, "abort").length;
  const calls = Array.from({ length: 5 }, () => client.chat.completions.create(ask(), { signal }));
  assert.equal(ours(), 5);
  calls.push(client.chat.completions.create(ask("", { stream: true }), { signal }).then(async (stream) => {
    for await (const chunk of stream) assert.ok(chunk);
  }));
  calls.push(client.schedule(async () => {}, { signal }));
  await Promise.all(calls);
  assert.equal(ours(), 0);
});
