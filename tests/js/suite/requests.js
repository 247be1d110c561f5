import { deepEqual, equal, fail, match, ok, rejection } from "./assert.js";
import { STREAMING, answer, ask, delta, event, finish, sleep, textOf } from "./support.js";

const tool = (name) => ({ type: "function", function: { name } });
const call = (index, more) => delta({ tool_calls: [{ index, ...more }] });
const logprobs = (token) => ({ content: [{ token, logprob: -1, bytes: null }] });
const spelled = (token) => {
  const chunk = delta({ content: token });
  chunk.choices[0].logprobs = logprobs(token);
  return chunk;
};

export const requests = {
  async "what DeepSeek would certainly refuse is refused before anything is sent"(t) {
    const fetch = () => fail("it was sent");
    const client = t.client("https://api.deepseek.com", { fetch });
    const user = { role: "user", content: "x" };
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
      equal(error.type, "invalid_request");
      equal(error.message, `Expected ${said}`);
    }
    const fim = async (more) => (await rejection(client.completions.create({ model: "m", prompt: "", ...more }))).message;
    equal(await fim({ prompt: 3 }), "Expected `prompt` to be a string, got 3");
    equal(await fim({ logprobs: 21 }), "Expected `logprobs` to be between 0 and 20, got 21");
  },

  async "what another provider may accept passes, and so do fields nobody knows"(t) {
    const server = await t.serve({ body: answer("x") });
    const client = t.client(server.url);
    const messages = [{ role: "developer", content: "x" }];
    const odd = { messages, temperature: 3, max_tokens: null, stop: null, new_field: { a: [1] } };
    await client.chat.completions.create(ask("x", odd));
    const [{ body }] = await server.requests();
    deepEqual(JSON.parse(body), { model: "deepseek-flash", ...odd });
    const refused = await rejection(client.chat.completions.create(ask("x", { temperature: Infinity })));
    equal(refused.message, "Expected `temperature` to be a finite number, got Infinity");
  },

  async "a stream can be had as the answer it would have been"(t) {
    const usage = { prompt_tokens: 3, completion_tokens: 9, total_tokens: 12, completion_tokens_details: { reasoning_tokens: 4 } };
    const chunks = [
      delta({ role: "assistant", content: null, reasoning_content: "" }, { system_fingerprint: "fp" }),
      delta({ reasoning_content: "let me " }),
      delta({ reasoning_content: "see", content: null }),
      spelled("It "),
      spelled("is"),
      call(0, { id: "a", type: "function", function: { name: "f", arguments: "" } }),
      call(1, { id: "b", type: "function", function: { name: "g", arguments: "{" } }),
      // Some servers say id and name again.
      call(0, { id: "a", function: { name: "f", arguments: '{"x":' } }),
      call(0, { function: { arguments: "1}" } }),
      call(1, { function: { arguments: "}" } }),
      '{"id":"1","choices":[{"index":0,"delta":{"__proto__":{"polluted":true}},"finish_reason":null}]}',
      '{"id":"1","choices":[null]}',
      finish("tool_calls"),
      { ...delta({}), choices: [], usage },
    ];
    const server = await t.serve({ headers: { "content-type": "text/event-stream" }, body: [...chunks, "[DONE]"].map(event) });
    const client = t.client(server.url);
    const seen = [];
    const stream = await client.chat.completions.create(STREAMING);
    const whole = await stream.finalCompletion((chunk) => seen.push(chunk));
    equal(seen.length, chunks.length);
    equal({}.polluted, undefined);
    const tool_calls = [
      { id: "a", type: "function", function: { name: "f", arguments: '{"x":1}' } },
      { id: "b", type: "function", function: { name: "g", arguments: "{}" } },
    ];
    const message = { role: "assistant", content: "It is", reasoning_content: "let me see", tool_calls };
    const content = [...logprobs("It ").content, ...logprobs("is").content];
    deepEqual(whole, {
      id: "1",
      object: "chat.completion",
      created: 1,
      model: "m",
      system_fingerprint: "fp",
      choices: [{ index: 0, message, finish_reason: "tool_calls", logprobs: { content } }],
      usage,
    });
    equal(client.metrics().inFlight, 0);
  },

  async "a streamed answer put together is the one that would not have been streamed"(t) {
    const sim = await t.simulate();
    const client = t.client(sim.url, { betaURL: `${sim.url}/beta` });
    const same = ({ id, created, ...rest }) => (ok(id && created), rest);
    for (const more of [{}, { thinking: { type: "enabled" } }]) {
      const params = ask("Say the same twice.", more);
      const whole = await client.chat.completions.create(params);
      const stream = await client.chat.completions.create({ ...params, stream: true });
      deepEqual(same(await stream.finalCompletion()), same(whole));
    }
    const params = { model: "deepseek-flash", prompt: "def f(" };
    const stream = await client.completions.create({ ...params, stream: true });
    const fim = await stream.finalCompletion();
    deepEqual(same(fim), same(await client.completions.create(params)));
    equal(fim.object, "text_completion");
  },

  async "a stream that breaks off has no final completion"(t) {
    const server = await t.serve({ body: [event(delta({ content: "half" }))] });
    const stream = await t.client(server.url).chat.completions.create(STREAMING);
    const error = await rejection(stream.finalCompletion());
    deepEqual([error.type, error.partial.text], ["interrupted", "half"]);
  },

  async "what some servers send empty, or again with every chunk, spoils no final completion"(t) {
    const said = (delta, more) => event({ choices: [{ delta, finish_reason: null, ...more }] });
    const tool = (id, name, args, index = 0) => ({ tool_calls: [{ index, id, type: "function", function: { name, arguments: args } }] });
    const details = (text) => ({ reasoning_details: [{ index: 0, type: "reasoning.text", text, format: "f-v1" }] });
    const chunks = [
      said({ role: "assistant", content: "a", ...details("b") }),
      said({ role: "", content: "c", ...details("d") }),
      said(tool("call_2", "put", "[]", 1)),
      said(tool("call_1", "get", "{")),
      said(tool("", "", "}"), { index: null }),
      said({}, { finish_reason: "tool_calls" }),
    ];
    const server = await t.serve({ body: chunks.join("") });
    const stream = await t.client(server.url).chat.completions.create(STREAMING);
    const { choices } = await stream.finalCompletion();
    const message = {
      role: "assistant",
      content: "ac",
      reasoning_details: [{ index: 0, type: "reasoning.text", text: "bd", format: "f-v1" }],
      tool_calls: [
        { id: "call_1", type: "function", function: { name: "get", arguments: "{}" } },
        { id: "call_2", type: "function", function: { name: "put", arguments: "[]" } },
      ],
    };
    deepEqual(choices, [{ index: 0, message, finish_reason: "tool_calls" }]);
  },

  async "a stream that is closed, or was read, has no final completion"(t) {
    const several = await t.serve({ body: event(delta({ content: "a" })) + event(delta({ content: "b" })) + event(finish()) + event("[DONE]") });
    const server = await t.serve({ body: [event(delta({ content: "half" }))], end: "open" }, { body: event(delta({ content: "all" })) + event(finish()) });
    const client = t.client(server.url);
    const closed = await client.chat.completions.create(STREAMING);
    const final = rejection(closed.finalCompletion(() => closed.close()));
    equal((await final).type, "aborted");
    const whole = await (await t.client(several.url)).chat.completions.create(STREAMING);
    equal((await rejection(whole.finalCompletion(() => whole.close()))).type, "aborted", "also where all of it is here");
    equal((await rejection(closed.finalCompletion())).type, "aborted");
    const read = await client.chat.completions.create(STREAMING);
    equal(await textOf(read), "all");
    match((await rejection(read.finalCompletion())).message, /^Expected the stream to be unread, got one read to its end$/);
  },

  async "a client that is closed asks nothing about an account, and waits no longer for an answer"(t) {
    const silent = await t.serve({ head: false, end: "open" });
    const client = t.client(silent.url);
    const asked = rejection(client.models.list());
    await silent.arrived();
    await client.close({ grace: 0 });
    // Where requests can't reach one another, it ends by its own time.
    if (!t.lacks.includes("wake-ups between calls")) equal((await asked).type, "closed");
    for (const call of [() => client.models.list(), () => client.balance()]) equal((await rejection(call())).type, "closed");
    equal(await silent.count(), 1);
  },

  async "questions about an account are asked again after a failure, and not after a refusal"(t) {
    const list = JSON.stringify({ object: "list", data: [{ id: "m", object: "model" }] });
    const flaky = await t.serve({ status: 503, body: "{}" }, { status: 500, body: "{}" }, { body: list });
    equal((await t.client(flaky.url).models.list()).data[0].id, "m");
    equal(await flaky.count(), 3);

    const down = await t.serve({ status: 503, body: "{}" }, { status: 503, body: "{}" }, { status: 401, body: "{}" }, { status: 503, body: "{}" });
    const client = t.client(down.url, { maxAttempts: 2 });
    const error = await rejection(client.balance());
    deepEqual([error.type, error.attemptsMade, await down.count()], ["overloaded", 2, 2]);
    equal((await rejection(client.balance())).type, "authentication");
    equal(await down.count(), 3);

    match((await rejection(client.balance({ timeout: 5 }))).message, /^Expected a call's options to have no option `timeout`/);
    equal(await down.count(), 3);

    const controller = new AbortController();
    const waiting = rejection(t.client(down.url, { maxAttempts: 30 }).models.list({ signal: controller.signal }));
    await sleep(50);
    controller.abort("enough");
    equal(await waiting, "enough");
  },

  async "headers come in any form that fetch takes, and a call's win over its client's, but for the key's"(t) {
    const sent = [];
    const fetch = async (_url, { headers }) => {
      sent.push(["content-language", "accept-language", "authorization"].map((name) => headers.get(name)));
      return new Response(answer("x"));
    };
    const headers = new Headers({ "content-language": "de", "accept-language": "de" });
    const client = t.client("http://127.0.0.1:9", { fetch, headers });
    const french = { "accept-language": "fr" };
    for (const headers of [french, new Headers(french), { authorization: "Bearer another-key" }]) {
      await client.chat.completions.create(ask(), { headers });
    }
    await (await client.fetch("http://127.0.0.1:9/x", { headers: french })).text();
    const [plain, own] = ["de", "fr"].map((language) => ["de", language, "Bearer sk-simulated-0123456789"]);
    deepEqual(sent, [own, own, plain, plain], "what goes through the gate's fetch may come from another SDK");
  },

  async "a fetch that resolves to something else is told of, and holds no permit"(t) {
    const read = async (init) => {
      const response = new Response("{}", init);
      await response.text();
      return response;
    };
    const answers = [
      [async () => undefined, "undefined"],
      [async () => ({ headers: new Headers(), body: { pipe() {} } }), "an object"],
      [async () => ({ ok: true, headers: {} }), "an object"],
      [async () => read({ status: 200 }), "an object of class Response"],
      [async () => read({ status: 400 }), "an object of class Response"],
    ];
    for (const [fetch, got] of answers) {
      const client = t.client("http://127.0.0.1:9", { fetch });
      const error = await rejection(client.chat.completions.create(ask()));
      equal(error.message, `Expected the answer of \`fetch\` to be a Response whose body is an unread ReadableStream, got ${got}`);
      equal(client.metrics().inFlight, 0);
    }
  },

  async "a fetch that rejects with whatever, or whose body is no bytes, is a connection that broke"(t) {
    const itself = new Error("in circles");
    itself.cause = itself;
    const odd = Object.assign(new Error("x"), { message: { a: 1 }, code: "X" });
    const texts = () => new ReadableStream({ start: (out) => (out.enqueue("text"), out.close()) });
    for (const fetch of [
      ...[null, Object.create(null), odd, itself].map((thrown) => () => Promise.reject(thrown)),
      async () => ({ ok: true, status: 200, headers: new Headers(), body: texts() }),
    ]) {
      const client = t.client("http://127.0.0.1:9", { fetch, maxAttempts: 1 });
      const errors = [
        await rejection(client.chat.completions.create(ask())),
        await rejection(client.chat.completions.create(STREAMING)),
        // Browsers have an error of their own for a body that is read as text.
        await rejection(client.fetch("http://127.0.0.1:9/x").then(({ body }) => body.getReader().read())),
      ];
      for (const error of errors) ok(error instanceof t.tidegate.TidegateError, String(error));
      deepEqual([client.metrics().inFlight, client.metrics().queued], [0, 0]);
    }
  },

  async "where each user has a limit, the calls that name none count as one"(t) {
    const server = await t.serve({ body: answer("x") });
    const client = t.client(undefined, { apiKey: undefined, baseURL: undefined, routes: [{ baseURL: server.url, limitsEachUser: true }] });
    await client.chat.completions.create(ask());
    await client.chat.completions.create(ask("", { user_id: "u1" }));
    deepEqual(client.metrics().lanes.map(({ userId }) => String(userId)).sort(), ["", "u1", "undefined"]);
    const series = client.prometheus().split("\n").filter((line) => line && !line.startsWith("#")).map((line) => line.replace(/ \S+$/, ""));
    equal(new Set(series).size, series.length, "no series twice");
    ok(series.some((name) => name.startsWith("tidegate_limit{") && name.includes('user_id="(empty)"')));
  },

  async "names of any kind stay apart in what is counted and learned"(t) {
    const client = t.client("http://127.0.0.1:9");
    await client.schedule(() => {}, { model: "a\0b", workload: "c\0d" });
    const { models, workloads, lanes } = client.metrics();
    deepEqual(models.map(({ name }) => name), ["a b"]);
    ok(workloads.some(({ name }) => name === "c d"));
    deepEqual(lanes.map(({ account, model, breaker }) => [account, model, breaker]), [["127.0.0.1:9", "a b", "closed"]]);
    deepEqual(client.snapshot().map(({ account, model }) => [account, model]), [["127.0.0.1:9", "a b"]]);
  },

  async "the gate's fetch is told of workload and time by headers, which it keeps"(t) {
    const server = await t.serve({ body: "{}" }, { head: false });
    const client = t.client(`${server.url}/v1`);
    equal(client.baseURL, `${server.url}/v1`);
    await (await client.fetch(`${client.baseURL}/quick`, { headers: { "tidegate-workload": "background" } })).text();
    equal(client.metrics().workloads.find(({ name }) => name === "background").completed, 1);
    const late = await rejection(client.fetch(`${client.baseURL}/slow`, { headers: { "tidegate-timeout": "200" } }));
    equal(late.type, "deadline");
    const wrong = await rejection(client.fetch(`${client.baseURL}/x`, { headers: { "tidegate-timeout": "0" } }));
    match(wrong.message, /^Expected `timeout` to be a finite number of milliseconds above zero, got 0$/);
    ok((await server.requests()).every(({ headers }) => !headers.some((name) => name.startsWith("tidegate"))), "no such header is sent");
  },
};
