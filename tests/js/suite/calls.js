import { deepEqual, equal, match, ok, rejection, throws } from "./assert.js";
import { FAST, STREAMING, answer, ask, event, textOf, until } from "./support.js";

const range = (length) => Array.from({ length }, (_, i) => i);

export const calls = {
  async "a plain call is answered"(t) {
    const sim = await t.simulate();
    const client = t.client(sim.url);
    const whole = await client.chat.completions.create(ask());
    equal(whole.object, "chat.completion");
    equal(whole.choices[0].finish_reason, "stop");
    ok(whole.choices[0].message.content.length > 0);
    ok(whole.usage.total_tokens > 0);
    ok(whole._request_id, "the server's id is kept");
    ok(!Object.keys(whole).includes("_request_id"));
    const { total, inFlight } = client.metrics();
    deepEqual([total.completed, total.attempts, inFlight], [1, 1, 0]);
    equal(total.promptTokens, whole.usage.prompt_tokens);
    match(client.prometheus(), /^tidegate_calls_completed_total\{route=".*"\} 1$/m);
  },

  async "500 calls at once on a cap that moves all end well"(t) {
    const cap = { steps: { points: [[0, 64], [1, 16], [2, 48]], repeat: 3 } };
    // Browsers send six requests at once to a server, and would take a quarter of a minute.
    const time = { uniform: t.browser ? [0.02, 0.05] : [0.05, 0.3] };
    const sim = await t.simulate({ cap, service: { ...FAST, time } });
    const client = t.client(sim.url);
    const limits = [];
    client.on("limit", ({ model, limit }) => limits.push([model, limit]));
    const answers = await Promise.all(range(500).map((i) => client.chat.completions.create(ask(`Number ${i}.`))));
    equal(answers.length, 500);
    const { completed } = await sim.tally();
    equal(completed, 500, "nothing is lost and nothing asked for twice");
    const { total, lanes, inFlight, queued } = client.metrics();
    deepEqual([total.completed, total.failed, inFlight, queued], [500, 0, 0, 0]);
    ok(total.slotRejections < 250, `${total.slotRejections} of ${total.attempts} attempts were rejected`);
    ok(limits.length > 0 && limits.every(([model]) => model === "deepseek-flash"));
    equal(lanes[0].breaker, "closed");
  },

  // Where six requests at once are sent to a server, as browsers do, only a cap below that is felt.
  async "a small cap that moves is found again, at a few rejections and no failure"(t) {
    const cap = { steps: { points: [[0, 4], [0.6, 1], [1.2, 3]], repeat: 1.8 } };
    const sim = await t.simulate({ cap, service: { ...FAST, time: { uniform: [0.05, 0.1] } } });
    const client = t.client(sim.url);
    const streams = range(40).map(async (i) => textOf(await client.chat.completions.create(ask(`${i}?`, { stream: true }))));
    const texts = await Promise.all(streams);
    ok(texts.every((text) => text.length > 0));
    const { total, inFlight } = client.metrics();
    deepEqual([total.completed, total.failed, inFlight], [40, 0, 0]);
    ok(total.slotRejections > 0, "the cap was felt");
    equal((await sim.tally()).completed, 40);
  },

  async "an overload is waited out"(t) {
    const sim = await t.simulate({ windows: [{ status: 503, latency: 0 }] });
    const client = t.client(sim.url);
    const seen = [];
    for (const name of ["pressure", "recovered", "retry"]) client.on(name, (event) => seen.push([name, event]));
    const calls = [1, 2, 3].map(() => client.chat.completions.create(ask()));
    await until(() => seen.some(([name]) => name === "retry"), "the overload to be noticed");
    await sim.play({});
    equal((await Promise.all(calls)).length, 3);
    const names = new Set(seen.map(([name]) => name));
    deepEqual([...names].sort(), ["pressure", "recovered", "retry"]);
    equal(seen.find(([name]) => name === "retry")[1].cause, "pressure");
  },

  async "an account without money ends every call, and is open again after resume()"(t) {
    const { InsufficientBalanceError, TidegateError } = t.tidegate;
    const sim = await t.simulate({ windows: [{ status: 402, latency: 0 }] });
    const client = t.client(sim.url);
    const stopped = [];
    client.on("stopped", (event) => stopped.push(event));
    const first = await rejection(client.chat.completions.create(ask()));
    ok(first instanceof InsufficientBalanceError);
    ok(first instanceof TidegateError);
    deepEqual([first.type, first.status, first.isRetryable, first.attemptsMade], ["insufficient_balance", 402, false, 1]);
    match(first.message, /^the account is out of money \(route `127\.0\.0\.1:\d+`, attempt 1, status 402.*\): .*; top up the account, then call resume\(\)$/);
    ok(first.body.includes("Insufficient"), first.body);
    ok(first.headers instanceof Headers);
    const second = await rejection(client.chat.completions.create(ask()));
    deepEqual([second.type, second.attemptsMade], ["insufficient_balance", 0], "nothing more is sent");
    deepEqual(stopped, [{ route: first.route, cause: "billing" }]);
    await sim.play({});
    client.resume();
    ok(await client.chat.completions.create(ask()));
  },

  async "a clock that goes back, as a test's false one may, holds nothing up"(t) {
    const sim = await t.simulate();
    const client = t.client(sim.url);
    await client.chat.completions.create(ask());
    const { now } = performance;
    performance.now = () => now.call(performance) - 60_000;
    const call = client.chat.completions.create(ask());
    performance.now = now;
    equal(client.metrics().inFlight, 1, "sent at once");
    ok(await call);
  },

  async "a Retry-After is never undercut"(t) {
    const server = await t.serve({ status: 500, headers: { "retry-after": "1" }, body: "{}" }, { body: answer("yes") });
    const whole = await t.client(server.url).chat.completions.create(ask());
    equal(whole.choices[0].message.content, "yes");
    const [first, second] = await server.requests();
    ok(second.at - first.at >= 990, `asked again after ${second.at - first.at} ms`);
  },

  async "a refusal ends the call at once, with the server's own words and without the key"(t) {
    const body = ['{"error":{"message":"no such thing for ', { echo: "authorization" }, '","type":"bad","code":"x"}}'];
    const headers = { "x-ds-trace-id": "abc", "x-echo": "Bearer odd-key-42, other-key-42" };
    const server = await t.serve({ status: 400, headers, body });
    const client = t.client(server.url, { apiKey: "odd-key-42", headers: { "api-key": "other-key-42" } });
    const error = await rejection(client.chat.completions.create(ask()));
    ok(error instanceof t.tidegate.RefusedError);
    deepEqual([error.status, error.code, error.errorType, error.requestId], [400, "x", "bad", "abc"]);
    deepEqual(error.attempts.map(({ outcome, status, requestId }) => [outcome, status, requestId]), [["refused", 400, "abc"]]);
    const whole = [error.message, error.body, ...error.headers, JSON.stringify(error), String(error.stack)].join();
    ok(whole.includes("no such thing") && whole.includes("x-echo,Bearer [redacted], [redacted]"), whole);
    ok(!/(odd|other)-key-42/.test(whole), whole);
    equal(await server.count(), 1);
  },

  async "no part of a key is left where words were cut, or in what says why they are no JSON"(t) {
    const key = "odd-key-42-abcdefghijklmnop";
    const upTo = (most) => "x".repeat(most - 12);
    const says = (message) => JSON.stringify({ error: { message, code: key } });
    const bodies = [
      [{ status: 400 }, upTo(64 * 1024) + key],
      [{ status: 400 }, says(upTo(1024) + key)],
      [{}, says(`no such thing for ${key}`)],
      [{}, says(upTo(1024) + key)],
      [{}, `${key} is no key of ours, ${"and what follows is long ".repeat(9)}`],
      [{}, `{"error":{"message":"no-such-key","key":${key},"hint":"${"and what follows is long ".repeat(9)}"}}`],
      [{ status: 302, headers: { location: `/${key}/${upTo(1024)}${key}` } }, ""],
    ];
    for (const [head, body] of bodies) {
      const client = t.client("http://127.0.0.1:9", { apiKey: key, maxAttempts: 1, fetch: async () => new Response(body, head) });
      for (const stream of [false, true]) {
        const error = await rejection(client.chat.completions.create(ask("", { stream })));
        const whole = [error.message, error.body, error.code, String(error.stack), JSON.stringify(error.attempts)].join();
        ok(whole.includes("[redacted]") && !whole.includes(key.slice(0, 8)), whole.replaceAll(/x{9,}/g, "x…"));
      }
    }
    const events = [event(says(upTo(1024) + key)), event(`${upTo(200)}${key}`), `event: error\n${event(upTo(200) + key)}`];
    for (const body of events) {
      const client = t.client("http://127.0.0.1:9", { apiKey: key, maxAttempts: 1, fetch: async () => new Response(body) });
      const error = await rejection(client.chat.completions.create(STREAMING));
      ok(error.message.includes("[redacted]") && !error.message.includes(key.slice(0, 8)), error.message);
    }
  },

  async "a key that comes back very often is struck out as quickly"(t) {
    const [long, short] = ["sk-simulated-0123456789", "abc"];
    for (const apiKey of [long, short]) {
      const server = await t.serve({ status: 400, body: `${apiKey} `.repeat(20_000) });
      const error = await rejection(t.client(server.url, { apiKey }).chat.completions.create(ask()));
      ok(error.body.startsWith("[redacted] [redacted] ") && !error.body.includes(apiKey), error.body.slice(0, 100));
    }
  },

  async "a key as short as a word is struck out where it stands alone"(t) {
    const body = JSON.stringify({ error: { message: "none of the models is none, but nonesuch" } });
    const client = t.client("http://127.0.0.1:9", { apiKey: "none", fetch: async () => new Response(body, { status: 400 }) });
    const error = await rejection(client.chat.completions.create(ask()));
    ok(error.message.includes("[redacted] of the models is [redacted], but nonesuch"), error.message);
  },

  async "a blank 200, garbage and an error inside a 200 are failures, and retried"(t) {
    const overloaded = JSON.stringify({ error: { message: "overloaded", code: 503 } });
    const bodies = ["", "\n  \n", "<html>", overloaded, `\n\n${answer("at last", { odd: 1 })}\n`];
    const server = await t.serve(...bodies.map((body) => ({ body })));
    const client = t.client(server.url, { maxAttempts: 9 });
    const whole = await client.chat.completions.create(ask());
    deepEqual([whole.choices[0].message.content, whole.odd, await server.count()], ["at last", 1, 5]);
  },

  async "a route that fails is left for the next, under its own name for the model"(t) {
    const broken = await t.serve({ status: 401, body: "{}" });
    const sound = await t.serve({ body: answer("here") });
    const models = { "deepseek-flash": { upstream: "ds/flash" } };
    const other = { name: "other", baseURL: `${sound.url}/v1/`, apiKey: "sk-other-0123456789", models };
    const client = t.client(broken.url, { routes: [other] });
    const failovers = [];
    client.on("failover", (event) => failovers.push(event.to));
    equal((await client.chat.completions.create(ask())).choices[0].message.content, "here");
    const asked = (await sound.requests()).map(({ url, authorization, body }) => [url, authorization, JSON.parse(body).model]);
    deepEqual(asked, [["/v1/chat/completions", "Bearer sk-other-0123456789", "ds/flash"]]);
    deepEqual(failovers, ["other"]);
  },

  async "people go before batches"(t) {
    const sim = await t.simulate({ cap: 1, service: { ...FAST, time: 0.03 } });
    const client = t.client(sim.url, { maxConcurrency: 1, workloads: { eval: { class: "background" } } });
    const order = [];
    const call = (workload) => client.chat.completions.create(ask(), { workload }).then(() => order.push(workload));
    const calls = [1, 2, 3, 4, 5].map(() => call("eval"));
    calls.push(call("normal"), call("interactive"));
    await Promise.all(calls);
    deepEqual(order.slice(0, 3), ["eval", "interactive", "normal"]);
  },

  async "fill-in-the-middle, models and balance"(t) {
    const sim = await t.simulate();
    const client = t.client(sim.url, { betaURL: `${sim.url}/beta` });
    const fim = await client.completions.create({ model: "deepseek-flash", prompt: "def f(", suffix: "return 1" });
    ok(fim.choices[0].text.length > 0);
    ok(await textOf(await client.completions.create({ model: "deepseek-flash", prompt: "def f(", stream: true })));
    ok((await client.models.list()).data.some(({ id }) => id === "deepseek-flash"));
    equal(typeof (await client.balance()).is_available, "boolean");
  },

  async "a deadline ends a call that waits"(t) {
    const sim = await t.simulate({ cap: 1, service: { ...FAST, time: 2 } });
    const client = t.client(sim.url, { maxConcurrency: 1 });
    const first = client.chat.completions.create(ask());
    first.catch(() => {});
    const error = await rejection(client.chat.completions.create(ask(), { timeout: 100 }));
    ok(error instanceof t.tidegate.DeadlineError, String(error));
    equal(client.metrics().queued, 0);
  },

  async "close() rejects who waits and lets who is in flight end"(t) {
    const sim = await t.simulate({ service: { ...FAST, time: 0.5 } });
    const client = t.client(sim.url, { maxConcurrency: 1 });
    const first = client.chat.completions.create(ask());
    const second = rejection(client.chat.completions.create(ask()));
    // Not for a fixed time: on a busy machine the second's turn might have come.
    await until(() => client.metrics().inFlight === 1, "the first to be sent");
    await client.close();
    ok(await first);
    ok((await second) instanceof t.tidegate.ClosedError);
    equal((await rejection(client.chat.completions.create(ask()))).type, "closed");
  },

  async "what was learned outlives the client"(t) {
    const sim = await t.simulate({ cap: 8, service: { ...FAST, time: 0.02 } });
    const client = t.client(sim.url);
    await Promise.all(range(100).map(() => client.chat.completions.create(ask())));
    const learned = JSON.parse(JSON.stringify(client.snapshot()));
    equal(learned[0].model, "deepseek-flash");
    const next = t.client(sim.url);
    learned[0].learned[0] = 8; // its limit, whatever was last made of a cap that answers so quickly
    next.restore(learned);
    await next.chat.completions.create(ask());
    // It climbs anew, but knows where to, and tells the one after it.
    equal(next.snapshot()[0].learned[0], 8);
    ok(throws(() => next.restore("nonsense"), /snapshot/) instanceof t.tidegate.InvalidRequestError);
  },

  async "bad input is refused in one shape of sentence"(t) {
    const { ConfigError, InvalidRequestError, Tidegate } = t.tidegate;
    const refused = (options, message) => {
      const more = options === null ? options : { dangerouslyAllowBrowser: true, ...options };
      const error = throws(() => new Tidegate(more), /^ConfigError: /);
      ok(error instanceof ConfigError);
      match(error.message, message);
    };
    refused({ apiKey: "" }, /^Expected `apiKey` to be a non-empty string, got "" \(route `deepseek`\)$/);
    refused({ apiKey: "sk-secret\n" }, /^Expected `apiKey` to be without line breaks; was it read/);
    refused({ apiKey: "sk-1", maxConcurency: 3 }, /^Expected the client's options to have no option `maxConcurency`, did you mean `maxConcurrency`\?$/);
    refused({ apiKey: "sk-1", constructor: 0 }, /^Expected the client's options to have no option `constructor`; there are apiKey, /);
    refused({ apiKey: "sk-1", maxConcurrency: 0 }, /^Expected `maxConcurrency` to be a whole number between 1 and 1,000,000, got 0$/);
    refused({ apiKey: "sk-1", fetch: 3 }, /^Expected `fetch` to be a function, got 3$/);
    refused({ baseURL: "api.example" }, /^Expected `baseURL` to be an absolute URL such as https:\/\/api\.deepseek\.com \(route `default`\)$/);
    refused({ apiKey: "sk-1", workloads: { chat: { class: "urgent" } } }, /^Expected `class` of workload `chat` to be "interactive" or "normal" or "background", got "urgent"$/);
    refused({ routes: [{ name: "a", baseURL: "http://a" }, { name: "a", baseURL: "http://b" }] }, /^Expected route names to be unique, got `a` twice$/);
    refused(null, /^Expected the client's options to be an object, got null$/);
    const baseURL = "https://api.example/v1";
    for (const headers of [[1], [["a"]], [[Symbol("a"), "b"]], new Set(["ab"])]) {
      refused({ baseURL, headers }, /^Expected (`headers`|header `a`) of (`headers` of )?route `api\.example` to be (an object of strings|a non-empty string), got /);
    }
    refused({ baseURL: `${baseURL}?` }, /^Expected `baseURL` to be without a query and a fragment \(route `default`\)$/);
    refused({ baseURL: `${baseURL}/chat/completions/` }, /^Expected `baseURL` to be without \/chat\/completions\/ \(route `default`\)$/);
    refused({ routes: [{ baseURL }], headers: { a: "b" } }, /^Expected `headers` and `betaURL` to stand in `routes`, got them beside$/);
    refused({ baseURL, workloads: new Map([["chat", { weight: 2 }]]) }, /^Expected `workloads` to be an object, got an object of class Map$/);
    refused({ routes: [{ baseURL, models: 3 }] }, /^Expected `models` of route `api\.example` to be an object, got 3$/);
    refused({ routes: [{ baseURL, name: Symbol("a") }] }, /^Expected `name` of a route to be a non-empty string, got Symbol\(a\)$/);
    const client = t.client("http://127.0.0.1:9", { apiKey: undefined });
    const refusedCall = async (params, options, message) => {
      const error = await rejection(client.chat.completions.create(params, options));
      ok(error instanceof InvalidRequestError, String(error));
      match(error.message, message);
    };
    await refusedCall({ messages: [] }, {}, /^Expected `model` to be a non-empty string, got undefined$/);
    await refusedCall({ model: "m", messages: [] }, {}, /^Expected `messages` to be an array of at least one message, got an empty array$/);
    await refusedCall(ask("", { n: 1n }), {}, /^Expected the request to be serialisable as JSON: TypeError/);
    await refusedCall(ask("", { toJSON() {} }), {}, /^Expected the request to be serialisable as JSON: it comes to nothing$/);
    await refusedCall(ask(), { signal: 3 }, /^Expected `signal` to be an AbortSignal, got 3$/);
    // What is called when the call is over must be there before it begins.
    await refusedCall(ask(), { signal: { aborted: false, addEventListener() {} } }, /^Expected `signal` to be an AbortSignal, got an object$/);
    await refusedCall(ask(), { signal: new AbortController() }, /got an object of class AbortController$/);
    const closed = {
      get messages() {
        throw new InvalidRequestError("not to be looked at");
      },
    };
    await refusedCall(closed, {}, /^not to be looked at$/);
    await refusedCall(ask(), { maxRetries: 2 }, /did you mean `maxAttempts`\?$/);
    await refusedCall(ask(), { worklod: "x" }, /did you mean `workload`\?$/);
    await refusedCall(ask(), Object.create({ signal: 3 }), /^Expected `signal` to be an AbortSignal, got 3$/);
    equal(client.metrics().queued, 0);
    for (const [options, message] of [
      [null, /^Expected a call's options to be an object, got null$/],
      [{ grase: 0 }, /did you mean `grace`\?$/],
      [{ grace: NaN }, /^Expected `grace` to be a number between 0 and ∞, got NaN$/],
    ]) {
      const error = await rejection(client.close(options));
      equal(error.type, "invalid_request");
      match(error.message, message);
    }
    equal(throws(() => t.tidegate.setCoreModule({}), /before the first client is made/).type, "config");
    throws(() => client.on("limits", () => {}), /^InvalidRequestError: Expected the event to be one of limit/);
  },

  async "no key is shown where something else was expected"(t) {
    const key = "sk-0123456789abcdef";
    const { Tidegate } = t.tidegate;
    const client = t.client("http://127.0.0.1:9", { fetch: async () => key, maxAttempts: 1 });
    const errors = [key, { routes: key }, { routes: [key] }, { baseURL: "http://a", headers: key }, { baseURL: "http://a", fetch: key }]
      .map((options) => throws(() => new Tidegate(options), /^ConfigError: Expected .*got a string of 19 characters/));
    const calls = [client.balance(key), client.chat.completions.create(key), client.chat.completions.create(ask(), key), client.chat.completions.create(ask())];
    errors.push(...(await Promise.all(calls.map(rejection))));
    for (const error of errors) ok(!String(error).includes(key), String(error));
  },

  async "what looks like a secret in a call's headers is struck out of what the server says"(t) {
    const told = JSON.stringify({ error: { message: "no identity: secret-of-mine, session-0123456789" } });
    const server = await t.serve({ status: 400, headers: { "x-echo": "secret-of-mine" }, body: told });
    const client = t.client(server.url);
    const headers = { "x-api-key": "secret-of-mine", "x-credential": "identity=session-0123456789; v1" };
    const error = await rejection(client.chat.completions.create(ask(), { headers }));
    match(error.message, /: no identity: \[redacted\], \[redacted\]; /);
    deepEqual([error.headers.get("x-echo"), error.body], ["[redacted]", told.replace(/secret-of-mine|session-\d+/g, "[redacted]")]);
  },

  async "an error names the route whose answer it tells of"(t) {
    const [a, b, busy] = [await t.serve({ status: 401, body: "{}" }), await t.serve({ status: 402, body: "{}" }), await t.serve({ status: 503, headers: { "retry-after": "60" }, body: "{}" })];
    const routes = (...servers) => ({ routes: servers.map(({ url }, at) => ({ name: "AB"[at], baseURL: url, apiKey: "sk-1" })), baseURL: undefined, apiKey: undefined });
    const both = await rejection(t.client(undefined, routes(a, b)).chat.completions.create(ask()));
    deepEqual([both.type, both.status, both.route], ["authentication", 401, "A"]);
    match(both.message, /\(route `A`, after 2 attempts, status 401/);
    const later = await rejection(t.client(undefined, { ...routes(a, busy), timeout: 5000 }).chat.completions.create(ask()));
    deepEqual([later.type, later.status, later.route, later.retryAfter, later.isRetryable], ["deadline", 503, "B", 60, true]);
    match(later.message, /\(route `B`, attempt 2, status 503/);
  },

  async "a listener may add others, which hear of the next event"(t) {
    const client = t.client("http://127.0.0.1:9", { fetch: async () => new Response("{}", { status: 402 }) });
    let heard = 0;
    const listen = () => {
      const off = client.on("stopped", () => (heard++, off(), listen()));
    };
    listen();
    await rejection(client.chat.completions.create(ask()));
    equal(heard, 1);
  },

  async "a listener that was added twice hears twice, until each is taken away"(t) {
    const client = t.client("http://127.0.0.1:9", { fetch: async () => new Response("{}", { status: 402 }) });
    let heard = 0;
    const listener = () => void heard++;
    const offs = [1, 2].map(() => client.on("stopped", listener));
    const refuse = async () => (client.resume(), rejection(client.chat.completions.create(ask())));
    for (const expected of [2, 3, 3]) {
      await refuse();
      equal(heard, expected);
      offs.pop()?.();
    }
  },

  "a key in a browser needs to be allowed"(t) {
    const { ConfigError, Tidegate } = t.tidegate;
    new Tidegate({ apiKey: "sk-1", dangerouslyAllowBrowser: true });
    new Tidegate({ baseURL: "https://proxy.example/api" });
    if (t.browser) {
      ok(throws(() => new Tidegate({ apiKey: "sk-1" }), /^ConfigError: Expected no `apiKey` in a browser/) instanceof ConfigError);
    } else {
      new Tidegate({ apiKey: "sk-1" });
    }
  },

  async "the global fetch is the one there is when a call is sent, as a test may have put another in its place"(t) {
    // Where it could not be put back as it was.
    if (globalThis.EdgeRuntime) return;
    const url = "http://127.0.0.1:9/mocked";
    const client = t.client(url);
    const own = globalThis.fetch;
    const place = Object.getOwnPropertyDescriptor(globalThis, "fetch");
    // Other cases run at the same time.
    globalThis.fetch = async (input, init) => (String(input).startsWith(url) ? new Response(answer("mocked")) : own.call(globalThis, input, init));
    try {
      equal((await client.chat.completions.create(ask())).choices[0].message.content, "mocked");
    } finally {
      if (place === undefined) delete globalThis.fetch;
      else Object.defineProperty(globalThis, "fetch", place);
    }
  },

  // Of somebody's own, as from a framework that wraps it.
  async "a custom fetch is called as a plain function"(t) {
    const sim = await t.simulate();
    const receivers = [];
    const client = t.client(sim.url, {
      fetch: function (...args) {
        receivers.push(this);
        return fetch(...args);
      },
    });
    ok(await client.chat.completions.create(ask()));
    ok(await textOf(await client.chat.completions.create(STREAMING)));
    // In a bundle that is not strict, a plain function's receiver is the global object.
    ok(receivers.every((receiver) => receiver === undefined || receiver === globalThis));
  },
};
