import assert from "node:assert/strict";
import { test } from "node:test";

import { Tidegate, ask, clientOf, delta, event, finish, rejection, serve, simulate, sleep, tidegate } from "./support.js";

test("what DeepSeek would certainly refuse is refused before anything is sent", async () => {
  const client = new Tidegate({ apiKey: "sk-simulated-0123456789", fetch: () => assert.fail("it was sent") });
  const user = { role: "user", content: "x" };
  const tool = (name) => ({ type: "function", function: { name } });
  const refusals = [
    [{ model: " " }, '`model` to be a non-empty string, got " "'],
    [{ stream: 1 }, "`stream` to be a boolean, got 1"],
    [{ messages: [null] }, "`messages[0]` to be an object, got null"],
    [{ messages: [{ content: "x" }] }, "`messages[0].role` to be a string, got undefined"],
    [{ messages: [{ role: "developer", content: "x" }] }, '`messages[0].role` to be "system" with DeepSeek, got "developer"'],
    [{ messages: [{ role: "tool", content: "x" }] }, "`messages[0].tool_call_id` to be the id of the call it answers, got undefined"],
    [{ messages: [{ role: "assistant", content: "x", prefix: true }, user] }, "`messages[0].prefix` to be set on the last message only, got true"],
    [{ temperature: NaN }, "`temperature` to be a finite number, got NaN"],
    [{ temperature: "1" }, '`temperature` to be a finite number, got "1"'],
    [{ temperature: 2.1 }, "`temperature` to be between 0 and 2, got 2.1"],
    [{ top_p: -0.1 }, "`top_p` to be between 0 and 1, got -0.1"],
    [{ max_tokens: 0 }, "`max_tokens` to be at least 1, got 0"],
    [{ top_logprobs: 21, logprobs: true }, "`top_logprobs` to be between 0 and 20, got 21"],
    [{ top_logprobs: 2 }, "`logprobs` to be true where `top_logprobs` is set, got undefined"],
    [{ stop: Array(17).fill("x") }, "`stop` to be at most 16 texts, got 17"],
    [{ tools: Array(129).fill(tool("f")) }, "`tools` to be at most 128 tools, got 129"],
    [{ tools: [tool("f"), tool("no spaces")] }, '`tools[1].function.name` to be 1 to 128 of letters, digits, `_` and `-`, got "no spaces"'],
    [{ thinking: { type: "enabled" }, tool_choice: "required" }, '`tool_choice` to be "none" or "auto" while thinking, got "required"'],
    [{ stream_options: { include_usage: true } }, "`stream_options` to be set only where `stream` is true, got an object"],
    [{ user_id: "ü".repeat(257) }, "`user_id` to be at most 512 bytes, got 514"],
  ];
  for (const [more, said] of refusals) {
    const error = await rejection(client.chat.completions.create(ask("x", more)));
    assert.ok(error instanceof tidegate.InvalidRequestError, String(error));
    assert.equal(error.message, `Expected ${said}`);
  }
  assert.equal((await rejection(client.completions.create({ model: "m", prompt: 3 }))).message, "Expected `prompt` to be a string, got 3");
  assert.equal((await rejection(client.completions.create({ model: "m", prompt: "", logprobs: 21 }))).message, "Expected `logprobs` to be between 0 and 20, got 21");
});

test("what another provider may accept passes, and so do fields nobody knows", async (t) => {
  const bodies = [];
  const server = await serve(t, async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    bodies.push(JSON.parse(body));
    response.end(JSON.stringify({ choices: [{ index: 0, message: { role: "assistant", content: "x" }, finish_reason: "stop" }] }));
  });
  const client = clientOf(t, server.url);
  const odd = { messages: [{ role: "developer", content: "x" }], temperature: 3, max_tokens: null, stop: null, new_field: { a: [1] } };
  await client.chat.completions.create(ask("x", odd));
  assert.deepEqual(bodies, [{ model: "deepseek-flash", ...odd }]);
  assert.match((await rejection(client.chat.completions.create(ask("x", { temperature: Infinity })))).message, /^Expected `temperature` to be a finite number, got Infinity$/);
});

test("a stream can be had as the answer it would have been", async (t) => {
  const call = (index, more) => ({ tool_calls: [{ index, ...more }] });
  const usage = { prompt_tokens: 3, completion_tokens: 9, total_tokens: 12, completion_tokens_details: { reasoning_tokens: 4 } };
  const logprobs = (token) => ({ content: [{ token, logprob: -1, bytes: null }] });
  const chunks = [
    delta({ role: "assistant", content: null, reasoning_content: "" }, { system_fingerprint: "fp" }),
    delta({ reasoning_content: "let me " }),
    delta({ reasoning_content: "see", content: null }),
    { ...delta({ content: "It " }), choices: [{ index: 0, delta: { content: "It " }, finish_reason: null, logprobs: logprobs("It ") }] },
    { ...delta({}), choices: [{ index: 0, delta: { content: "is" }, finish_reason: null, logprobs: logprobs("is") }] },
    delta(call(0, { id: "a", type: "function", function: { name: "f", arguments: "" } })),
    delta(call(1, { id: "b", type: "function", function: { name: "g", arguments: "{" } })),
    delta(call(0, { id: "a", function: { name: "f", arguments: '{"x":' } })),
    delta(call(0, { function: { arguments: "1}" } })),
    delta(call(1, { function: { arguments: "}" } })),
    '{"id":"1","choices":[{"index":0,"delta":{"__proto__":{"polluted":true}},"finish_reason":null}]}',
    finish("tool_calls"),
    { id: "1", object: "chat.completion.chunk", created: 1, model: "m", choices: [], usage },
  ];
  const server = await serve(t, (request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end([...chunks, "[DONE]"].map(event).join(""));
  });
  const client = clientOf(t, server.url);
  const seen = [];
  const stream = await client.chat.completions.create(ask("", { stream: true }));
  const answer = await stream.finalCompletion((chunk) => seen.push(chunk));
  assert.equal(seen.length, chunks.length);
  assert.equal({}.polluted, undefined);
  assert.deepEqual(answer, {
    id: "1",
    object: "chat.completion",
    created: 1,
    model: "m",
    system_fingerprint: "fp",
    choices: [{
      index: 0,
      message: {
        role: "assistant",
        content: "It is",
        reasoning_content: "let me see",
        tool_calls: [
          { id: "a", type: "function", function: { name: "f", arguments: '{"x":1}' } },
          { id: "b", type: "function", function: { name: "g", arguments: "{}" } },
        ],
      },
      finish_reason: "tool_calls",
      logprobs: { content: [...logprobs("It ").content, ...logprobs("is").content] },
    }],
    usage,
  });
  assert.equal(client.metrics().inFlight, 0);
});

test("a streamed answer put together is the one that would not have been streamed", async (t) => {
  const sim = await simulate(t);
  const client = clientOf(t, sim.url, { betaURL: `${sim.url}/beta` });
  const same = ({ id, created, ...rest }) => (assert.ok(id && created), rest);
  for (const more of [{}, { thinking: { type: "enabled" } }]) {
    const params = ask("Say the same twice.", more);
    const whole = await client.chat.completions.create(params);
    const stream = await client.chat.completions.create({ ...params, stream: true });
    assert.deepEqual(same(await stream.finalCompletion()), same(whole));
  }
  const params = { model: "deepseek-flash", prompt: "def f(" };
  const stream = await client.completions.create({ ...params, stream: true });
  const fim = await stream.finalCompletion();
  assert.deepEqual(same(fim), same(await client.completions.create(params)));
  assert.equal(fim.object, "text_completion");
});

test("questions about an account are asked again after a failure, and not after a refusal", async (t) => {
  let status = 503;
  const server = await serve(t, (request, response, number) => {
    if (number < 3) return response.writeHead(status).end("{}");
    response.end(JSON.stringify({ object: "list", data: [{ id: "m", object: "model" }] }));
  });
  const client = clientOf(t, server.url);
  assert.equal((await client.models.list()).data[0].id, "m");
  assert.equal(server.requests(), 3);

  const down = await serve(t, (request, response) => response.writeHead(status).end("{}"));
  const short = clientOf(t, down.url, { maxAttempts: 2 });
  const error = await rejection(short.balance());
  assert.ok(error instanceof tidegate.OverloadedError, String(error));
  assert.deepEqual([error.attemptsMade, down.requests()], [2, 2]);
  status = 401;
  assert.ok((await rejection(short.balance())) instanceof tidegate.AuthenticationError);
  assert.equal(down.requests(), 3);

  status = 503;
  const controller = new AbortController();
  const waiting = rejection(clientOf(t, down.url, { maxAttempts: 30 }).models.list({ signal: controller.signal }));
  await sleep(50);
  controller.abort("enough");
  assert.equal(await waiting, "enough");
});

test("the gate's fetch is told of workload and time by headers, which it keeps", async (t) => {
  const seen = [];
  const server = await serve(t, (request, response) => {
    seen.push(...Object.keys(request.headers).filter((name) => name.startsWith("tidegate")));
    if (request.url === "/v1/quick") response.end("{}");
  });
  const client = clientOf(t, `${server.url}/v1`);
  await (await client.fetch(`${client.baseURL}/quick`, { headers: { "tidegate-workload": "background" } })).text();
  assert.equal(client.metrics().workloads.find(({ name }) => name === "background").completed, 1);
  const late = await rejection(client.fetch(`${client.baseURL}/slow`, { headers: { "tidegate-timeout": "100" } }));
  assert.equal(late.type, "deadline");
  assert.match((await rejection(client.fetch(`${client.baseURL}/x`, { headers: { "tidegate-timeout": "0" } }))).message, /^Expected `timeout` to be a number of milliseconds above zero, got 0$/);
  assert.deepEqual(seen, []);
});
