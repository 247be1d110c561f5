import assert from "node:assert/strict";
import { test } from "node:test";
import { createDeepSeek } from "@ai-sdk/deepseek";
import { APICallError, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

import { FAST, MOVING, clientOf, delta, event, providerSettings, rejection, serve, settle, simulate, tidegate, until, weather } from "./support.js";

// The AI SDK writes what it would rather have asked for to the console.
globalThis.AI_SDK_LOG_WARNINGS = false;

const gated = (t, url, options, how) => {
  const client = clientOf(t, url, options);
  return { client, model: createDeepSeek(providerSettings(client, how))("deepseek-flash") };
};

test("the AI SDK answers, streams, reasons and calls tools through the gate", async (t) => {
  const sim = await simulate(t);
  const { client, model } = gated(t, sim.url);
  const answer = await generateText({ model, prompt: "Say something." });
  assert.ok(answer.text);
  assert.equal(answer.finishReason, "stop");
  assert.ok(answer.usage.outputTokens > 0);

  const result = streamText({ model, prompt: "Why?", providerOptions: { deepseek: { thinking: { type: "enabled" } } } });
  let text = "";
  let reasoning = "";
  for await (const part of result.fullStream) {
    if (part.type === "text-delta") text += part.text;
    if (part.type === "reasoning-delta") reasoning += part.text;
    assert.notEqual(part.type, "error");
  }
  assert.ok(text && reasoning);
  assert.equal(await result.finishReason, "stop");

  const asked = [];
  const tools = {
    get_weather: tool({
      description: weather.description,
      inputSchema: jsonSchema(weather.parameters),
      execute: async ({ city }) => (asked.push(city), "rain"),
    }),
  };
  const agent = await generateText({ model, tools, stopWhen: stepCountIs(3), prompt: "Please use get_weather for Oslo.", providerOptions: { deepseek: { thinking: { type: "disabled" } } } });
  assert.deepEqual([agent.steps.length, asked.length, agent.finishReason], [2, 1, "stop"]);
  const { total, inFlight } = client.metrics();
  assert.deepEqual([total.completed, inFlight], [4, 0]);
});

test("a hundred calls at once end well while the cap moves; the bare SDK loses some", async (t) => {
  const sim = await simulate(t, MOVING);
  const { client, model } = gated(t, sim.url);
  const all = (model) => Array.from({ length: 100 }, (_, i) =>
    i % 2
      ? generateText({ model, prompt: `Number ${i}.` })
      : (async () => {
          const result = streamText({ model, prompt: `Number ${i}.`, onError: () => {} });
          await result.consumeStream();
          return { finishReason: await result.finishReason };
        })(),
  );
  const ours = await settle(all(model));
  assert.deepEqual(ours.errors, []);
  assert.ok(ours.values.every(({ finishReason }) => finishReason === "stop"));
  assert.equal((await sim.tally()).completed, 100);
  const { slotRejections, attempts } = client.metrics().total;

  await sim.play(MOVING);
  const bare = await settle(all(createDeepSeek({ apiKey: "sk-simulated-0123456789", baseURL: sim.url })("deepseek-flash")));
  assert.ok(bare.errors.length > 10, `the bare SDK lost ${bare.errors.length}`);
  const { slot } = (await sim.tally()).rejected;
  assert.ok(slotRejections < slot / 2, `${slotRejections} of ${attempts} attempts were rejected, of the bare SDK's ${slot}`);
  t.diagnostic(`bare: ${bare.errors.length} of 100 lost; gated: none, ${slotRejections} of ${attempts} attempts answered 429`);
});

test("abort works while a call waits and within its stream", async (t) => {
  const sim = await simulate(t, { service: { ...FAST, time: 3, output_tokens: 400 } });
  const { client, model } = gated(t, sim.url, { maxConcurrency: 1 });
  const abort = new AbortController();
  const flying = generateText({ model, prompt: "x", abortSignal: abort.signal });
  const waiting = generateText({ model, prompt: "x", abortSignal: abort.signal });
  await until(() => client.metrics().inFlight === 1 && client.metrics().queued === 1, "one in flight and one waiting");
  const gone = Promise.all([rejection(flying), rejection(waiting)]);
  abort.abort();
  for (const error of await gone) assert.equal(error.name, "AbortError");
  assert.deepEqual([client.metrics().inFlight, client.metrics().queued], [0, 0]);

  const within = new AbortController();
  const result = streamText({ model, prompt: "x", abortSignal: within.signal, onError: () => {} });
  let parts = 0;
  for await (const part of result.fullStream) if (part.type === "text-delta" && ++parts === 2) within.abort();
  await until(() => client.metrics().inFlight === 0, "the permit to come back");
});

test("nothing is retried on top of the gate, whatever maxRetries says", async (t) => {
  let status = 402;
  const server = await serve(t, (request, response) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ error: { message: `said ${status}` } })));
  const { client, model } = gated(t, server.url, { maxAttempts: 2 });
  const call = (more) => rejection(generateText({ model, prompt: "x", maxRetries: 5, ...more }));
  const money = await call();
  assert.ok(APICallError.isInstance(money), String(money));
  assert.deepEqual([money.statusCode, money.message, money.isRetryable, server.requests()], [402, "said 402", false, 1]);
  const stopped = await call();
  assert.ok(APICallError.isInstance(stopped));
  assert.match(stopped.message, /^the account is out of money \(route `[^`]*`, nothing was sent.*top up the account, then call resume\(\)$/);
  assert.equal(server.requests(), 1);

  client.resume();
  status = 500;
  const fault = await call();
  assert.ok(fault instanceof tidegate.ServerError, String(fault));
  assert.deepEqual([fault.status, fault.attemptsMade, server.requests()], [500, 2, 3]);

  status = 503;
  const overloaded = await call({ headers: { "tidegate-timeout": "300" } });
  assert.ok(overloaded instanceof tidegate.TidegateError);
  assert.equal(overloaded.status, 503);
});

test("a stream that breaks off is an error, not a short answer", async (t) => {
  const server = await serve(t, (request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(event(delta({ role: "assistant", content: "half of " })) + event(delta({ content: "it" })));
  });
  const { client, model } = gated(t, server.url);
  const result = streamText({ model, prompt: "x", onError: () => {} });
  let text = "";
  const thrown = await rejection((async () => {
    for await (const part of result.fullStream) if (part.type === "text-delta") text += part.text;
  })());
  assert.equal(text, "half of it");
  assert.ok(APICallError.isInstance(thrown), String(thrown));
  assert.ok(thrown.cause instanceof tidegate.StreamInterruptedError, String(thrown.cause));
  assert.deepEqual([thrown.isRetryable, thrown.cause.partial.text], [false, "half of it"]);
  assert.equal(client.metrics().inFlight, 0);
});
