import { deepEqual, equal, match, ok, rejection, throws } from "./assert.js";
import { FAST, STREAMING, ask, delta, event, textOf, until } from "./support.js";

/** The openai package with its adapter, as an application has it. */
function gated({ OpenAI, openaiOptions }, client, options) {
  return new OpenAI(openaiOptions(client, options));
}

export const adapters = {
  async "the openai package answers and streams through its adapter, which does the retries"(t) {
    const sim = await t.simulate({ cap: 4, service: { ...FAST, time: 0.02 }, faults: { blank_body: 0.1 } });
    const client = t.client(sim.url, { maxAttempts: 20 });
    const openai = gated(t, client, { workload: "chat" });
    const answers = await Promise.all(Array.from({ length: 20 }, () => openai.chat.completions.create(ask())));
    ok(answers.every((answer) => answer.choices[0].finish_reason === "stop"));
    ok(await textOf(await openai.chat.completions.create(STREAMING)));
    const { name, completed } = client.metrics().workloads.find(({ name }) => name === "chat");
    deepEqual([name, completed, client.metrics().inFlight], ["chat", 21, 0]);
  },

  async "through the adapter a stream that is left or aborted gives its permit back, and one that ends early is an error"(t) {
    const head = { headers: { "content-type": "text/event-stream" } };
    const server = await t.serve(
      { ...head, body: [event(delta({ content: "half" }))], end: "open" },
      { ...head, body: [event(delta({ content: "half" }))], end: "open" },
      { ...head, body: [": keep-alive\n\nevent: ping\n\n", event(delta({ content: "half" }))] },
    );
    const client = t.client(server.url);
    const openai = gated(t, client);
    for await (const chunk of await openai.chat.completions.create(STREAMING)) if (chunk) break;
    await until(() => client.metrics().inFlight === 0, "the permit to be freed");
    await server.closed(1);
    const controller = new AbortController();
    const stream = await openai.chat.completions.create(STREAMING, { signal: controller.signal });
    setTimeout(() => controller.abort(), 50);
    equal(await textOf(stream), "half");
    await until(() => client.metrics().inFlight === 0, "the permit to be freed");
    const error = await rejection(textOf(await openai.chat.completions.create(STREAMING)));
    deepEqual([error.type, error.partial?.text], ["interrupted", "half"]);
  },

  "the adapter says what it wants"(t) {
    const client = t.client("http://127.0.0.1:9");
    throws(() => t.openaiOptions(), /^InvalidRequestError: Expected the client to be a Tidegate, got undefined$/);
    throws(() => t.openaiOptions(client, { signal: null }), /^InvalidRequestError: Expected a call's options to have no option `signal`;/);
  },

  async "through the adapter errors have the status that the SDK's users know"(t) {
    const server = await t.serve({ status: 402, body: '{"error":{"message":"no money"}}' });
    const client = t.client(server.url);
    const openai = gated(t, client);
    const first = await rejection(openai.chat.completions.create(ask()));
    deepEqual([first.status, first.message], [402, "402 no money"]);
    const second = await rejection(openai.chat.completions.create(ask()));
    equal(second.status, 402);
    match(second.message, /^402 the account is out of money \(route `[^`]*`, nothing was sent/);
    equal(await server.count(), 1);
  },
};
