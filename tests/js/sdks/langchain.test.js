import assert from "node:assert/strict";
import { test } from "node:test";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";

import { FAST, MOVING, chatOpenAIOptions, clientOf, rejection, serve, settle, simulate, tidegate, until, weather } from "./support.js";

const gated = (t, url, options, how) => {
  const client = clientOf(t, url, options);
  return { client, model: new ChatOpenAI({ model: "deepseek-flash", ...chatOpenAIOptions(client, how) }) };
};

test("LangChain answers, streams and calls tools through the gate", async (t) => {
  const sim = await simulate(t);
  const { client, model } = gated(t, sim.url);
  const answer = await model.invoke("Say something.");
  assert.ok(answer.text);
  let text = "";
  for await (const chunk of await model.stream("Say something.")) text += chunk.text;
  assert.ok(text);
  const get_weather = tool(async () => "rain", { ...weather, schema: weather.parameters });
  const bound = new ChatOpenAI({ model: "deepseek-flash", modelKwargs: { thinking: { type: "disabled" } }, ...chatOpenAIOptions(client) }).bindTools([get_weather]);
  const called = await bound.invoke("Please use get_weather for Oslo.");
  assert.equal(called.tool_calls[0].name, "get_weather");
  const { total, inFlight } = client.metrics();
  assert.deepEqual([total.completed, inFlight], [3, 0]);
});

test("a hundred calls at once end well while the cap moves; bare LangChain sends many more", async (t) => {
  const sim = await simulate(t, MOVING);
  const { client, model } = gated(t, sim.url);
  const all = (model) => model.batch(Array.from({ length: 100 }, (_, i) => `Number ${i}.`), undefined, { returnExceptions: true });
  const answers = await all(model);
  assert.ok(answers.every(({ text }) => text), "every answer is one");
  const ours = await sim.tally();
  assert.equal(ours.completed, 100);
  const { slotRejections, attempts } = client.metrics().total;
  assert.ok(slotRejections < 100, `${slotRejections} of ${attempts} attempts were rejected`);

  await sim.play(MOVING);
  const bare = new ChatOpenAI({ model: "deepseek-flash", apiKey: "sk-simulated-0123456789", configuration: { baseURL: sim.url } });
  const theirs = await all(bare);
  const lost = theirs.filter((answer) => answer instanceof Error).length;
  const { requests } = await sim.tally();
  assert.ok(lost > 0 || requests > 1.5 * ours.requests, `bare: ${lost} lost, ${requests} requests, gated ${ours.requests}`);
  t.diagnostic(`bare: ${lost} of 100 lost, ${requests} requests; gated: none, ${ours.requests} requests`);
});

test("abort works while a call waits, and workloads are chosen by call", async (t) => {
  const sim = await simulate(t, { service: { ...FAST, time: 1 } });
  const { client, model } = gated(t, sim.url, { maxConcurrency: 1 });
  const abort = new AbortController();
  const calls = [1, 2].map(() => rejection(model.invoke("x", { signal: abort.signal, options: { headers: { "tidegate-workload": "interactive" } } })));
  await until(() => client.metrics().inFlight === 1 && client.metrics().queued === 1, "one in flight and one waiting");
  assert.equal(client.metrics().workloads.find(({ name }) => name === "interactive").submitted, 2);
  abort.abort();
  for (const error of await Promise.all(calls)) assert.match(`${error.name} ${error.message}`, /abort/i);
  await until(() => client.metrics().inFlight + client.metrics().queued === 0, "both to be gone");
});

test("nothing is retried on top of the gate, and errors keep their status", async (t) => {
  let status = 402;
  const server = await serve(t, (request, response) => response.writeHead(status).end(JSON.stringify({ error: { message: `said ${status}` } })));
  const { client, model } = gated(t, server.url, { maxAttempts: 2 });
  const money = await rejection(model.invoke("x"));
  assert.deepEqual([money.status, server.requests()], [402, 1]);
  client.resume();
  status = 500;
  const fault = await rejection(model.invoke("x"));
  assert.deepEqual([fault.status, server.requests()], [500, 3]);
  await client.close();
  const closed = await rejection(model.invoke("x"));
  const cause = closed.cause ?? closed;
  assert.ok(cause instanceof tidegate.ClosedError || cause.cause instanceof tidegate.ClosedError, String(cause));
});
