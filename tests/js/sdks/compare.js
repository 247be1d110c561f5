// How several clients fare with 400 calls against a provider whose limit moves, on real sockets; some minutes.
//
//   make npm && cargo build --features cli && tests/setup/npm-packages tests/js
//   TIDEGATE_PACKAGE=$PWD/pkg node tests/js/sdks/compare.js
import { createDeepSeek } from "@ai-sdk/deepseek";
import { generateText } from "ai";
import OpenAI from "openai";
import pLimit from "p-limit";
import PQueue from "p-queue";
import { openaiOptions, providerSettings, simulate, tidegate } from "./support.js";

const { Tidegate } = tidegate;
const CALLS = 400;
const apiKey = "sk-simulated-0123456789";
const model = "deepseek-flash";
// Of every 44 s: 32 at once for 10, 12 for 10, 40 for 14, 16 for 10.
const scenario = {
  cap: { steps: { points: [[0, 32], [10, 12], [20, 40], [34, 16]], repeat: 44 } },
  service: { time: { uniform: [0.5, 3.5] }, output_tokens: 60 },
};

const ask = (i) => ({ model, messages: [{ role: "user", content: `Question ${i}?` }] });
const sdk = (baseURL, options = {}) => new OpenAI({ apiKey, baseURL, ...options });

/** What guides recommend: three at a time, and a loop of retries around the SDK, inside the limiter. */
function recipe(openai, most) {
  let active = 0;
  const queue = [];
  const limited = async (task) => {
    if (active >= most) await new Promise((resolve) => queue.push(resolve));
    active += 1;
    try {
      return await task();
    } finally {
      active -= 1;
      queue.shift()?.();
    }
  };
  const retried = async (params) => {
    for (let attempt = 0; ; attempt++) {
      try {
        return await openai.chat.completions.create(params);
      } catch (error) {
        if (![429, 500, 502, 503, 504].includes(error.status) || attempt === 5) throw error;
        const seconds = error.headers?.["retry-after"];
        await new Promise((resolve) => setTimeout(resolve, seconds ? seconds * 1000 : Math.min(30_000, 500 * 2 ** attempt) + Math.random() * 750));
      }
    }
  };
  return (params) => limited(() => retried(params));
}

const clients = {
  "tidegate": (url) => {
    const client = new Tidegate({ apiKey, baseURL: url });
    return (i) => client.chat.completions.create(ask(i));
  },
  "openai + openaiOptions(client)": (url) => {
    const openai = new OpenAI(openaiOptions(new Tidegate({ apiKey, baseURL: url })));
    return (i) => openai.chat.completions.create(ask(i));
  },
  "ai + providerSettings(client)": (url) => {
    const deepseek = createDeepSeek(providerSettings(new Tidegate({ apiKey, baseURL: url })));
    return (i) => generateText({ model: deepseek(model), prompt: `Question ${i}?` });
  },
  "openai": (url) => {
    const openai = sdk(url);
    return (i) => openai.chat.completions.create(ask(i));
  },
  "openai, maxRetries: 10": (url) => {
    const openai = sdk(url, { maxRetries: 10 });
    return (i) => openai.chat.completions.create(ask(i));
  },
  "ai": (url) => {
    const deepseek = createDeepSeek({ apiKey, baseURL: url });
    return (i) => generateText({ model: deepseek(model), prompt: `Question ${i}?` });
  },
  "openai in p-limit(32)": (url) => {
    const [openai, limit] = [sdk(url), pLimit(32)];
    return (i) => limit(() => openai.chat.completions.create(ask(i)));
  },
  "openai in p-queue, concurrency 12": (url) => {
    const [openai, queue] = [sdk(url), new PQueue({ concurrency: 12 })];
    return (i) => queue.add(() => openai.chat.completions.create(ask(i)));
  },
  "the guides' recipe, 3 at a time": (url) => {
    const call = recipe(sdk(url), 3);
    return (i) => call(ask(i));
  },
};

const endings = [];
const sim = await simulate({ after: (ending) => endings.push(ending) }, scenario);
console.log(`| client | done after | answered | lost | requests | answered 429 |\n|---|---|---|---|---|---|`);
for (const [name, make] of Object.entries(clients)) {
  if (process.argv[2] && !name.includes(process.argv[2])) continue;
  await sim.play(scenario);
  const call = make(sim.url);
  const started = performance.now();
  const results = await Promise.allSettled(Array.from({ length: CALLS }, (_, i) => call(i)));
  const seconds = (performance.now() - started) / 1000;
  const lost = results.filter(({ status }) => status === "rejected").length;
  const { requests, rejected } = await sim.tally();
  const share = ((100 * (rejected.slot ?? 0)) / requests).toFixed(1);
  console.log(`| ${name} | ${seconds.toFixed(0)} s | ${CALLS - lost} | ${lost} | ${requests} | ${share} % |`);
}
for (const end of endings) end();
process.exit();
