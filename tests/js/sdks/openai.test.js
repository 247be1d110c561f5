import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI, { APIConnectionError, APIConnectionTimeoutError, APIUserAbortError, BadRequestError, InternalServerError, RateLimitError } from "openai";

import { FAST, MOVING, ask, clientOf, delta, event, finish, openaiOptions, rejection, serve, settle, simulate, sleep, tidegate, until, weather } from "./support.js";

const gated = (t, url, options, how) => {
  const client = clientOf(t, url, options);
  return { client, openai: new OpenAI(openaiOptions(client, how)) };
};

test("the openai package answers, streams, reasons and calls tools through the gate", async (t) => {
  const sim = await simulate(t);
  const { client, openai } = gated(t, sim.url);
  const { data: answer, request_id } = await openai.chat.completions.create(ask()).withResponse();
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.ok(answer.choices[0].message.content);
  assert.match(request_id, /^[0-9a-f]{32}$/, "DeepSeek's id is where the SDK looks for one");
  let text = "";
  let reasoning = "";
  let reason;
  const thinking = { thinking: { type: "enabled" }, stream: true };
  for await (const chunk of await openai.chat.completions.create(ask("Why?", thinking))) {
    const [choice] = chunk.choices;
    text += choice.delta.content ?? "";
    reasoning += choice.delta.reasoning_content ?? "";
    reason = choice.finish_reason ?? reason;
  }
  assert.ok(text && reasoning);
  assert.equal(reason, "stop");

  const tools = [{ type: "function", function: weather }];
  const asked = ask("Please use get_weather for Oslo.", { tools, thinking: { type: "disabled" } });
  const called = await openai.chat.completions.create(asked);
  assert.equal(called.choices[0].message.tool_calls[0].function.name, "get_weather");
  const runner = openai.chat.completions.stream(asked);
  const final = await runner.finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.name, "get_weather");
  JSON.parse(final.choices[0].message.tool_calls[0].function.arguments);

  const models = [];
  for await (const model of openai.models.list()) models.push(model.id);
  assert.ok(models.includes("deepseek-flash"));
  const { total, inFlight } = client.metrics();
  assert.deepEqual([total.completed, inFlight], [5, 0]);
  assert.ok(total.completionTokens > 0, "tokens are counted under an SDK, too");
});

test("a hundred and fifty calls at once end well while the cap moves; the bare SDK loses some", async (t) => {
  const sim = await simulate(t, MOVING);
  const { client, openai } = gated(t, sim.url);
  const all = (sdk) => Array.from({ length: 150 }, async (_, i) => {
    if (i % 2) return sdk.chat.completions.create(ask(`Number ${i}.`));
    let reason;
    for await (const chunk of await sdk.chat.completions.create(ask(`Number ${i}.`, { stream: true }))) reason = chunk.choices[0]?.finish_reason;
    return { choices: [{ finish_reason: reason }] };
  });
  const ours = await settle(all(openai));
  assert.deepEqual(ours.errors, []);
  assert.ok(ours.values.every(({ choices }) => choices[0].finish_reason === "stop"));
  const { completed } = await sim.tally();
  assert.equal(completed, 150, "nothing is asked twice");
  const { slotRejections, attempts } = client.metrics().total;

  await sim.play(MOVING);
  const bare = await settle(all(new OpenAI({ apiKey: "sk-simulated-0123456789", baseURL: sim.url })));
  assert.ok(bare.errors.length > 10, `the bare SDK lost ${bare.errors.length}`);
  assert.ok(bare.errors.every((error) => error instanceof RateLimitError));
  const { slot } = (await sim.tally()).rejected;
  assert.ok(slotRejections < slot / 2, `${slotRejections} of ${attempts} attempts were rejected, of the bare SDK's ${slot}`);
  t.diagnostic(`bare: ${bare.errors.length} of 150 lost; gated: none, ${slotRejections} of ${attempts} attempts answered 429`);
});

test("what is broken before the first content is tried again, which the bare SDK does not", async (t) => {
  const sim = await simulate(t);
  const faults = { blank_body: 0.1, garbage: 0.1, insufficient_resource: 0.1 };
  await sim.play({ faults });
  const { openai } = gated(t, sim.url, { maxAttempts: 20 });
  const { errors, values } = await settle(Array.from({ length: 24 }, () => openai.chat.completions.create(ask())));
  assert.deepEqual(errors, []);
  assert.ok(values.every(({ choices }) => choices[0].finish_reason === "stop"));

  await sim.play({ faults });
  const bare = new OpenAI({ apiKey: "sk-simulated-0123456789", baseURL: sim.url });
  const theirs = await settle(Array.from({ length: 24 }, () => bare.chat.completions.create(ask())));
  const bad = theirs.values.filter((answer) => answer?.choices?.[0].finish_reason !== "stop");
  assert.ok(theirs.errors.length + bad.length > 1, `bare: ${theirs.errors.length} errors, ${bad.length} answers that are none`);
});

test("a stream that breaks off is an error with what had come, however it breaks off", async (t) => {
  const endings = { "cut off": (response) => response.destroy(), "ended cleanly": (response) => response.end(), "stalled": () => {} };
  for (const [name, end] of Object.entries(endings)) {
    const server = await serve(t, (request, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(": keep-alive\n\nevent: ping\n\n" + event(delta({ content: "half of " })) + event(delta({ content: "it" })));
      setTimeout(() => end(response), 50);
    });
    const { client, openai } = gated(t, server.url, { clocks: { idle: 200 } });
    let text = "";
    const error = await rejection((async () => {
      for await (const chunk of await openai.chat.completions.create(ask("", { stream: true }))) text += chunk.choices[0].delta.content;
    })());
    assert.ok(error instanceof tidegate.StreamInterruptedError, `${name}: ${error}`);
    assert.deepEqual([text, error.partial.text, server.requests()], ["half of it", "half of it", 1]);
    assert.equal(client.metrics().inFlight, 0);
  }
});

test("a stream ends with [DONE], whether or not its connection does", async (t) => {
  const server = await serve(t, (request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(event(delta({ content: "all" })) + event(finish()) + event("[DONE]"));
  });
  const { client, openai } = gated(t, server.url);
  let text = "";
  for await (const chunk of await openai.chat.completions.create(ask("", { stream: true }))) text += chunk.choices[0].delta.content ?? "";
  assert.equal(text, "all");
  assert.deepEqual([client.metrics().total.completed, client.metrics().inFlight], [1, 0]);
});

test("what DeepSeek has at its beta address alone goes there", async (t) => {
  const seen = [];
  const choice = { index: 0, message: { role: "assistant", content: "x" }, text: "x", finish_reason: "stop" };
  const server = await serve(t, (request, response) => (seen.push(request.url), response.end(JSON.stringify({ choices: [choice] }))));
  const { openai } = gated(t, `${server.url}/v1`, { betaURL: `${server.url}/beta` });
  await openai.chat.completions.create(ask());
  await openai.completions.create({ model: "m", prompt: "def f(" });
  await openai.chat.completions.create(ask("", { messages: [{ role: "assistant", content: "So", prefix: true }] }));
  await openai.chat.completions.create(ask("", { tools: [{ type: "function", function: { ...weather, strict: true } }] }));
  assert.deepEqual(seen, ["/v1/chat/completions", "/beta/completions", "/beta/chat/completions", "/beta/chat/completions"]);
  const { openai: longer } = gated(t, server.url, { betaURL: `${server.url}/beta` });
  await longer.withOptions({ baseURL: `${server.url}/v1` }).chat.completions.create(ask());
  assert.equal(seen.at(-1), "/v1/chat/completions", "an address of the SDK's own is no reason");
});

test("a stream of the Responses API that ends before its last event is an error", async (t) => {
  const said = (type) => `event: ${type}\ndata: ${JSON.stringify({ type, response: { id: "r1" } })}\n\n`;
  const server = await serve(t, (request, response, number) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(said("response.created") + (number === 1 ? "" : said("response.completed")));
  });
  const { client, openai } = gated(t, server.url);
  const read = async () => {
    const seen = [];
    for await (const { type } of await openai.responses.create({ model: "m", input: "x", stream: true })) seen.push(type);
    return seen;
  };
  const error = await rejection(read());
  assert.ok(error instanceof tidegate.StreamInterruptedError, String(error));
  assert.deepEqual(await read(), ["response.created", "response.completed"]);
  assert.equal(client.metrics().inFlight, 0);
});

test("a redirect is no place for a completion", async (t) => {
  const server = await serve(t, (request, response) => response.writeHead(302, { location: "/elsewhere" }).end());
  const error = await rejection(gated(t, server.url).openai.chat.completions.create(ask()));
  assert.deepEqual([error.status, server.requests()], [302, 1]);
});

test("abort works while a call waits, before its answer and within its stream", async (t) => {
  const sim = await simulate(t, { service: { ...FAST, time: 3, output_tokens: 400 } });
  const { client, openai } = gated(t, sim.url, { maxConcurrency: 1 });
  const abort = new AbortController();
  const flying = openai.chat.completions.create(ask(), { signal: abort.signal });
  const waiting = openai.chat.completions.create(ask(), { signal: abort.signal });
  await until(() => client.metrics().inFlight === 1 && client.metrics().queued === 1, "one in flight and one waiting");
  const gone = Promise.all([rejection(flying), rejection(waiting)]);
  abort.abort();
  for (const error of await gone) assert.ok(error instanceof APIUserAbortError, String(error));
  assert.deepEqual([client.metrics().inFlight, client.metrics().queued], [0, 0]);

  for await (const chunk of await openai.chat.completions.create(ask("", { stream: true }))) if (chunk) break;
  await until(() => client.metrics().inFlight === 0, "a stream that is left to give its permit back");
  const stream = await openai.chat.completions.create(ask("", { stream: true }));
  setTimeout(() => stream.controller.abort(), 100);
  for await (const chunk of stream) assert.ok(chunk);
  await until(() => client.metrics().inFlight === 0, "a stream that is aborted to give its permit back");
  const unread = await openai.chat.completions.create(ask("", { stream: true })).asResponse();
  await unread.body.cancel();
  assert.equal(client.metrics().inFlight, 0);
});

test("errors are those that the SDK's users know, and the SDK retries none", async (t) => {
  let status = 402;
  const server = await serve(t, (request, response) => response.writeHead(status).end(JSON.stringify({ error: { message: `said ${status}`, code: "odd" } })));
  const { client, openai } = gated(t, server.url, { maxAttempts: 1 });
  const call = (options) => rejection(openai.chat.completions.create(ask(), { maxRetries: 2, ...options }));
  const told = await call();
  assert.deepEqual([told.status, told.message, told.code, server.requests()], [402, "402 said 402", "odd", 1]);
  const stopped = await call();
  assert.equal(stopped.status, 402);
  assert.match(stopped.message, /^402 the account is out of money \(route `[^`]*`, nothing was sent.*\).*; top up the account, then call resume\(\)$/);
  assert.equal(server.requests(), 1, "an account without money is not asked again");

  client.resume();
  status = 400;
  assert.ok((await call()) instanceof BadRequestError);
  status = 500;
  const fault = await call();
  assert.ok(fault instanceof InternalServerError);
  assert.equal(fault.message, "500 said 500");
  assert.equal(server.requests(), 3);

  status = 503;
  const overloaded = await call({ headers: { "tidegate-timeout": "300" } });
  assert.ok(overloaded instanceof InternalServerError, "an overload that lasts longer than the call may");
  assert.equal(overloaded.message, "503 said 503");
  const slow = await simulate(t, { service: { ...FAST, time: 5 } });
  const waiting = gated(t, slow.url, { timeout: 200 });
  assert.ok((await rejection(waiting.openai.chat.completions.create(ask()))) instanceof APIConnectionTimeoutError);
  assert.ok((await call({ timeout: 200 })) instanceof APIConnectionTimeoutError, "the SDK's own timer");
  await until(() => client.metrics().queued + client.metrics().backingOff + client.metrics().inFlight === 0, "the call to be gone");
  await client.close();
  const closed = await call();
  assert.ok(closed instanceof APIConnectionError);
  assert.ok(closed.cause instanceof tidegate.ClosedError);

  const within = await serve(t, (request, response) => response.end(JSON.stringify({ error: { message: "not this", code: 400 } })));
  const inside = await rejection(gated(t, within.url).openai.chat.completions.create(ask()));
  assert.ok(inside instanceof BadRequestError, `an error in an answer whose status is 200: ${inside}`);

  const nowhere = gated(t, "http://127.0.0.1:9", { maxAttempts: 2 });
  const refused = await rejection(nowhere.openai.chat.completions.create(ask()));
  assert.ok(refused instanceof APIConnectionError && refused.cause instanceof tidegate.ConnectionError, String(refused));
  assert.equal(refused.cause.attemptsMade, 2);
});

test("workloads are chosen for an SDK, or for one call of it", async (t) => {
  const seen = [];
  const server = await serve(t, (request, response) => {
    seen.push(Object.keys(request.headers).filter((name) => name.startsWith("tidegate")), request.headers.authorization);
    setTimeout(() => response.end(JSON.stringify({ choices: [{ index: 0, message: { role: "assistant", content: "x" }, finish_reason: "stop" }] })), 30);
  });
  const { client, openai } = gated(t, server.url, { maxConcurrency: 1, workloads: { eval: { class: "background" } } }, { workload: "eval" });
  const order = [];
  const call = (headers) => openai.chat.completions.create(ask(), { headers }).then(() => order.push(headers?.["tidegate-workload"] ?? "eval"));
  const calls = [call(), call(), call()];
  await sleep(10);
  calls.push(call({ "tidegate-workload": "interactive" }));
  await Promise.all(calls);
  assert.deepEqual(order, ["eval", "interactive", "eval", "eval"]);
  assert.deepEqual(client.metrics().workloads.filter(({ submitted }) => submitted > 0).map(({ name, submitted }) => [name, submitted]).sort(), [["eval", 3], ["interactive", 1]]);
  assert.deepEqual(new Set(seen.flat()), new Set(["Bearer sk-simulated-0123456789"]), "only the client's key is sent, and none of its headers");
  assert.throws(() => openaiOptions(client, { worklod: "x" }), /^InvalidRequestError: Expected a call's options to have no option `worklod`, did you mean `workload`\?$/);
  assert.throws(() => openaiOptions(openai), /^InvalidRequestError: Expected the client to be a Tidegate, got an object of class OpenAI$/);
  const bad = await rejection(openai.chat.completions.create(ask(), { headers: { "tidegate-timeout": "soon" } }));
  assert.ok(bad instanceof BadRequestError);
  assert.equal(bad.message, "400 Expected `timeout` to be a finite number of milliseconds above zero, got NaN");
});

test("the SDK's ten minutes do not run while a call waits for its turn", async (t) => {
  const sim = await simulate(t);
  const { client, openai } = gated(t, sim.url);
  t.mock.method(globalThis, "setTimeout", new Proxy(setTimeout, {
    apply: (target, self, [run, ms, ...rest]) => Reflect.apply(target, self, [run, ms, ...rest]),
  }));
  await openai.chat.completions.create(ask());
  const spans = globalThis.setTimeout.mock.calls.map(({ arguments: [, ms] }) => ms);
  assert.ok(!spans.includes(600_000) && spans.includes(0x7fffffff), `timers of ${spans}`);
  assert.equal(client.metrics().inFlight, 0);
});
