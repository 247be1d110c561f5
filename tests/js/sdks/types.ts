// The adapters fit the types of the packages they are for, and what is typed by openai is taken by the client itself.
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

interface Saying {
  role: "user" | "assistant";
  content: string;
}

/** Requests as a program has them that comes from openai, or by types of its own. */
export async function moved(
  params: OpenAI.Chat.ChatCompletionCreateParamsNonStreaming,
  streaming: OpenAI.Chat.ChatCompletionCreateParamsStreaming,
  messages: OpenAI.Chat.ChatCompletionMessageParam[],
  tools: OpenAI.Chat.ChatCompletionTool[],
  response_format: OpenAI.ResponseFormatJSONSchema,
  sayings: Saying[],
): Promise<void> {
  const { create } = client.chat.completions;
  const whole: ChatCompletion = await create(params);
  for await (const { choices } of await create(streaming)) choices.forEach(({ delta }) => delta.content);
  await create({ model: "deepseek-flash", messages, tools, response_format });
  await create({ model: "deepseek-flash", messages: sayings, of_another_version: true });
  messages.push(...whole.choices.map(({ message }) => message));
  // @ts-expect-error What is known is looked at all the same.
  await create({ model: "deepseek-flash", messages: [{ role: "usr", content: "?" }] });
  // @ts-expect-error
  await create({ model: "deepseek-flash", messages, temperature: "0.2" });
}

export async function whole(): Promise<[ChatCompletion, Completion]> {
  const stream = await client.chat.completions.create({ model: "deepseek-flash", messages: [], stream: true });
  const fim = await client.completions.create({ model: "deepseek-flash", prompt: "", stream: true });
  return [await stream.finalCompletion((chunk) => chunk.choices[0]?.delta.content), await fim.finalCompletion()];
}
