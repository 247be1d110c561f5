/**
 * The `openai` package, and what is built on it, through the gate.
 *
 * ```ts
 * const openai = new OpenAI(openaiOptions(client));
 * ```
 *
 * @packageDocumentation
 */
import type { Tidegate } from "../client.js";
import type { TidegateError } from "../errors.js";
import { NO_KEY, fetchUnder, type AdapterOptions } from "./under.js";

export type { AdapterOptions } from "./under.js";

/** The longest time a timer takes, nearly 25 days. */
const NEVER = 0x7fffffff;

/** What `new OpenAI(…)` is to be given. */
export interface OpenAIOptions {
  baseURL: string;
  /** A placeholder: the key stays with the client. */
  apiKey: string;
  fetch: (input: string | URL | Request, init?: RequestInit) => Promise<Response>;
  /** None: the gate's retries are the only ones. */
  maxRetries: 0;
  /** The SDK's own timer is as good as off: it would count the time that a call waits for its turn. */
  timeout: number;
  /** There is no key to be read in a browser. */
  dangerouslyAllowBrowser: true;
}

/** What `new ChatOpenAI(…)` is to be given, beside the model. */
export interface ChatOpenAIOptions {
  apiKey: string;
  /** None: the gate's retries are the only ones. */
  maxRetries: 0;
  timeout: number;
  configuration: OpenAIOptions;
}

/**
 * The options that make an `OpenAI` of the `openai` package send its calls through `client`: `new
 * OpenAI(openaiOptions(client))`. Retries are the gate's alone; the SDK's are off, and so is its timer, for a call may
 * wait long for its turn: a `timeout` in `options`, or the client's, holds for the whole of a call, and the gate's clocks
 * notice a connection that hangs.
 *
 * One call is treated otherwise by its headers: `create(params, { headers: { "tidegate-workload": "eval",
 * "tidegate-timeout": "60000" } })`.
 *
 * Errors are the SDK's own: the server's refusal as the class of its status; out of attempts likewise; no time left as
 * `APIConnectionTimeoutError`, or, if the last attempt was answered 429, 500 or the like, as the class of that; a
 * connection that keeps failing as `APIConnectionError`, whose `cause` is the `TidegateError`. A stream that breaks off
 * throws the `StreamInterruptedError` itself.
 *
 * @param options How its calls are treated, such as `{ workload: "chat" }`.
 * @throws {InvalidRequestError} If an option makes no sense, or the client is none.
 */
export function openaiOptions(client: Tidegate, options: AdapterOptions = {}): OpenAIOptions {
  return {
    // It looks at the client first.
    fetch: fetchUnder(client, options, failed),
    baseURL: client.baseURL,
    apiKey: NO_KEY,
    maxRetries: 0,
    timeout: NEVER,
    dangerouslyAllowBrowser: true,
  };
}

/**
 * The same for LangChain: `new ChatOpenAI({ model, ...chatOpenAIOptions(client) })`. LangChain retries and times by itself
 * on top of the SDK; that is off, too.
 *
 * @throws {InvalidRequestError} If an option makes no sense, or the client is none.
 */
export function chatOpenAIOptions(client: Tidegate, options: AdapterOptions = {}): ChatOpenAIOptions {
  const configuration = openaiOptions(client, options);
  return { apiKey: NO_KEY, maxRetries: 0, timeout: NEVER, configuration };
}

function failed(error: TidegateError, like: Response | undefined): Response {
  if (like !== undefined) return like;
  // The SDK knows a timeout by these words.
  if (error.type === "deadline" || error.type === "first_content_timeout") throw new Error("timed out", { cause: error });
  throw error;
}
