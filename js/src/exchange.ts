import { ABORT, ALIVE, CONTENT, HEADERS, INTERRUPTED, READING, SEND, type Call, type Gate, type Tokens } from "./driver.js";
import { ConfigError, failed, scrub, secretsOfAll, type ErrorResponse, type Partial } from "./errors.js";
import { lines } from "./lines.js";
import { expected, secretsOf, type Endpoint } from "./options.js";
import type { Usage } from "./types.js";
import { say, wasm, type Core } from "./wasm/glue.js";

/** @internal A request as it is sent to whichever route: everything but where and with which key. */
export interface Wire {
  method: string;
  /** Below the route's base, with a leading slash, and the query. */
  path: string;
  /** Whether it needs the beta base. */
  beta: boolean;
  headers: Headers;
  body: string | Uint8Array<ArrayBuffer> | undefined;
  /** More of what `fetch` takes, from a caller of the gate's `fetch`. */
  init?: RequestInit;
  /** The route that its caller meant, where it brings a key of its own that is no bearer's: no other gets it. */
  home?: Endpoint;
}

/** @internal How much of an error's body is read and kept, in bytes, and how long its rest is waited for, in ms. */
const ERROR_BODY = 2 ** 20;
const ERROR_BODY_TIME = 10_000;
/** How much of it can decide anything. */
const ERROR_TEXT = 16 * 1024;
/** The largest answer that is read, where it is not a stream. */
const MAX_BODY = 256 * 2 ** 20;

/** @internal How a transport fails, by the core's numbers. */
export const CONNECT = 0, RESET = 1, CLOSED_BEFORE_START = 2, CLOSED_MID_STREAM = 3, UNREADABLE = 4;
/** @internal How far it had come by then. */
export const BEFORE_HEADERS = 0, BEFORE_CONTENT = 1, AFTER_CONTENT = 2;

/** @internal What `io` comes to, also where it knows no signal. Rejects with the reason itself if that was aborted, as `fetch`. */
export async function unlessAborted<T>(signal: AbortSignal | null | undefined, io: Promise<T>): Promise<T> {
  let abort = () => {};
  try {
    const aborted = new Promise<never>((_, reject) => {
      abort = reject;
      signal?.addEventListener("abort", abort);
      if (signal?.aborted) reject();
    });
    return await Promise.race([io, aborted]);
  } finally {
    signal?.removeEventListener("abort", abort);
    signal?.throwIfAborted();
  }
}

/** @internal Seconds since 1970, for dates in headers. */
export const unix = (): number => Math.floor(Date.now() / 1000);

/** @internal Headers as the core takes them. Dates are read here, for any host can: `@` and the seconds since 1970. */
export function headerLines(headers: Headers): string {
  let lines = "";
  headers.forEach((value, name) => {
    const zoned = / GMT$|^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$/.test(value);
    const date = zoned || /^\w{3} \w{3} .{16}$/.test(value) ? Date.parse(zoned ? value : `${value} GMT`) : NaN;
    lines += `${name}\n${date >= 0 ? `@${Math.floor(date / 1000)}` : value}\n`;
  });
  return lines;
}

/** @internal Has the core judge a whole answer that is no stream. Returns the outcome's number, 0 for a good one, and the JSON. */
export function classify(core: Core, status: number, headers: string, text: string): { kind: number; json: unknown } {
  let json: unknown;
  let found = "";
  let why = "";
  try {
    json = JSON.parse(text);
    found = lines(json);
  } catch (error) {
    why = excerptless(error);
  }
  // Of a good answer the core needs no text.
  const start = found !== "" && status < 300 ? "" : text.slice(0, ERROR_TEXT);
  say(core, headers, found, why, start);
  return { kind: wasm.core_classify(core, status, unix()), json };
}

/** @internal Has the core judge a broken transport, by its own words. */
export function broken(core: Core, failure: number, phase: number, status: number, headers: string, said: string): void {
  say(core, headers, said);
  wasm.core_broken(core, failure, phase, status);
}

/** @internal Has the core take the answer it judged for one that can't be understood, or for a failure of the server. */
export function malformed(core: Core, why: string, server = false): void {
  say(core, why);
  wasm.core_malformed(core, server);
}

/** @internal A transport's own words, all the way down. */
export function words(error: unknown): string {
  const seen: string[] = [];
  try {
    let at = error as { message?: unknown; code?: unknown; cause?: unknown } | null | undefined;
    // One may be its own cause.
    for (let depth = 0; typeof at?.message === "string" && depth < 4; at = at.cause as typeof at, depth++) {
      const { message, code } = at as { message: string; code?: unknown };
      const text = [message, typeof code === "string" && !message.includes(code) ? code : ""].filter(Boolean).join(" ");
      if (text !== "" && !seen.includes(text)) seen.push(text);
    }
    return seen.join(": ") || String(error);
  } catch {
    // Anything can be thrown, also what can't be made a text of.
    return "";
  }
}

/** @internal Why something is no JSON, without a piece of it: that may be a piece of a key, and its start is shown anyway. */
export const excerptless = (error: unknown): string => words(error).replace(/\0|,? (\.{3})?".*/gs, "");

/** @internal The server's id of a request. */
export const requestId = (headers: Headers): string | null => headers.get("x-ds-trace-id") ?? headers.get("x-request-id");

/** @internal What the tokens in an answer's `usage` are, for the books. */
export function tokens(usage: Usage | null | undefined): Tokens | undefined {
  if (typeof usage !== "object" || usage === null) return undefined;
  const number = (value: unknown) => (typeof value === "number" && value >= 0 ? value : 0);
  const { prompt_tokens, completion_tokens, total_tokens } = usage;
  return {
    prompt: number(prompt_tokens ?? total_tokens - number(completion_tokens)),
    cached: number(usage.prompt_cache_hit_tokens ?? usage.prompt_tokens_details?.cached_tokens),
    completion: number(completion_tokens ?? total_tokens - number(prompt_tokens)),
    reasoning: number(usage.completion_tokens_details?.reasoning_tokens),
  };
}

/** @internal An answer whose status was 2xx, with its body to come. */
export class Opened {
  readonly exchange: Exchange;
  readonly attempt: number;
  readonly response: Response;
  readonly status: number;
  /** As the core takes them. */
  readonly headers: string;
  readonly #controller: AbortController;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  /** The core knows that we wait for content. */
  told = false;

  constructor(exchange: Exchange, attempt: number, response: Response, headers: string, controller: AbortController) {
    this.exchange = exchange;
    this.attempt = attempt;
    this.response = response;
    this.status = response.status;
    this.headers = headers;
    this.#controller = controller;
    this.#reader = response.body?.getReader();
    // By a promise of its own, as a custom `fetch` hears of it: in the async context of the call, not of who ends it.
    void new Promise<void>((resolve) => (exchange.call.disconnect = resolve)).then(() => this.close());
  }

  /** Reports that somebody waits for content. */
  awaited(): void {
    if (this.told) return;
    this.told = true;
    this.exchange.call.report(this.attempt, READING);
  }

  /** The next chunk; `undefined` at the end. Rejects with `INTERRUPTED` if the attempt is over. */
  async read(): Promise<Uint8Array | undefined> {
    if (this.#reader === undefined) return undefined;
    const { value } = await this.exchange.call.guard(this.#reader.read());
    // Also those of another realm.
    if (value !== undefined && (value as { [Symbol.toStringTag]?: string })[Symbol.toStringTag] !== "Uint8Array") {
      throw expected("what an answer's body is made of", "bytes", value);
    }
    return value;
  }

  /** Reports what a chunk brought. */
  arrived(content: boolean): void {
    if (content) this.told = false;
    this.exchange.call.report(this.attempt, content ? CONTENT : ALIVE);
  }

  /** Closes the connection. */
  close(): void {
    this.#controller.abort();
    // Without a signal's help, too; it may have ended or broken by itself.
    this.#reader?.cancel().catch(() => {});
  }

  /** Reports that it broke. */
  broken(failure: number, phase: number, error?: unknown): void {
    const { call, gate } = this.exchange;
    broken(gate.core, failure, phase, this.status, this.headers, error === undefined ? "" : words(error));
    call.ended(this.attempt);
  }

  /** Reports that it came whole, with this finish reason. */
  finished(reason: string | undefined, used: Tokens | undefined): void {
    const { call, gate } = this.exchange;
    say(gate.core, this.headers, reason ?? "");
    wasm.core_finished(gate.core, this.status, unix());
    call.ended(this.attempt, used);
  }
}

/** @internal A call with its request: the loop of sending what the core wants sent and reporting what became of it. */
export class Exchange {
  readonly gate: Gate;
  readonly call: Call;
  readonly wire: Wire;
  /** The last answer that was an error. */
  response: ErrorResponse | undefined;
  /** The headers of the last answer that was none. */
  headers: Headers | undefined;

  constructor(gate: Gate, call: Call, wire: Wire) {
    this.gate = gate;
    this.call = call;
    this.wire = wire;
  }

  /**
   * Goes on until a 2xx head comes; `undefined` if the call is over, and was answered.
   *
   * @throws {TidegateError} If it failed; the signal's reason if it was given up.
   */
  async turn(): Promise<Opened | undefined> {
    try {
      for (;;) {
        const order = await this.call.order();
        if (order === ABORT) continue;
        if (order !== SEND) return this.end();
        const { attempt, route, rename } = this.call;
        const opened = await this.#send(attempt, route, rename);
        if (opened !== undefined) return opened;
      }
    } catch (error) {
      // Whatever it is: nobody is there to use a permit.
      this.call.cancel(undefined);
      throw error;
    }
  }

  /** The end of the call: nothing to say of one that was answered. */
  end(partial?: Partial): undefined {
    const { failure } = this.call;
    if (failure !== undefined) throw failed(failure, this.gate.endpoints, this.#secrets(), this.response, partial);
  }

  /** What no error may show. */
  #secrets(): string[] {
    return [...secretsOfAll(this.gate.endpoints), ...secretsOf(this.wire.headers)];
  }

  async #send(attempt: number, route: number, rename: string | undefined): Promise<Opened | undefined> {
    const { gate, call } = this;
    const controller = new AbortController();
    let response: Response;
    let fetched: Promise<Response> | undefined;
    try {
      fetched = gate.fetch(...request(gate, this.wire, route, rename, controller.signal));
      response = await call.guard(fetched);
    } catch (error) {
      if (error === INTERRUPTED) {
        controller.abort();
        // A `fetch` of somebody's own may know no signal.
        fetched?.then(({ body }) => body?.cancel()).catch(() => {});
        return undefined;
      }
      const said = words(error);
      broken(gate.core, /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|UNREACH/.test(said) ? CONNECT : RESET, BEFORE_HEADERS, 0, "", said);
      // What can't be sent, and redirects that go round in a circle.
      if (/INVALID_ARG|redirect count/.test(said)) wasm.core_final_(gate.core);
      call.ended(attempt);
      return undefined;
    }
    // node-fetch's are streams of Node's own; one that logs what comes may have read it.
    const { headers: found, body: stream } = response ?? {};
    if (!found?.get || (stream && (!stream.getReader || stream.locked || response.bodyUsed))) {
      throw expected("the answer of `fetch`", "a Response whose body is an unread ReadableStream", response, ConfigError);
    }
    const headers = headerLines(response.headers);
    if (response.ok) {
      this.headers = response.headers;
      const opened = new Opened(this, attempt, response, headers, controller);
      call.report(attempt, HEADERS);
      return opened;
    }
    let body: Uint8Array;
    try {
      body = await call.guard(startOf(response));
    } catch {
      // It never rejects but for an order.
      return undefined;
    } finally {
      controller.abort();
    }
    const { status } = response;
    const secrets = this.#secrets();
    const text = scrub(new TextDecoder().decode(body), secrets);
    const shown = new Headers();
    response.headers.forEach((value, name) => shown.append(name, scrub(value, secrets)));
    // Who wants no redirect gets an error, not the answer that redirects. That has no status where a browser hides it.
    const isUnwanted = this.wire.init?.redirect === "error" && [0, 301, 302, 303, 307, 308].includes(status);
    // Of a status above that no `Response` can be made to hand on.
    this.response = isUnwanted || status > 599 ? undefined : { status, headers: shown, body: text, url: response.url };
    classify(gate.core, status, headers, text);
    call.ended(attempt);
    return undefined;
  }
}

/** In which headers some providers take their keys. */
const KEYS = ["x-api-key", "api-key", "x-goog-api-key"];

/** What `fetch` is to be called with. */
function request(
  gate: Gate,
  wire: Wire,
  route: number,
  rename: string | undefined,
  signal: AbortSignal,
): [string, RequestInit] {
  const to = gate.endpoints[route] as Gate["endpoints"][number];
  const headers = new Headers(wire.headers);
  if (wire.home !== undefined && wire.home !== to) for (const name of KEYS) headers.delete(name);
  to.headers.forEach((value, name) => {
    // What a caller of the client says itself has the last word; what another SDK adds may be a key meant for another.
    if (wire.init || name === "authorization" || !headers.has(name)) headers.set(name, value);
  });
  // `error` would look like a connection that broke.
  const redirect = wire.init?.redirect === "follow" ? "follow" : "manual";
  const init: RequestInit = { ...wire.init, redirect, method: wire.method, headers, signal };
  if (wire.body !== undefined) init.body = rename === undefined ? wire.body : renamed(wire.body, rename);
  return [(wire.beta ? to.beta : to.base) + wire.path, init];
}

/** A JSON body with another `model`; its other fields stay as they are and where they are. */
function renamed<T extends string | Uint8Array>(body: T, model: string): T | string {
  try {
    const text = typeof body === "string" ? body : new TextDecoder().decode(body as Uint8Array);
    return JSON.stringify({ ...(JSON.parse(text) as object), model });
  } catch {
    return body;
  }
}

/** The start of an error's body, as much of it as comes. Never rejects. */
async function startOf(response: Response): Promise<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let size = 0;
  const cancel = () => void reader.cancel().catch(() => {});
  const timer = setTimeout(cancel, ERROR_BODY_TIME);
  try {
    while (size < ERROR_BODY) {
      const { value, done } = await reader.read();
      if (done) break;
      chunks.push(value.subarray(0, ERROR_BODY - size));
      size += value.length;
    }
  } catch {
    // What came before it broke has to do.
  } finally {
    clearTimeout(timer);
    cancel();
  }
  return joined(chunks);
}

/** @internal */
export function joined(chunks: Uint8Array[]): Uint8Array {
  if (chunks.length === 1) return chunks[0] as Uint8Array;
  const whole = new Uint8Array(chunks.reduce((size, chunk) => size + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

/**
 * @internal Whether a chunk is nothing but white space, and comments of an event stream where there may be some: what servers
 * send while a request waits.
 */
export function isKeepAlive(chunk: Uint8Array, comments: boolean): boolean {
  let inComment = false;
  for (const byte of chunk) {
    if (byte === 10 || byte === 13) inComment = false;
    else if (comments && byte === 58) inComment = true;
    else if (!inComment && byte !== 32 && byte !== 9) return false;
  }
  return true;
}

/**
 * @internal Sends a request and reads the whole of its answer.
 *
 * @throws {TidegateError}
 */
export async function ask<T extends { usage?: Usage | null | undefined }>(exchange: Exchange): Promise<T> {
  const { gate, call } = exchange;
  let answer: T | undefined;
  for (;;) {
    const opened = await exchange.turn();
    if (opened === undefined) return answer as T;
    const body = await readWhole(opened);
    if (body === undefined) continue;
    answer = undefined;
    const { kind, json } = classify(gate.core, opened.status, opened.headers, new TextDecoder().decode(body));
    if (kind === 0) {
      const parsed = json as (T & { choices?: unknown }) | null;
      if (Array.isArray(parsed?.choices) && parsed.choices.length > 0) {
        answer = Object.defineProperty(parsed, "_request_id", { value: requestId(opened.response.headers) });
      } else malformed(gate.core, "the answer has no choices");
    }
    call.ended(opened.attempt, tokens(answer?.usage));
  }
}

/** A whole body; `undefined` if the attempt is over. */
async function readWhole(opened: Opened): Promise<Uint8Array | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    let chunk: Uint8Array | undefined;
    // Before content it makes no difference that we wait.
    if (size > 0) opened.awaited();
    try {
      chunk = await opened.read();
    } catch (error) {
      if (error !== INTERRUPTED) opened.broken(RESET, size > 0 ? AFTER_CONTENT : BEFORE_CONTENT, error);
      opened.close();
      return undefined;
    }
    if (chunk === undefined) return joined(chunks);
    const content = size > 0 ? chunk.length > 0 : !isKeepAlive(chunk, false);
    if (content) {
      chunks.push(chunk);
      size += chunk.length;
    }
    if (size > MAX_BODY) {
      tooLarge(opened, `the body is larger than ${MAX_BODY} bytes`);
      return undefined;
    }
    opened.arrived(content);
  }
}

/** @internal Ends an attempt whose answer we refuse to read on: it would be no smaller another time. */
export function tooLarge(opened: Opened, why: string): void {
  const { gate, call } = opened.exchange;
  opened.close();
  broken(gate.core, UNREADABLE, BEFORE_CONTENT, opened.status, opened.headers, why);
  wasm.core_final_(gate.core);
  call.ended(opened.attempt);
}
