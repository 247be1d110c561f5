// The adapters fit the types of the packages they are for.
import { createDeepSeek } from "@ai-sdk/deepseek";
import { ChatOpenAI } from "@langchain/openai";
import OpenAI from "openai";
import { type ChatCompletion, type Completion, Tidegate } from "tidegate";
import { providerSettings } from "tidegate/ai-sdk";
import { chatOpenAIOptions, openaiOptions } from "tidegate/openai";

const client = new Tidegate({ apiKey: "sk-simulated" });

export const openai: OpenAI = new OpenAI(openaiOptions(client, { workload: "chat", clocks: { idle: 60_000 } }));
export const plain: OpenAI = new OpenAI({ apiKey: "unused", baseURL: client.baseURL, fetch: client.fetch, maxRetries: 0 });
export const called = openai.chat.completions.create(
  { model: "deepseek-flash", messages: [] },
  { headers: { "tidegate-workload": "eval" } },
);
export const model = createDeepSeek(providerSettings(client, { workload: "chat" }))("deepseek-flash");
export const chat = new ChatOpenAI({ model: "deepseek-flash", ...chatOpenAIOptions(client) });

// @ts-expect-error An option that there is not.
openaiOptions(client, { worklod: "chat" });

export async function whole(): Promise<[ChatCompletion, Completion]> {
  const stream = await client.chat.completions.create({ model: "deepseek-flash", messages: [], stream: true });
  const fim = await client.completions.create({ model: "deepseek-flash", prompt: "", stream: true });
  return [await stream.finalCompletion((chunk) => chunk.choices[0]?.delta.content), await fim.finalCompletion()];
}
