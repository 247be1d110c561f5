// How several clients fare with 400 calls against a provider whose limit moves, on real sockets; some minutes.
//
//   make npm && cargo build --features cli && tests/setup/npm-packages tests/js
//   TIDEGATE_PACKAGE=$PWD/pkg node tests/js/sdks/compare.js
import { createDeepSeek } from "@ai-sdk/deepseek";
import { generateText } from "ai";
import OpenAI from "openai";
import pLimit from "p-limit";
import PQueue from "p-queue";
import { recipe } from "./recipe.js";
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

/** How long a client would need that knows the limit at every moment, and is as near as can be. */
function oracle() {
  const { points, repeat } = scenario.cap.steps;
  const [low, high] = scenario.service.time.uniform;
  const capAt = (at) => points.findLast(([from]) => from <= at % repeat)[1];
  const ends = [];
  let at = 0;
  for (let sent = 0; sent < CALLS; at += 0.01) {
    while (ends[0] <= at) ends.shift();
    while (ends.length < capAt(at) && sent++ < CALLS) ends.push(at + low + Math.random() * (high - low));
    ends.sort((a, b) => a - b);
  }
  return ends.at(-1);
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
console.log(`A client that knows the limit needs ${oracle().toFixed(0)} s.`);
for (const end of endings) end();
process.exit();
