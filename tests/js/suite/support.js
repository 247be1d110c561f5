// What the cases stand on. Nothing in here or in the cases knows the runtime it runs in: the servers live in the process
// that runs the suite, and are asked for over HTTP.

/** A request's body, and the answer to it. */
export const ask = (content = "Say something.", more = {}) => ({
  model: "deepseek-flash",
  messages: [{ role: "user", content }],
  ...more,
});
export const STREAMING = ask("Stream.", { stream: true });

/** Server-sent events of a chunk, an object or text as it is. */
export const event = (chunk) => `data: ${typeof chunk === "string" ? chunk : JSON.stringify(chunk)}\n\n`;
const chunk = (choice, more) => ({
  id: "1",
  object: "chat.completion.chunk",
  created: 1,
  model: "m",
  choices: [{ index: 0, ...choice }],
  ...more,
});
export const delta = (delta, more = {}) => chunk({ delta, finish_reason: null }, more);
export const finish = (reason = "stop", more = {}) => chunk({ delta: {}, finish_reason: reason }, more);
/** A whole answer. */
export const answer = (content, more = {}) =>
  JSON.stringify({ choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop" }], ...more });

/** Answers of a few tokens, at once. */
export const FAST = { first_token: 0.02, tokens_per_second: 2000, output_tokens: 40, chunk_tokens: 4 };

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `found` is true. */
export async function until(found, what, ms = 10_000) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(10)) if (await found()) return;
  throw new Error(`waited ${ms} ms for ${what}`);
}

export async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? chunk.choices[0]?.text ?? "";
  return text;
}

/** Posts and gets JSON. As text, which browsers send to other origins without asking first. */
export async function tell(url, body, method = body === undefined ? "GET" : "POST") {
  const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
  const response = await fetch(url, init);
  const text = await response.text();
  if (!response.ok) throw new Error(`${url}: ${response.status} ${text}`);
  return text === "" ? undefined : JSON.parse(text);
}

/**
 * What a case is given: the package, and servers and clients of its own, which end with it.
 *
 * `environment` says where the suite runs: `tidegate`, `OpenAI` and the adapter as that runtime imported them, `control`, the address
 * of the process that has the servers, `lacks`, what the runtime can't do, `changes`, the globals it changes itself, and
 * `browser`, for what is meant to differ.
 */
export function contextOf(environment) {
  const { tidegate, control } = environment;
  const endings = [];
  return {
    ...environment,
    after: (ending) => void endings.push(ending),

    /** A simulated provider that plays `scenario`. */
    async simulate(scenario = {}) {
      const { id, url } = await tell(`${control}/simulators`, { service: FAST, ...scenario });
      endings.push(() => tell(`${control}/simulators/${id}`, undefined, "DELETE"));
      return {
        url,
        tally: () => tell(`${url}/__sim/tally`),
        play: (scenario) => tell(`${url}/__sim/scenario`, { service: FAST, ...scenario }),
      };
    },

    /** A server that gives one answer after the other, the last again and again; `harness/scripted.js` says what is one. */
    async serve(...answers) {
      const { id, url } = await tell(`${control}/servers`, answers);
      const stop = () => tell(`${control}/servers/${id}`, undefined, "DELETE");
      endings.push(stop);
      const requests = () => tell(`${control}/servers/${id}`);
      const closed = async (number) => (await requests())[number - 1]?.closed === true;
      return {
        url,
        requests,
        count: async () => (await requests()).length,
        open: async () => (await requests()).filter(({ closed }) => !closed).length,
        arrived: (number = 1) => until(async () => (await requests()).length >= number, `request ${number}`),
        stop,
        closed: (number = 1) => until(() => closed(number), `the connection of request ${number} to be closed`),
      };
    },

    /** A client of `url`. */
    client(url, options = {}) {
      const client = new tidegate.Tidegate({
        apiKey: "sk-simulated-0123456789",
        baseURL: url,
        dangerouslyAllowBrowser: true,
        ...options,
      });
      endings.push(() => client.close({ grace: 0 }));
      return client;
    },

    async end() {
      for (const ending of endings.reverse()) await ending();
    },
  };
}
