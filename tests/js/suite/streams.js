import { deepEqual, equal, match, ok, rejection } from "./assert.js";
import { FAST, STREAMING, ask, delta, event, finish, sleep, textOf, until } from "./support.js";

const SHORT = { body: event(delta({ content: "now" })) + event(finish()) };

export const streams = {
  async "a stream brings reasoning, content and tool calls in order"(t) {
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
    const server = await t.serve({
      headers: { "content-type": "text/event-stream", "x-ds-trace-id": "t1" },
      body: `${chunks.map(event).join("")}data: [DONE]\n\n`,
      pieces: 37,
    });
    const client = t.client(server.url);
    const stream = await client.chat.completions.create(STREAMING);
    ok(stream instanceof t.tidegate.Stream);
    equal(stream.requestId, "t1");
    const seen = [];
    for await (const chunk of stream) seen.push(chunk);
    deepEqual(seen, chunks);
    const { total } = client.metrics();
    deepEqual([total.completed, total.promptTokens, total.reasoningTokens], [1, 7, 2]);
  },

  async "keep-alives and blank lines are life and no content"(t) {
    const sim = await t.simulate({ queue: { wait: 0.4, keep_alive: 0.05 } });
    const client = t.client(sim.url, { clocks: { headers: 5000, firstContent: 5000, idle: 5000 } });
    const whole = await client.chat.completions.create(ask());
    ok(whole.choices[0].message.content);
    const stream = await client.chat.completions.create(STREAMING);
    ok(stream.keepAlives >= 3, `${stream.keepAlives} keep-alives`);
    ok(await textOf(stream));
  },

  async "keep-alives without content run into the clock, and the call is tried again"(t) {
    const server = await t.serve({ body: [{ repeat: ": keep-alive\n\n", every: 20 }], end: "open" }, SHORT);
    const client = t.client(server.url, { clocks: { firstContent: 2000 } });
    equal(await textOf(await client.chat.completions.create(STREAMING)), "now");
    equal(await server.count(), 2);
  },

  "a stream that is cut is an error with what came": (t) => breaksOff(t, "cut", /broke|terminated|ended/),
  "a stream that ends before the answer does is an error with what came": (t) => breaksOff(t, "clean_end", /ended before the answer did/),

  async "a stream that stalls ends by the idle clock, but a slow reader is no stall"(t) {
    const a = event(delta({ content: "a" }));
    const server = await t.serve({ body: a, end: "open" }, { body: [a, 50, event(delta({ content: "b" })) + event(finish())] });
    const client = t.client(server.url, { clocks: { idle: 1000 } });
    const stalled = await client.chat.completions.create(STREAMING);
    await stalled.next();
    const error = await rejection(stalled.next());
    deepEqual([error.type, error.partial.text], ["interrupted", "a"]);
    match(error.message, /stalled/);
    const slow = await client.chat.completions.create(STREAMING);
    await sleep(1500);
    equal(await textOf(slow), "ab");
  },

  async "an empty finish reason, as some servers send in every chunk, is none"(t) {
    const said = (content, finish_reason = "") => event({ choices: [{ index: 0, delta: { content }, finish_reason }] });
    const server = await t.serve({ body: said("half") }, { body: [said("half"), 2300, said(" whole"), said("", "stop")] });
    const client = t.client(server.url);
    const cut = await client.chat.completions.create(STREAMING);
    const error = await rejection(textOf(cut));
    deepEqual([error.type, error.partial.text], ["interrupted", "half"]);
    equal(await textOf(await client.chat.completions.create(STREAMING)), "half whole");
  },

  async "of several answers all are waited for, however late one begins"(t) {
    const said = (index, content, finish_reason = null) => event({ choices: [{ index, delta: { content }, finish_reason }] });
    const first = said(0, "A", "stop");
    const server = await t.serve({ body: [first, 2300, said(1, "B", "stop"), event("[DONE]")] }, { body: [first, said(1, "B")] });
    const client = t.client(server.url);
    const stream = await client.chat.completions.create({ ...STREAMING, n: 2 });
    const { choices } = await stream.finalCompletion();
    deepEqual(choices.map(({ message }) => message.content), ["A", "B"]);
    const open = await client.chat.completions.create({ ...STREAMING, n: 2 });
    equal((await rejection(open.finalCompletion())).type, "interrupted");
    const text = (index, text) => event({ choices: [{ index, text, finish_reason: "stop" }] });
    const two = await t.serve({ body: [text(0, "A"), 2300, text(1, "B"), event("[DONE]")] }, { body: [2300, text(0, "late")] });
    const ask = (more) => t.client(two.url).completions.create({ model: "m", stream: true, ...more });
    const both = await (await ask({ prompt: ["a", "b"] })).finalCompletion();
    deepEqual(both.choices.map(({ text }) => text), ["A", "B"], "for each prompt one");
    equal(await textOf(await ask({ prompt: [1, 2], n: 0 })), "late");
  },

  async "an error event, insufficient resources and an empty stream before content are retried"(t) {
    const bodies = [
      event({ error: { message: "overloaded", code: 503 } }),
      event(delta({ role: "assistant", content: "" })) + event(finish("insufficient_system_resource")),
      "data: [DONE]\n\n",
      "",
      event(delta({ content: "good" })) + event(finish()) + "data: [DONE]", // without its blank line
    ];
    const server = await t.serve(...bodies.map((body) => ({ body })));
    const client = t.client(server.url, { maxAttempts: 9 });
    equal(await textOf(await client.chat.completions.create(STREAMING)), "good");
    equal(await server.count(), 5);
  },

  async "an error after content is an interruption"(t) {
    const fault = event({ error: { message: "it broke", type: "server_error" } });
    const server = await t.serve({ body: [event(delta({ content: "half" })), 500, fault] });
    const stream = await t.client(server.url).chat.completions.create(STREAMING);
    equal((await stream.next()).value.choices[0].delta.content, "half");
    const error = await rejection(stream.next());
    deepEqual([error.type, error.partial.text], ["interrupted", "half"]);
    match(error.message, /it broke/);
  },

  async "a connection that lingers after the finish reason ends the stream all the same"(t) {
    const server = await t.serve({ ...SHORT, end: "open" });
    const client = t.client(server.url);
    const seen = [];
    for await (const chunk of await client.chat.completions.create(STREAMING)) seen.push(chunk);
    deepEqual([seen.length, client.metrics().total.completed], [2, 1]);
  },

  async "leaving the loop closes the connection and frees the permit"(t) {
    const server = await t.serve({ body: event(delta({ content: "a" })), end: "open" });
    const client = t.client(server.url, { maxConcurrency: 1 });
    for (const number of [1, 2, 3]) {
      for await (const chunk of await client.chat.completions.create(STREAMING)) {
        equal(chunk.choices[0].delta.content, "a");
        break;
      }
      equal(client.metrics().inFlight, 0);
      await server.closed(number);
    }
    equal(client.metrics().total.cancelled, 3);
  },

  "a stream that nobody holds any more is noticed and freed": {
    needs: "gc",
    async test(t) {
      const gc = collector();
      const server = await t.serve({ body: event(delta({ content: "a" })), end: "open" });
      const client = t.client(server.url, { maxConcurrency: 1 });
      await (async () => void (await client.chat.completions.create(STREAMING)))();
      await (async () => {
        const second = client.fetch(`${server.url}/chat/completions`, { method: "POST", body: JSON.stringify(STREAMING) });
        await until(() => (gc(), client.metrics().queued === 0), "the first to be freed");
        await second;
      })();
      await until(() => (gc(), client.metrics().inFlight === 0), "the second to be freed");
    },
  },

  "a body that the runtime itself reads is not taken for one that nobody holds": {
    needs: "gc",
    async test(t) {
      const gc = collector();
      const server = await t.serve({ body: Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? "a" : 20)) });
      const client = t.client(server.url);
      const texts = Array.from({ length: 20 }, async () => (await client.fetch(`${server.url}/x`)).text());
      let over = false;
      const all = Promise.all(texts).finally(() => (over = true));
      // Only the youngest objects are looked through, and not everything that holds them.
      for (; !over; await sleep(10)) gc({ type: "minor" });
      ok((await all).every((text) => text === "aaaaaa"));
    },
  },
};

const collector = () => globalThis.gc ?? (() => globalThis.Bun.gc(true));

async function breaksOff(t, fault, words) {
  const sim = await t.simulate({ faults: { [fault]: 1 }, service: { ...FAST, output_tokens: 200 } });
  const client = t.client(sim.url);
  const stream = await client.chat.completions.create(STREAMING);
  let text = "";
  const error = await rejection(
    (async () => {
      for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
    })(),
  );
  ok(error instanceof t.tidegate.StreamInterruptedError, String(error));
  match(error.message, words);
  equal(error.partial.text, text);
  ok(text.length > 0 || error.partial.reasoning.length > 0);
  deepEqual(await stream.next(), { value: undefined, done: true }, "nothing follows it");
  equal(client.metrics().inFlight, 0);
}
