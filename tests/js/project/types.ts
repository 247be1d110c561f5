import module from "tidegate/core.wasm";
import { type ChatParams, CoreUnavailableError, Tidegate, type Tool, setCoreModule } from "tidegate";
import { type ProviderSettings, providerSettings } from "tidegate/ai-sdk";
import { type ChatOpenAIOptions, chatOpenAIOptions, openaiOptions } from "tidegate/openai";

setCoreModule(module);
const client = new Tidegate({ apiKey: "sk-simulated" });

/** What comes of an environment is there or not. */
export function configured({ KEY: apiKey, URL: baseURL }: Record<string, string | undefined>): Tidegate {
  const headers = new Headers();
  return new Tidegate({ apiKey, baseURL, headers, timeout: undefined, clocks: { idle: undefined }, routes: [{ apiKey, name: undefined }] });
}

export async function answer(signal: AbortSignal): Promise<string | null | undefined> {
  const reply = await client.chat.completions.create({ model: "m", messages: [{ role: "user", content: "?" }] }, { signal });
  return reply.choices[0]?.message.content;
}

export async function* pieces(): AsyncGenerator<string> {
  const stream = await client.chat.completions.create({ model: "m", messages: [], stream: true });
  for await (const chunk of stream) yield chunk.choices[0]?.delta.content ?? "";
}

/** Nor is every field of a request, whatever `exactOptionalPropertyTypes` says. */
export function asked(temperature?: number, user_id?: string, tools?: Tool[]): ChatParams {
  return { model: "m", messages: [{ role: "user", content: "?", name: undefined }], temperature, user_id, tools, stream: undefined };
}

export const response: Promise<Response> = client.fetch("https://api.deepseek.com/models", { method: "GET" });
export const known: boolean = new Error() instanceof CoreUnavailableError;

export const under: [ProviderSettings, ChatOpenAIOptions] = [providerSettings(client), chatOpenAIOptions(client, { workload: "chat" })];
export const noRetries: 0 = openaiOptions(client).maxRetries;

// @ts-expect-error An option that there is not.
new Tidegate({ apiKey: "sk-simulated", retries: 3 });
/** Fields can be left out of a request's type, and named ones are still looked at. */
export function toOneModel(request: Omit<ChatParams, "model">, headers: Record<string, string | undefined>): Promise<unknown> {
  return client.chat.completions.create({ ...request, model: "m", of_ones_own: 1 }, { headers });
}

/** Any function that does what `fetch` does, whatever else a runtime's own has. */
export const wrapped = new Tidegate({ apiKey: "sk-simulated", fetch: async (input, init) => fetch(input, init) });

export async function details(): Promise<(number | undefined)[]> {
  const { usage } = await client.chat.completions.create({ model: "m", messages: [] });
  return [usage?.completion_tokens_details?.accepted_prediction_tokens, usage?.prompt_tokens_details?.audio_tokens];
}

// @ts-expect-error A request's own fields have their types.
void client.chat.completions.create({ model: "m", messages: [], temperature: "hot" });
