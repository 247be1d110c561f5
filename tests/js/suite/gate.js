import { deepEqual, equal, fail, match, ok, rejection } from "./assert.js";
import { FAST, STREAMING, ask, delta, event, finish, sleep, textOf, until } from "./support.js";

export const gate = {
  async "client.fetch is a fetch that holds its permit until the body has ended"(t) {
    const echo = { headers: { "x-own": "kept" }, body: ["echo ", 200, { echo: "body" }] };
    const server = await t.serve(echo);
    const client = t.client(`${server.url}/v1`, { maxConcurrency: 1 });
    const init = { method: "POST", body: JSON.stringify({ model: "m" }), headers: { authorization: "Bearer theirs" } };
    const input = new Request(`${server.url}/v1/things?x=1`, init);
    const response = await client.fetch(input);
    equal(response.url, input.url);
    equal(response.headers.get("x-own"), "kept");
    equal(client.metrics().inFlight, 1);
    equal(await response.text(), 'echo {"model":"m"}');
    equal(client.metrics().inFlight, 0);
    equal(client.metrics().models[0].name, "m");
    const [{ url, authorization }] = await server.requests();
    deepEqual([url, authorization], ["/v1/things?x=1", "Bearer sk-simulated-0123456789"]);
    const cancelled = await client.fetch(`${server.url}/v1/x`);
    await cancelled.body.cancel();
    equal(client.metrics().inFlight, 0);
    const outside = await rejection(client.fetch("http://127.0.0.1:9/v1/x"));
    match(outside.message, /^Expected a URL under the base URL of a route, got one at `127\.0\.0\.1:9\/v1\/x`$/);
    await (await client.fetch(`${server.url}/v1/x?page=2`)).text();
    await (await client.fetch(`${server.url}/v1/x/1?page=2/3`)).text();
    deepEqual(client.metrics().models.map(({ name }) => name), ["m", "/x"], "one limit, whatever the query and the ids");
  },

  async "client.fetch sends a Request as it was made, but with the signal that stands beside it"(t) {
    const names = ["cache", "credentials", "keepalive", "mode"];
    const sent = [];
    const fetch = async (_url, init) => (sent.push(init), new Response("{}"));
    const client = t.client("http://127.0.0.1:9", { fetch });
    // Not every runtime knows each of them.
    const made = [{}, { cache: "no-store" }, { credentials: "include" }, { keepalive: true }].flatMap((init) => {
      try {
        return [new Request("http://127.0.0.1:9/x", init)];
      } catch {
        return [];
      }
    });
    for (const request of made) {
      await (await client.fetch(request)).text();
      deepEqual(names.map((name) => sent.at(-1)[name]), names.map((name) => request[name]));
    }
    const controller = new AbortController();
    const request = new Request("http://127.0.0.1:9/x", { signal: controller.signal });
    const call = client.fetch(request, { signal: null });
    controller.abort();
    equal(await (await call).text(), "{}");
  },

  async "client.fetch takes a Request beside a URL, as proxies write it"(t) {
    const server = await t.serve({ body: [{ echo: "method" }, " ", { echo: "body" }] });
    const made = new Request(`${server.url}/theirs`, { method: "POST", body: "hello", headers: { "content-type": "text/x" } });
    const response = await t.client(server.url).fetch(`${server.url}/ours`, made);
    const [{ url }] = await server.requests();
    // Firefox gives a Request's body to nobody but its `fetch`.
    deepEqual([url, await response.text()], ["/ours", made.body === undefined ? "POST " : "POST hello"]);
  },

  async "who reads events to the last of them, and no further, holds no place"(t) {
    const events = [event(delta({ content: "all" })) + event(finish()) + event("[DONE]")];
    const server = await t.serve({ headers: { "content-type": "text/event-stream" }, body: events });
    const client = t.client(server.url, { maxConcurrency: 1 });
    for (let i = 0; i < 2; i++) {
      const response = await client.fetch(`${server.url}/chat/completions`, { method: "POST", body: JSON.stringify(STREAMING) });
      const reader = response.body.getReader();
      let text = "";
      while (!text.includes("[DONE]")) text += new TextDecoder().decode((await reader.read()).value);
      await until(() => client.metrics().inFlight === 0, "the place to come back");
      equal((await reader.read()).done, true);
    }
    equal(client.metrics().total.completed, 2);
  },

  async "what breaks off behind the last piece that was read is told at the next, and holds no place"(t) {
    const server = await t.serve({ body: ["half", 200], end: "broken" });
    const client = t.client(server.url);
    const response = await client.fetch(`${server.url}/x`);
    const reader = response.body.getReader();
    await reader.read();
    await until(() => client.metrics().inFlight === 0, "the place to come back");
    equal((await rejection(reader.read())).type, "interrupted");
  },

  async "a server's refusal comes whole, from where it was given, and so does a clone"(t) {
    const long = "x".repeat(200_000);
    const server = await t.serve({ status: 404, body: long }, { body: "ok" });
    const client = t.client(server.url);
    const refused = await client.fetch(`${server.url}/x`);
    deepEqual([refused.status, refused.url, (await refused.text()).length], [404, `${server.url}/x`, long.length]);
    const clone = (await client.fetch(`${server.url}/x`)).clone();
    deepEqual([clone.url, clone.clone().url, await clone.text()], [`${server.url}/x`, `${server.url}/x`, "ok"]);
  },

  async "a body goes along where a redirect keeps the method"(t) {
    const target = await t.serve({ body: [{ echo: "body" }] });
    const server = await t.serve({ status: 307, headers: { location: `${target.url}/there` } });
    const init = { method: "POST", body: '{"model":"m"}', headers: { "content-type": "application/json" } };
    equal(await (await t.client(server.url).fetch(`${server.url}/x`, init)).text(), init.body);
    equal(await server.count(), 1);
  },

  async "a key of another kind goes to no other provider than the caller meant"(t) {
    const [down, other] = [await t.serve({ status: 503, body: "{}" }), await t.serve({ body: "ok" })];
    const routes = [down, other].map(({ url }, at) => ({ name: `${at}`, baseURL: url, headers: { "api-key": "the-route's" } }));
    const client = t.client(undefined, { apiKey: undefined, baseURL: undefined, routes });
    const headers = { "x-api-key": "secret", "api-key": "secret", "x-own": "kept" };
    equal(await (await client.fetch(`${down.url}/x`, { headers })).text(), "ok");
    const sent = (await Promise.all([down, other].map((server) => server.requests()))).map(([{ headers }]) => headers);
    const found = (names) => ["x-api-key", "api-key", "x-own"].map((name) => names.includes(name));
    deepEqual(sent.map(found), [[true, true, true], [false, true, true]], "but its own");
  },

  async "the limits that Node's fetch has of its own do not end what the clocks allow"(t) {
    await fetch("data:,").catch(() => {});
    const place = Symbol.for(`undici.globalDispatcher.${parseInt(globalThis.process?.versions?.undici) < 8 ? 1 : 2}`);
    const own = globalThis[place];
    if (own === undefined || globalThis.Bun || globalThis.Deno) return;
    const server = await t.serve({ wait: 2500, body: "late" }, { body: ["late", 2500, "r"] }, { wait: 2500, body: "late" }, { body: ["late", 2500, "r"] });
    globalThis[place] = new own.constructor({ headersTimeout: 400, bodyTimeout: 400 });
    try {
      const text = async (fetch) => (await fetch(`${server.url}/x`)).text();
      const theirs = [rejection(text(fetch))];
      await server.arrived(1);
      theirs.push(rejection(text(fetch)));
      await server.arrived(2);
      const client = t.client(server.url);
      const ours = [text(client.fetch)];
      await server.arrived(3);
      ours.push(text(client.fetch));
      for (const error of await Promise.all(theirs)) match(String(error.cause), /(Headers|Body)TimeoutError/);
      deepEqual(await Promise.all(ours), ["late", "later"]);
      let dispatched = 0;
      const dispatcher = { dispatch: (...args) => (dispatched++, own.dispatch(...args)) };
      equal(await (await client.fetch(`${server.url}/x`, { dispatcher })).text(), "later");
      equal(dispatched, 1, "one of the caller's own stays");
    } finally {
      globalThis[place] = own;
    }
  },

  async "client.fetch hands a redirect on that is not to be followed, or that it was one"(t) {
    const server = await t.serve({ status: 302, headers: { location: "/elsewhere" } });
    const { status, type } = await t.client(server.url).fetch(`${server.url}/x`, { redirect: "manual" });
    // Browsers show no more of it.
    if (type === "error") equal(status, 0);
    else equal(status, 302);
    equal(await server.count(), 1);
  },

  async "client.fetch rejects at once where a redirect is not wanted"(t) {
    const server = await t.serve({ status: 302, headers: { location: "/elsewhere" } });
    const client = t.client(server.url);
    const error = await rejection(client.fetch(`${server.url}/x`, { redirect: "error" }));
    // Workers have no such mode, and say so before anything is sent.
    if (error instanceof t.tidegate.TidegateError) deepEqual([error.type, error.attemptsMade, await server.count()], ["refused", 1, 1]);
    else ok(error instanceof TypeError && (await server.count()) === 0, String(error));
    deepEqual([client.metrics().inFlight, client.metrics().queued], [0, 0]);
  },

  async "a body that never ends is given up with its request"(t) {
    const client = t.client("http://127.0.0.1:9", { fetch: () => fail("it was sent") });
    const endless = () => ({ method: "POST", body: new ReadableStream({ cancel: (reason) => told.push(reason) }), duplex: "half" });
    const told = [];
    const url = "http://127.0.0.1:9/x";
    const controller = new AbortController();
    const { signal } = controller;
    const calls = [client.fetch(url, { ...endless(), signal })];
    // Firefox takes a stream for its name.
    const input = new Request(url, { ...endless(), signal });
    const isText = input.headers.has("content-type");
    if (!isText) calls.push(client.fetch(input));
    const gone = calls.map(rejection);
    // What has no end hangs on nothing but its signal.
    await sleep(20);
    globalThis.gc?.();
    await sleep(20);
    controller.abort("enough");
    deepEqual(await Promise.all(gone), calls.map(() => "enough"));
    // What a request was made of hears of it only where its runtime sees to that.
    await until(() => told.includes("enough"), "the stream to be told");
    deepEqual([client.metrics().inFlight, client.metrics().queued], [0, 0]);
  },

  async "whatever a custom fetch answers, and however, the call ends and its permit comes back"(t) {
    const stream = (chunk = new TextEncoder().encode("x")) =>
      new ReadableStream({ start: (out) => (out.enqueue(chunk), out.close()) });
    const like = (more) => ({ ok: true, status: 200, headers: new Headers(), body: stream(), ...more });
    const read = new Response("x");
    await read.text();
    const answers = [
      ...[204, 205, 999].map((status) => () => like({ status })),
      ...[101, 304, 999].map((status) => () => like({ ok: false, status })),
      ...[() => [], () => new Map(), () => null].map((headers) => () => like({ headers: headers() })),
      ...["text", 3, null, new DataView(new ArrayBuffer(3))].map((chunk) => () => like({ body: stream(chunk) })),
      () => like({ statusText: "no\nline" }),
      () => like({ get body() { throw new Error("no body") } }),
      () => new Proxy(new Response("x"), {}),
      () => Response.error(),
      () => read,
      () => undefined,
      () => { throw new Error("no promise either"); },
      async () => { throw undefined; },
    ];
    const url = "http://127.0.0.1:9";
    for (const fetch of answers) {
      const client = t.client(url, { fetch, maxAttempts: 1 });
      const calls = [client.fetch(`${url}/x`).then((response) => response.text())];
      for (const stream of [false, true]) calls.push(client.chat.completions.create(ask("", { stream })));
      await Promise.allSettled(calls);
      const { inFlight, queued, backingOff } = client.metrics();
      deepEqual([inFlight, queued, backingOff], [0, 0, 0], String(fetch));
    }
    const odd = t.client(url, { fetch: () => like({ ok: false, status: 999 }), maxAttempts: 1 });
    equal((await rejection(odd.fetch(`${url}/x`))).type, "server", "no Response can say so");
    const client = t.client(url, { fetch: () => new Response("no promise") });
    equal(await (await client.fetch(`${url}/x`)).text(), "no promise");
  },

  async "client.fetch sends a body that is a stream"(t) {
    const server = await t.serve({ body: ["echo ", { echo: "body" }] });
    const client = t.client(`${server.url}/v1`);
    const bytes = new TextEncoder().encode("streamed");
    const body = () => new ReadableStream({ start: (out) => (out.enqueue(bytes), out.close()) });
    const up = await client.fetch(new URL(`${server.url}/v1/up`), { method: "PUT", body: body() });
    equal(await up.text(), "echo streamed");
    const requested = async (init) => new Request(`${server.url}/v1/up`, init);
    const error = await rejection(client.fetch(`${server.url}/v1/up`, { body: body() }));
    // All but Bun's refuse it themselves.
    const own = await requested({ body: bytes }).catch((error) => error);
    equal(error.constructor, own instanceof Error ? own.constructor : t.tidegate.ConnectionError);
  },

  async "the openai package runs through the gate"(t) {
    const { OpenAI } = t;
    const sim = await t.simulate({ cap: 4, service: { ...FAST, time: 0.02 } });
    const client = t.client(sim.url);
    const openaiOf = (url, fetch, maxRetries = 0) =>
      new OpenAI({ apiKey: "unused", baseURL: url, fetch, maxRetries, dangerouslyAllowBrowser: true });
    const openai = openaiOf(sim.url, client.fetch);
    const answers = await Promise.all(Array.from({ length: 40 }, () => openai.chat.completions.create(ask())));
    ok(answers.every((answer) => answer.choices[0].finish_reason === "stop"));
    ok(await textOf(await openai.chat.completions.create(STREAMING)));
    deepEqual([client.metrics().total.completed, client.metrics().inFlight], [41, 0]);
    const stream = await openai.chat.completions.create(STREAMING);
    for await (const chunk of stream) if (chunk) break;
    await until(() => client.metrics().inFlight === 0, "the permit to be freed");

    const error = '{"error":{"message":"no"}}';
    const bad = await t.serve({ status: 400, body: error }, { status: 500, body: error });
    const retrying = openaiOf(bad.url, t.client(bad.url, { maxAttempts: 1 }).fetch, 2);
    ok((await rejection(retrying.chat.completions.create(ask()))) instanceof OpenAI.BadRequestError);
    equal((await rejection(retrying.chat.completions.create(ask()))).status, 500);
    equal(await bad.count(), 2, "its own retries are not stacked on ours");

    const hanging = await t.serve({ head: false, end: "open" });
    const controller = new AbortController();
    const hung = openaiOf(hanging.url, t.client(hanging.url).fetch);
    const call = hung.chat.completions.create(ask(), { signal: controller.signal });
    setTimeout(() => controller.abort(), 50);
    ok((await rejection(call)) instanceof OpenAI.APIUserAbortError);
  },

  async "schedule runs tasks as permits allow, once each"(t) {
    const client = t.client("http://127.0.0.1:9", { maxConcurrency: 3 });
    let running = 0;
    let most = 0;
    const task = (value) => async () => {
      most = Math.max(most, ++running);
      await sleep(5);
      running--;
      return value;
    };
    const results = await Promise.all(Array.from({ length: 20 }, (_, i) => client.schedule(task(i))));
    deepEqual(results, Array.from({ length: 20 }, (_, i) => i));
    equal(most, 3);
    let runs = 0;
    const fault = Object.assign(new Error("429 slow down"), { status: 429 });
    const error = await rejection(client.schedule(() => (runs++, Promise.reject(fault)), { model: "m" }));
    deepEqual([error, runs], [fault, 1]);
    equal(client.metrics().total.slotRejections, 1);
    const thrown = client.schedule(() => {
      throw fault;
    }, { model: "m" });
    equal(await rejection(thrown), fault, "a task may throw at once");
    deepEqual([client.metrics().inFlight, client.metrics().queued], [0, 0]);
    for (const headers of [{ "retry-after": "30" }, new Headers({ "retry-after": "30" })]) {
      const model = `asks to wait in ${headers.constructor.name}`;
      await rejection(client.schedule(() => Promise.reject({ status: 429, headers }), { model }));
      const waiting = client.schedule(() => {}, { model, timeout: 20 });
      equal(client.metrics().lanes.find((lane) => lane.model === model).heldBy, "pause");
      equal((await rejection(waiting)).type, "deadline");
    }
    match((await rejection(client.schedule(3))).message, /^Expected the task to be a function, got 3$/);
    const controller = new AbortController();
    const waiting = [1, 2, 3, 4].map(() => client.schedule(() => sleep(200), { signal: controller.signal }));
    const last = rejection(waiting[3]);
    await until(() => client.metrics().inFlight === 3, "three to run");
    controller.abort("stop");
    equal(await last, "stop");
    equal(client.metrics().inFlight, 3, "tasks that run keep their permits");
    await Promise.all(waiting.slice(0, 3));
    equal(client.metrics().inFlight, 0);
  },

  async "what an SDK in a task says of a 429 is learned, whatever else it says"(t) {
    const client = t.client("http://127.0.0.1:9");
    const headers = [{ ":status": "429", "retry-after": "1" }, [["retry-after", "1"]], new Headers({ "retry-after": "1" }), 3, undefined];
    for (const given of headers) {
      const thrown = Object.assign(new Error("busy"), { status: 429, headers: given });
      equal(await rejection(client.schedule(() => Promise.reject(thrown), { model: `m${headers.indexOf(given)}` })), thrown);
    }
    const { slotRejections, rateRejections } = client.metrics().total;
    equal(slotRejections + rateRejections, headers.length);
  },

  async "a task that throws what can't be looked into gives its permit back"(t) {
    const client = t.client("http://127.0.0.1:9", { maxConcurrency: 1 });
    const closed = {
      get status() {
        throw new Error("not to be looked at");
      },
    };
    const overload = { status: 503, code: "busy" };
    const odd = [undefined, null, closed, Object.assign(Object.create(null), overload), Object.assign(new Error("x"), { message: 3 }, overload)];
    for (const [model, thrown] of odd.entries()) {
      equal(await rejection(client.schedule(() => Promise.reject(thrown), { model: `m${model}` })), thrown);
      deepEqual([client.metrics().inFlight, client.metrics().queued], [0, 0]);
    }
  },

  async "a task's timeout is for its wait: one that runs keeps its permit until it ends"(t) {
    const client = t.client("http://127.0.0.1:9", { maxConcurrency: 1, timeout: 1000 });
    let end;
    const long = client.schedule(() => new Promise((resolve) => (end = resolve)));
    const waiting = rejection(client.schedule(() => {}));
    equal((await waiting).type, "deadline");
    await sleep(50);
    equal(client.metrics().inFlight, 1);
    end("done");
    equal(await long, "done");
    const { total, inFlight } = client.metrics();
    deepEqual([total.completed, total.failed, inFlight], [1, 1, 0]);
  },

  async "client.fetch that is given up at once rejects with the reason itself"(t) {
    const client = t.client("http://127.0.0.1:9");
    const controller = new AbortController();
    const call = client.fetch("http://127.0.0.1:9/x", { method: "POST", body: "x", signal: controller.signal });
    controller.abort("enough");
    equal(await rejection(call), "enough");
  },

  async "where requests may not wake one another, every call looks for itself"(t) {
    const sim = await t.simulate({ cap: 1, service: { ...FAST, time: 0.02 } });
    // As on Vercel's edge; on Workers it is so already.
    const had = Object.getOwnPropertyDescriptor(globalThis, "EdgeRuntime");
    if (had === undefined) globalThis.EdgeRuntime = "test";
    const client = t.client(sim.url, { maxConcurrency: 1, clocks: { firstContent: 5000 } });
    if (had === undefined) delete globalThis.EdgeRuntime;
    const answers = await Promise.all(Array.from({ length: 8 }, () => client.chat.completions.create(ask())));
    equal(answers.length, 8);
    ok(await textOf(await client.chat.completions.create(STREAMING)));
    const controller = new AbortController();
    const calls = [client.chat.completions.create(ask()), rejection(client.chat.completions.create(ask(), { signal: controller.signal }))];
    controller.abort("gone");
    equal((await Promise.all(calls))[1], "gone");
    equal((await rejection(client.chat.completions.create(ask("", { max_tokens: 9 }), { timeout: 1 }))).type, "deadline");
  },

  async "connections that fail are tried again, and then say why"(t) {
    // Nothing listens on the port of a server that has ended.
    const gone = await t.serve({});
    await gone.stop();
    const client = t.client(gone.url, { maxAttempts: 2 });
    const error = await rejection(client.chat.completions.create(ask()));
    ok(error instanceof t.tidegate.ConnectionError, String(error));
    equal(error.attemptsMade, 2);
    const whole = event(delta({ content: "x" })) + event(finish());
    const flaky = await t.serve({ head: false, end: "broken" }, { body: whole });
    equal(await textOf(await t.client(flaky.url).chat.completions.create(STREAMING)), "x");
  },
};
