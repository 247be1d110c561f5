import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { test } from "node:test";
import { runInNewContext } from "node:vm";

import { FAST, ask, clientOf, delta, event, finish, rejection, serve, simulate, sleep, tidegate, until } from "./support.js";

const streaming = ask("Stream.", { stream: true });

test("a stream brings reasoning, content and tool calls in order", async (t) => {
  const call = { index: 0, id: "c1", type: "function", function: { name: "f", arguments: "" } };
  const usage = { prompt_tokens: 7, completion_tokens: 5, total_tokens: 12, completion_tokens_details: { reasoning_tokens: 2 } };
  const chunks = [
    delta({ role: "assistant", content: "" }),
    delta({ reasoning_content: "hm 🌊" }),
    delta({ content: "so" }),
    delta({ tool_calls: [call] }),
    delta({ tool_calls: [{ index: 0, function: { arguments: '{"a":1}' } }] }),
    finish("tool_calls", { usage }),
  ];
  const bytes = new TextEncoder().encode(`${chunks.map(event).join("")}data: [DONE]\n\n`);
  const server = await serve(t, async (request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream", "x-ds-trace-id": "t1" });
    // Cut everywhere, within characters too.
    for (let at = 0; at < bytes.length; at += 37) {
      response.write(bytes.subarray(at, at + 37));
      await sleep(1);
    }
    response.end();
  });
  const client = clientOf(t, server.url);
  const stream = await client.chat.completions.create(streaming);
  assert.ok(stream instanceof tidegate.Stream);
  assert.equal(stream.requestId, "t1");
  const seen = [];
  for await (const chunk of stream) seen.push(chunk);
  assert.deepEqual(seen, chunks);
  const { total } = client.metrics();
  assert.deepEqual([total.completed, total.promptTokens, total.reasoningTokens], [1, 7, 2]);
});

test("keep-alives and blank lines are life and no content", async (t) => {
  const sim = await simulate(t, { queue: { wait: 0.4, keep_alive: 0.05 } });
  const client = clientOf(t, sim.url, { clocks: { headers: 5000, firstContent: 5000, idle: 5000 } });
  const whole = await client.chat.completions.create(ask());
  assert.ok(whole.choices[0].message.content);
  const stream = await client.chat.completions.create(streaming);
  assert.ok(stream.keepAlives >= 3, `${stream.keepAlives} keep-alives`);
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  assert.ok(text);
});

test("keep-alives without content run into the clock, and the call is tried again", async (t) => {
  const server = await serve(t, (request, response, number) => {
    if (number > 1) return response.end(event(delta({ content: "now" })) + event(finish()));
    const beat = setInterval(() => response.write(": keep-alive\n\n"), 20);
    request.on("close", () => clearInterval(beat));
  });
  const client = clientOf(t, server.url, { clocks: { firstContent: 200 } });
  const seen = [];
  for await (const chunk of await client.chat.completions.create(streaming)) seen.push(chunk.choices[0].delta.content);
  assert.deepEqual([seen[0], server.requests()], ["now", 2]);
});

for (const [fault, words] of [["cut", /broke|terminated|ended/], ["clean_end", /ended before the answer did/]]) {
  test(`a stream that breaks off (${fault}) is an error with what came`, async (t) => {
    const sim = await simulate(t, { faults: { [fault]: 1 }, service: { ...FAST, output_tokens: 200 } });
    const client = clientOf(t, sim.url);
    const stream = await client.chat.completions.create(streaming);
    let text = "";
    const error = await rejection((async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    })());
    assert.ok(error instanceof tidegate.StreamInterruptedError, String(error));
    assert.match(error.message, words);
    assert.equal(error.partial.text, text);
    assert.ok(text.length > 0 || error.partial.reasoning.length > 0);
    assert.deepEqual(await stream.next(), { value: undefined, done: true }, "nothing follows it");
    assert.equal(client.metrics().inFlight, 0);
  });
}

test("a stream that stalls ends by the idle clock, but a slow reader is no stall", async (t) => {
  const server = await serve(t, (request, response, number) => {
    response.write(event(delta({ content: "a" })));
    if (number === 2) setTimeout(() => response.end(event(delta({ content: "b" })) + event(finish())), 50);
  });
  const client = clientOf(t, server.url, { clocks: { idle: 300 } });
  const stalled = await client.chat.completions.create(streaming);
  await stalled.next();
  const error = await rejection(stalled.next());
  assert.deepEqual([error.type, error.partial.text], ["interrupted", "a"]);
  assert.match(error.message, /stalled/);
  const slow = await client.chat.completions.create(streaming);
  await sleep(500);
  const seen = [];
  for await (const chunk of slow) seen.push(chunk.choices[0].delta.content);
  assert.deepEqual(seen.slice(0, 2), ["a", "b"]);
});

test("an error event, insufficient resources and an empty stream before content are retried", async (t) => {
  const bodies = [
    event({ error: { message: "overloaded", code: 503 } }),
    event(delta({ role: "assistant", content: "" })) + event(finish("insufficient_system_resource")),
    "data: [DONE]\n\n",
    "",
    event(delta({ content: "good" })) + event(finish()) + "data: [DONE]", // without its blank line
  ];
  const server = await serve(t, (request, response, number) => response.end(bodies[number - 1]));
  const client = clientOf(t, server.url, { maxAttempts: 9 });
  const seen = [];
  for await (const chunk of await client.chat.completions.create(streaming)) seen.push(chunk.choices[0].delta.content);
  assert.deepEqual([seen[0], server.requests()], ["good", 5]);
});

test("an error after content is an interruption", async (t) => {
  const server = await serve(t, async (request, response) => {
    response.write(event(delta({ content: "half" })));
    await sleep(30);
    response.end(event({ error: { message: "it broke", type: "server_error" } }));
  });
  const stream = await clientOf(t, server.url).chat.completions.create(streaming);
  assert.equal((await stream.next()).value.choices[0].delta.content, "half");
  const error = await rejection(stream.next());
  assert.deepEqual([error.type, error.partial.text], ["interrupted", "half"]);
  assert.match(error.message, /it broke/);
});

test("a connection that lingers after the finish reason ends the stream all the same", async (t) => {
  const server = await serve(t, (request, response) => response.write(event(delta({ content: "a" })) + event(finish())));
  const client = clientOf(t, server.url);
  const seen = [];
  for await (const chunk of await client.chat.completions.create(streaming)) seen.push(chunk);
  assert.deepEqual([seen.length, client.metrics().total.completed], [2, 1]);
});

test("leaving the loop closes the connection and frees the permit", async (t) => {
  const closed = [];
  const server = await serve(t, (request, response, number) => {
    response.on("close", () => closed.push(number));
    response.write(event(delta({ content: "a" })));
  });
  const client = clientOf(t, server.url, { maxConcurrency: 1 });
  for (const number of [1, 2, 3]) {
    for await (const chunk of await client.chat.completions.create(streaming)) {
      assert.equal(chunk.choices[0].delta.content, "a");
      break;
    }
    assert.equal(client.metrics().inFlight, 0);
    await until(() => closed.includes(number), "the connection to be closed");
  }
  assert.equal(client.metrics().total.cancelled, 3);
});

test("a stream that nobody holds any more is noticed and freed", async (t) => {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc");
  const server = await serve(t, (request, response) => response.write(event(delta({ content: "a" }))));
  const client = clientOf(t, server.url, { maxConcurrency: 1 });
  await (async () => void (await client.chat.completions.create(streaming)))();
  await (async () => {
    const second = client.fetch(`${server.url}/chat/completions`, { method: "POST", body: JSON.stringify(streaming) });
    await until(() => (gc(), client.metrics().queued === 0), "the first to be freed");
    await second;
  })();
  await until(() => (gc(), client.metrics().inFlight === 0), "the second to be freed");
});
