/// <reference lib="esnext.disposable" preserve="true" />
import { UNDER } from "./copies.js";
import { Gate, makeCore, refuseAborted } from "./driver.js";
import { InvalidRequestError, failed } from "./errors.js";
import { EVENTS, type TidegateEvents } from "./events.js";
import { BEFORE_CONTENT, BEFORE_HEADERS, Exchange, RESET, ask, broken, classify, headerLines, unlessAborted, words, type Wire } from "./exchange.js";
import { limitedFetch, type GateInit } from "./fetch.js";
import { learned, metrics, prometheus, restore, type LearnedLimits, type Metrics } from "./metrics.js";
import { OUTCOME, told, type Report } from "./names.js";
import { CALL, between, callOptions, expected, headersOf, settings, type CallOptions, type Settings, type TidegateOptions } from "./options.js";
import { schedule, type ScheduleOptions } from "./schedule.js";
import { chatWire, fetchUnder, type AdapterOptions, type Failed, type Fetch } from "./sdk.js";
import { Reading, Stream } from "./stream.js";
import { validate } from "./validate.js";
import { wasm } from "./wasm/glue.js";
import type {
  Balance,
  ChatCompletion,
  ChatCompletionChunk,
  ChatParams,
  ChatParamsBase,
  ChatStreamParams,
  Completion,
  CompletionParams,
  CompletionParamsBase,
  CompletionStreamParams,
  Free,
  ModelList,
} from "./types.js";

/** What a request without `max_tokens` is taken to generate, where a quota counts tokens; its usage corrects it. */
const USUAL_COMPLETION = 1024;
/** Questions about an account are answered from a table; who takes longer will not answer. */
const ACCOUNT_TIME = 30_000;

/**
 * A client of DeepSeek and any OpenAI-compatible API. All calls of one client share its queue and what it learned of the
 * provider's limits, so make one and keep it.
 *
 * ```ts
 * const client = new Tidegate({ apiKey });
 * const answer = await client.chat.completions.create({ model: "deepseek-flash", messages });
 * ```
 */
export class Tidegate {
  readonly #gate: Gate;
  readonly #settings: Settings;

  /** Chat. */
  readonly chat: {
    completions: {
      /**
       * Makes a chat call. With `stream: true` it resolves as soon as the first content has come, so that everything that
       * goes wrong before is retried.
       *
       * @throws {TidegateError} As a rejection; so does the signal's reason.
       */
      create(params: ChatParams & Free, options?: CallOptions): Promise<ChatCompletion>;
      create(params: ChatStreamParams & Free, options?: CallOptions): Promise<Stream<ChatCompletionChunk>>;
      create(
        params: (ChatParams | ChatStreamParams) & Free,
        options?: CallOptions,
      ): Promise<ChatCompletion | Stream<ChatCompletionChunk>>;
    };
  };

  /** Fill-in-the-middle. With DeepSeek it goes to the beta base URL. */
  readonly completions: {
    /**
     * Completes a text, with `suffix` in the middle of one.
     *
     * @throws {TidegateError} As a rejection; so does the signal's reason.
     */
    create(params: CompletionParams & Free, options?: CallOptions): Promise<Completion>;
    create(params: CompletionStreamParams & Free, options?: CallOptions): Promise<Stream<Completion>>;
    create(
      params: (CompletionParams | CompletionStreamParams) & Free,
      options?: CallOptions,
    ): Promise<Completion | Stream<Completion>>;
  };

  /** The models of the first route's provider. */
  readonly models: {
    /**
     * Lists them. It neither waits for a permit nor counts as a request in flight; it is tried again for 30 s in all.
     *
     * @throws {TidegateError} As a rejection; so does the signal's reason.
     */
    list(options?: Pick<CallOptions, "signal">): Promise<ModelList>;
  };

  /**
   * Any request through the gate: a `fetch` for other SDKs (`new OpenAI({ apiKey, baseURL, fetch: client.fetch,
   * maxRetries: 0 })`). Turn off the SDK's retries and its timer: what the gate has given up would be asked again, and the
   * wait for a turn be counted.
   *
   * The request's URL must lie under the base URL of one of the routes. What follows the base is sent to whichever route
   * is chosen, with that route's key, headers and name for the model; an `Authorization` header of the request is not
   * sent. Its body is read into memory before it queues, for it may have to be sent again; the signal gives up one that
   * never ends. It is retried until a 2xx head comes; the body after it holds the permit until it has ended, is cancelled
   * or is dropped. Where the call fails and the last attempt had an answer (a refusal, or a 429 or 500 until attempts or
   * time were used up), that answer is the result, with `x-should-retry: false`, which keeps SDKs from asking again; else
   * it rejects with a {@link TidegateError}, as it does with a `RefusedError` where `redirect: "error"` meets a redirect.
   *
   * Where an SDK hands on nothing but headers, `tidegate-workload` and `tidegate-timeout` (in milliseconds) say what
   * `init.tidegate` would; they are not sent.
   */
  readonly fetch: (input: string | URL | Request, init?: GateInit) => Promise<Response>;

  /** @throws {ConfigError} If an option makes no sense; {@link CoreUnavailableError} where WebAssembly is not allowed. */
  constructor(options: TidegateOptions = {}) {
    const checked = settings(options);
    this.#settings = checked;
    this.#gate = new Gate(checked, makeCore(checked.config));
    const gate = this.#gate;
    const chat = async (params: ChatParamsBase & { stream?: boolean | null }, options: CallOptions = {}) =>
      create(gate, checked, chatWire(params), params, options);
    const complete = (params: CompletionParamsBase & { stream?: boolean | null }, options: CallOptions = {}) =>
      create(gate, checked, { path: "/completions", beta: true }, params, options);
    this.chat = { completions: { create: chat as Tidegate["chat"]["completions"]["create"] } };
    this.completions = { create: complete as Tidegate["completions"]["create"] };
    this.models = { list: (options) => account(gate, checked, "/models", options) };
    this.fetch = (input, init) => limitedFetch(gate, input, init);
  }

  /** The first route's base URL. URLs given to {@link fetch} begin so, or as that of another route. */
  get baseURL(): string {
    return (this.#gate.endpoints[0] as Gate["endpoints"][number]).base;
  }

  /** @internal What the adapters stand on. */
  [UNDER](options: AdapterOptions, failed: Failed): Fetch {
    return fetchUnder(this.#gate, options, failed);
  }

  /**
   * What is left on the first route's account (DeepSeek). It passes by the queue, and works on an account that is stopped
   * for lack of money, which is when one asks. It is tried again for 30 s in all.
   *
   * @throws {TidegateError} As a rejection; so does the signal's reason.
   */
  balance(options?: Pick<CallOptions, "signal">): Promise<Balance> {
    return account(this.#gate, this.#settings, "/user/balance", options);
  }

  /**
   * Runs any asynchronous task once a permit is free, and holds the permit until it settles; p-limit's habit, through the
   * gate. The task runs once, in the async context of this call, and its result or error is passed on. An error with a
   * `status` of 429 or 5xx, as SDKs throw, is learned from: a 429 is a measurement of the limit of `model`. A task must not
   * wait for another one: it holds its permit meanwhile, and where all do, none is left.
   *
   * @throws {TidegateError} As a rejection, if the task is never run; so does the signal's reason.
   */
  schedule<T>(task: (signal: AbortSignal | undefined) => T | PromiseLike<T>, options?: ScheduleOptions): Promise<T> {
    return schedule(this.#gate, task, options);
  }

  /** Everything counted so far, and the state of every limit. */
  metrics(): Metrics {
    return metrics(this.#gate.core, this.#gate.now());
  }

  /** The same in Prometheus' text format. */
  prometheus(): string {
    return prometheus(this.metrics());
  }

  /**
   * Calls `listener` with every event of that name. It should be quick.
   *
   * @returns What stops it.
   * @throws {InvalidRequestError} If there is no event of that name.
   */
  on<E extends keyof TidegateEvents>(event: E, listener: (event: TidegateEvents[E]) => void): () => void {
    if (!EVENTS.includes(event)) throw expected("the event", `one of ${EVENTS.join(", ")}`, event);
    if (typeof listener !== "function") throw expected("the listener", "a function", listener);
    return this.#gate.on(event, listener);
  }

  /**
   * What was learned of the limits on requests in flight, to be saved as JSON and given to {@link restore} by the next
   * process. Those of single users and rate limits are not in it.
   */
  snapshot(): LearnedLimits {
    return learned(this.#gate.core);
  }

  /**
   * Takes over what a former process learned of the limits.
   *
   * @throws {InvalidRequestError} If it is not what `snapshot()` of this version returned; what stood before may have been
   * taken over.
   */
  restore(learned: LearnedLimits): void {
    try {
      restore(this.#gate.core, this.#gate.now(), learned);
    } catch (error) {
      throw new InvalidRequestError(`Expected what \`snapshot()\` returned, got something else: ${String(error)}`);
    }
    this.#gate.pump();
  }

  /**
   * Reopens what was stopped (accounts out of money, routes whose key was refused), closes breakers and forgets the waits
   * servers asked for: the balance was topped up, the key mended, the outage is over.
   */
  resume(): void {
    wasm.core_resume(this.#gate.core, this.#gate.now());
    this.#gate.pump();
  }

  /**
   * Closes the client: admits nothing more, rejects every waiting call with a `ClosedError`, lets requests in flight end
   * for at most `grace` milliseconds (default 30,000), then aborts them. It resolves once nothing is in flight.
   */
  async close(options: { grace?: number } = {}): Promise<void> {
    const { grace = 30_000 } = callOptions(options, { grace: between(0, Infinity, false) }) as typeof options;
    await this.#gate.close(grace);
  }

  /** The same as {@link close} with its default grace, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

async function create<T extends { usage?: ChatCompletion["usage"] | null }, C>(
  gate: Gate,
  { deepseek }: Settings,
  place: { path: string; beta: boolean },
  params: (ChatParamsBase | CompletionParamsBase) & Free,
  given: CallOptions,
): Promise<T | Stream<C>> {
  const options = callOptions(given);
  if (typeof params !== "object" || params === null) throw expected("the request", "an object", params);
  validate(params, place.path === "/chat/completions", deepseek);
  const { model, stream } = params;
  let body: string;
  try {
    // The usage is asked for, unless the request says otherwise.
    body = JSON.stringify(stream ? { stream_options: { include_usage: true }, ...params } : params);
    // A `toJSON` may have nothing to say.
    if (!body) throw "it comes to nothing";
  } catch (error) {
    throw new InvalidRequestError(`Expected the request to be serialisable as JSON: ${String(error)}`, { cause: error });
  }
  const headers = headersOf(options.headers ?? {}, "`headers`", InvalidRequestError);
  headers.set("accept", stream ? "text/event-stream" : "application/json");
  headers.set("content-type", "application/json");
  const wire: Wire = { method: "POST", ...place, headers, body };
  const { user_id, max_tokens } = params;
  // Four bytes of JSON to a token is near enough for a first estimate; the answer's usage corrects it.
  const generated = Math.min(typeof max_tokens === "number" ? max_tokens : Infinity, USUAL_COMPLETION);
  const tokens = gate.countsTokens ? Math.ceil(body.length / 4) + generated : 0;
  const call = gate.submit(model, options, tokens, typeof user_id === "string" ? user_id : undefined);
  const exchange = new Exchange(gate, call, wire);
  return stream ? new Stream<C>(await Reading.start<C>(exchange, params)) : ask<T>(exchange);
}

/**
 * What is asked about an account. It passes by the queue: providers limit generation, not this, and the balance is asked
 * for just when the account is stopped.
 */
async function account<T>(gate: Gate, { maxAttempts }: Settings, path: string, given: Pick<CallOptions, "signal"> = {}): Promise<T> {
  const { signal } = callOptions(given, { signal: CALL.signal });
  const begun = gate.now();
  const controller = new AbortController();
  const abort = () => controller.abort(signal?.reason);
  refuseAborted(signal);
  gate.refuseClosed();
  // Where requests are isolated, one that is over could not take it out again.
  if (!gate.isolated) gate.aside.add(controller);
  signal?.addEventListener("abort", abort);
  const timer = setTimeout(() => controller.abort(new Error("no answer came within 30 s")), ACCOUNT_TIME);
  try {
    for (let sent = 1; ; sent++) {
      const answer = await inquire<T>(gate, path, controller.signal);
      if ("told" in answer) return answer.told;
      signal?.throwIfAborted();
      gate.refuseClosed();
      const elapsed = (gate.now() - begun) / 1e3;
      const { numbers, words } = answer.report;
      const error = failed({ numbers: Float64Array.of(...numbers, elapsed, sent, 0), words }, gate.endpoints);
      // The calls' own backoff: full jitter, doubling.
      const wait = Math.max(error.retryAfter ?? 0, Math.random() * 0.5 * 2 ** (sent - 1));
      if (!error.isRetryable || sent >= maxAttempts || (elapsed + wait) * 1e3 > ACCOUNT_TIME) throw error;
      await new Promise<void>((resolve) => {
        const again = setTimeout(resolve, wait * 1e3);
        controller.signal.addEventListener("abort", () => (clearTimeout(again), resolve()));
      });
    }
  } finally {
    clearTimeout(timer);
    gate.aside.delete(controller);
    signal?.removeEventListener("abort", abort);
  }
}

async function inquire<T>(gate: Gate, path: string, signal: AbortSignal): Promise<{ told: T } | { report: Report }> {
  const { core } = gate;
  const { base, headers } = gate.endpoints[0] as Gate["endpoints"][number];
  let status = 0;
  let lines = "";
  try {
    const response = await unlessAborted(signal, gate.fetch(base + path, { headers, signal, redirect: "manual" }));
    status = response.status;
    lines = headerLines(response.headers);
    const { kind, json } = classify(core, status, lines, await unlessAborted(signal, response.text()));
    if (kind === 0) return { told: json as T };
  } catch (error) {
    broken(core, RESET, status === 0 ? BEFORE_HEADERS : BEFORE_CONTENT, status, lines, words(error));
  }
  return { report: told(core, OUTCOME) };
}
