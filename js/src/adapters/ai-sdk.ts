/**
 * The AI SDK (`ai`) through the gate.
 *
 * ```ts
 * const deepseek = createDeepSeek(providerSettings(client));
 * ```
 *
 * @packageDocumentation
 */
import type { Tidegate } from "../client.js";
import { NO_KEY, fetchUnder, type AdapterOptions } from "./under.js";

export type { AdapterOptions } from "./under.js";

/** What `createDeepSeek(…)` and its like are to be given. */
export interface ProviderSettings {
  baseURL: string;
  /** A placeholder: the key stays with the client. */
  apiKey: string;
  fetch: typeof globalThis.fetch;
}

/**
 * The settings that make a provider of the AI SDK send its calls through `client`: `createDeepSeek(providerSettings(client))`,
 * and likewise `createOpenAICompatible({ name, ...providerSettings(client) })`.
 *
 * Retries are the gate's alone, whatever `maxRetries` says: what the gate has given up rejects with its `TidegateError`,
 * which the AI SDK passes on at once. A refusal that no retry would change (400, 401, 402 …) is an `APICallError`, as ever.
 *
 * One call is treated otherwise by its headers: `generateText({ model, prompt, headers: { "tidegate-workload": "eval",
 * "tidegate-timeout": "60000" } })`.
 *
 * @param options How its calls are treated, such as `{ workload: "chat" }`.
 * @throws {InvalidRequestError} If an option makes no sense, or the client is none.
 */
export function providerSettings(client: Tidegate, options: AdapterOptions = {}): ProviderSettings {
  const fetch = fetchUnder(client, options, (error, like) => {
    // The AI SDK would try a 429 or 500 again.
    if (error.isRetryable || like === undefined) throw error;
    return like;
  });
  return { baseURL: client.baseURL, apiKey: NO_KEY, fetch: fetch as typeof globalThis.fetch };
}
