// What the tests with other people's SDKs stand on: the behaviour tests' support, and the adapters of the same package.
import { join } from "node:path";

export * from "../behaviour/support.js";

const from = process.env.TIDEGATE_PACKAGE;
const adapter = (name) => import(from === undefined ? `tidegate/${name}` : new URL(`file://${join(from, `dist/adapters/${name}.js`)}`).href);

export const { chatOpenAIOptions, openaiOptions } = await adapter("openai");
export const { providerSettings } = await adapter("ai-sdk");

/** A cap that moves while `service` takes its time: what makes SDKs of their own lose calls. */
export const MOVING = {
  cap: { steps: { points: [[0, 32], [0.6, 8], [1.5, 24]], repeat: 2.5 } },
  service: { time: { uniform: [0.05, 0.25] }, output_tokens: 40, chunk_tokens: 4 },
};

export const weather = {
  name: "get_weather",
  description: "The weather in a city.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

/** How many of `promises` ended well, and with what the others failed. */
export async function settle(promises) {
  const results = await Promise.allSettled(promises);
  return {
    values: results.filter(({ status }) => status === "fulfilled").map(({ value }) => value),
    errors: results.filter(({ status }) => status === "rejected").map(({ reason }) => reason),
  };
}
