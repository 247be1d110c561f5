// The packages, each as its documentation shows it. A client takes how to reach the provider and the concurrency its user
// would write down, and returns a function that makes one call and throws if it failed. All calls are started at once.

import { setTimeout as sleep } from "node:timers/promises";

const apiKey = "sk-simulated-key";
const model = "deepseek-flash";
const messagesOf = (job) => [{ role: "user", content: `Say something about the number ${job}.` }];
const tagOf = (job) => ({ "x-request-tag": String(job) });

/** What is put under a queue that has no client of its own: fetch, and an error with what an SDK's would have. */
async function ask(url, job) {
  const response = await fetch(`${url}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${apiKey}`, "content-type": "application/json", ...tagOf(job) },
    body: JSON.stringify({ model, messages: messagesOf(job) }),
  });
  const text = await response.text();
  const failed = (message) => Object.assign(new Error(message), { status: response.status, headers: response.headers });
  if (!response.ok) throw failed(`${response.status} ${text}`);
  const answer = JSON.parse(text);
  if (!answer.choices?.[0]?.message?.content || answer.choices[0].finish_reason !== "stop") throw failed("no answer");
  return answer;
}

export const clients = {
  /** Two retries, no limit. */
  async openai({ url }) {
    const { OpenAI } = await import("openai");
    const client = new OpenAI({ apiKey, baseURL: url });
    return (job) => client.chat.completions.create({ model, messages: messagesOf(job) }, { headers: tagOf(job) });
  },

  /** Two retries, no limit. */
  async ai({ url }) {
    const { generateText } = await import("ai");
    const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
    const provider = createOpenAICompatible({ name: "deepseek", apiKey, baseURL: url });
    return (job) => generateText({ model: provider(model), messages: messagesOf(job), headers: tagOf(job) });
  },

  /** p-queue with a concurrency, around p-retry with its ten retries. */
  async "p-queue + p-retry"({ url, concurrency }) {
    const [{ default: PQueue }, { default: pRetry }] = await Promise.all([import("p-queue"), import("p-retry")]);
    const queue = new PQueue({ concurrency });
    return (job) => queue.add(() => pRetry(() => ask(url, job)));
  },

  /** Bottleneck with a concurrency and retries by its `failed` event, which its documentation leaves to the user: five,
   * after a second doubling. A job that waits keeps its place. */
  async bottleneck({ url, concurrency }) {
    const { default: Bottleneck } = await import("bottleneck");
    const limiter = new Bottleneck({ maxConcurrent: concurrency });
    limiter.on("failed", (_error, { retryCount }) => (retryCount < 5 ? 1000 * 2 ** retryCount : undefined));
    return (job) => limiter.schedule(() => ask(url, job));
  },

  /** LangChain's AsyncCaller with a concurrency and its six retries. */
  async langchain({ url, concurrency }) {
    const { AsyncCaller } = await import("@langchain/core/utils/async_caller");
    const caller = new AsyncCaller({ maxConcurrency: concurrency });
    return (job) => caller.call(() => ask(url, job));
  },

  /** The npm package, with no configuration but where to find the provider. */
  async tidegate({ url }) {
    const { Tidegate } = await import(new URL("../../../pkg/dist/index.js", import.meta.url));
    const client = new Tidegate({ apiKey, baseURL: url });
    return (job) => client.chat.completions.create({ model, messages: messagesOf(job) }, { headers: tagOf(job) });
  },
};

/** Runs `jobs` through a client, for `limit` milliseconds at most. */
export async function race(name, { url, concurrency, jobs, limit, begin }) {
  const call = await clients[name]({ url, concurrency });
  await begin();
  const start = performance.now();
  let [answered, lost, last] = [0, 0, 0];
  let why;
  const one = async (job) => {
    try {
      await call(job);
      answered += 1;
      last = performance.now() - start;
    } catch (error) {
      lost += 1;
      why ??= error.message;
    }
  };
  const all = Promise.all(Array.from({ length: jobs }, (_, job) => one(job)));
  await Promise.race([all, sleep(limit)]);
  return { answered, lost, seconds: last / 1000, finished: answered + lost === jobs, why };
}
