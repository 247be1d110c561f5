import { ConfigError, InvalidRequestError } from "./errors.js";

/** A priority class. Interactive goes first, background gets what is left; none starves. */
export type PriorityClass = "interactive" | "normal" | "background";

/** A named stream of work. */
export interface WorkloadOptions {
  /** Its priority class. Default `normal`. */
  class?: PriorityClass | undefined;
  /** Its share within the class, relative to the others'. Default 1; between 0.001 and 1,000. */
  weight?: number | undefined;
  /** A cap of its own on requests in flight. Default none. */
  maxConcurrency?: number | undefined;
}

/** A model as a route's provider knows it. */
export interface ModelOptions {
  /** The name this provider uses, if it is another. */
  upstream?: string | undefined;
  /** The model whose limit it counts against, if it is another (a provider's alias). */
  lane?: string | undefined;
  /** The provider's published cap on requests in flight: a hint for the first climb, never a ceiling. */
  hint?: number | undefined;
}

/** One way to reach models: a base URL with a key. */
export interface RouteOptions {
  /** How errors and metrics call it. Default: `deepseek`, or the base URL's host. */
  name?: string | undefined;
  /** The base URL, to which `/chat/completions` and the like are added. Default `https://api.deepseek.com`. */
  baseURL?: string | undefined;
  /**
   * The base URL of beta features (fill-in-the-middle, chat prefix completion, strict tools). Default: DeepSeek's `/beta`,
   * and with any other provider the base URL itself.
   */
  betaURL?: string | undefined;
  /** The key, sent as `Authorization: Bearer …`. DeepSeek needs one; a server of your own may not. */
  apiKey?: string | undefined;
  /**
   * The account whose limits it counts against. Default: an account of its own, by the route's name. DeepSeek limits
   * requests in flight per account, whatever the key, so more keys of one account raise nothing: name the account, and
   * its routes share what is learned of its limit.
   */
  account?: string | undefined;
  /** Headers for every request. */
  headers?: Record<string, string | undefined> | Headers | undefined;
  /** Models known by name: a list of names, or an object from names to what there is to say of them. */
  models?: string[] | Record<string, ModelOptions> | undefined;
  /**
   * Whether it takes no others; on DeepSeek's own, if none is named, no others than DeepSeek publishes. Default false. What is
   * learned and counted of a model is kept: where names come from outside, name the models and set this.
   */
  onlyNamedModels?: boolean | undefined;
  /** Its share of turns under the strategy `weighted`. Default 1; between 0.001 and 1,000. */
  weight?: number | undefined;
  /**
   * A hard ceiling on requests in flight for each model, at most 1,000,000; what is learned stays at or under it. Default:
   * the client's.
   */
  maxConcurrency?: number | undefined;
  /** Whether the account limits each `user_id` as well as the whole. Default false. */
  limitsEachUser?: boolean | undefined;
  /**
   * Requests in any 60 seconds. Default none: DeepSeek has no such limit, and what `x-ratelimit-*` headers tell is learned
   * without it. The same holds for the next two.
   */
  requestsPerMinute?: number | undefined;
  /** Tokens in any 60 seconds. Default none. */
  tokensPerMinute?: number | undefined;
  /** Requests in any 24 hours. Default none. */
  requestsPerDay?: number | undefined;
}

/** The clocks of a call, in milliseconds. `false` turns one off. */
export interface Clocks {
  /** From sending to the answer's head. Default 11 min: some providers send nothing before the text is complete. */
  headers?: number | false | undefined;
  /** From sending to the first content; keep-alives are no progress. Default 11 min: DeepSeek hangs up after 10. */
  firstContent?: number | false | undefined;
  /** Between two pieces of content while the caller is reading. Default 120 s. */
  idle?: number | false | undefined;
}

/**
 * How a client works. `{ apiKey }` is enough, or nothing at all: where neither `baseURL` nor `routes` is given, the key is
 * taken from `DEEPSEEK_API_KEY`, and where `baseURL` is not given, the first route's address from `DEEPSEEK_BASE_URL`.
 */
export interface TidegateOptions extends Pick<RouteOptions, "apiKey" | "baseURL" | "betaURL" | "headers"> {
  /** More routes, after the one made by `apiKey` and `baseURL` if either is given: fallbacks or shares. */
  routes?: RouteOptions[] | undefined;
  /**
   * How calls choose among routes. Default `ordered`: the first that is open. A full one is waited for; one that a rate
   * limit holds for more than a second is passed over. A call that a route has refused (403) goes to the others only.
   */
  strategy?: "ordered" | "weighted" | "round-robin" | undefined;
  /**
   * Workloads known beforehand, by name. `interactive`, `normal` and `background` always exist, in the classes of their
   * names; any other name comes into being when first used, in class normal, and is kept with its counts: let names be few,
   * not one for each user or request.
   */
  workloads?: Record<string, WorkloadOptions> | undefined;
  /** A hard ceiling on requests in flight, per account and model. Default none: the limit is learned. */
  maxConcurrency?: number | undefined;
  /** How many calls to one model may wait before further ones are refused. Default 10,000; at most 2,000,000. */
  maxQueued?: number | undefined;
  /** The total time of a call in milliseconds, waiting included, where it brings none of its own. Default none. */
  timeout?: number | undefined;
  /** The clocks of calls that bring none of their own. */
  clocks?: Clocks | undefined;
  /**
   * How many attempts may fail before the call does; those answered 429, 503 or 529 are not counted, and tried again until
   * half an hour after the first. Default 5.
   */
  maxAttempts?: number | undefined;
  /**
   * What sends the requests. Default: the global `fetch`, on Node without its own limits of 300 s for the head of an answer
   * and between two pieces of it, for how long is too long is for the clocks to say.
   */
  fetch?: ((input: string | URL | Request, init?: RequestInit) => Promise<Response>) | undefined;
  /** Allows a key in a browser, where every visitor can read it. Default false: put the key into a proxy. */
  dangerouslyAllowBrowser?: boolean | undefined;
}

/** How one call is to be treated. */
export interface CallOptions {
  /** The workload it belongs to. Default `normal`. */
  workload?: string | undefined;
  /** Gives the call up: it leaves the queue, or its connection is closed. It rejects with the signal's reason. */
  signal?: AbortSignal | null | undefined;
  /** The total time it may take in milliseconds, waiting included. Default: the client's. */
  timeout?: number | undefined;
  /** Its clocks. Default: the client's. */
  clocks?: Clocks | undefined;
  /** How many attempts may fail before it does. Default: the client's. */
  maxAttempts?: number | undefined;
  /** What to do when the queue is full: `fail` with a `QueueFullError`, or `wait` for room. Default `fail`. */
  onFull?: "fail" | "wait" | undefined;
  /** More headers for its request. They win over those of the client and its routes, but for the key's. */
  headers?: Record<string, string | undefined> | Headers | undefined;
}

/** @internal What a route needs to be reached. */
export interface Endpoint {
  name: string;
  base: string;
  beta: string;
  key: string | undefined;
  /** It, and what looks like one among the headers: to be struck out of what a server says. */
  secrets: string[];
  headers: Headers;
}

/** @internal Options that have been checked. */
export interface Settings {
  /** For the core. */
  config: { numbers: number[]; words: string[] };
  endpoints: Endpoint[];
  fetch: (input: string, init: RequestInit) => Promise<Response>;
  countsTokens: boolean;
  /** Whether every route is DeepSeek's. */
  deepseek: boolean;
  maxAttempts: number;
  maxQueued: number;
}

const DEEPSEEK = "https://api.deepseek.com";
/** The defaults: of attempts a call, and of calls that wait. */
const MAX_ATTEMPTS = 5;
const MAX_QUEUED = 10_000;
/** By the core's numbers. */
const STRATEGIES = ["ordered", "weighted", "round-robin"] as const;
const CLASSES = ["normal", "interactive", "background"] as const;

/** @internal A clock as the core takes it: 0 leaves it as it is, infinity turns it off. */
export const span = (millis: number | false | undefined): number => (millis === false ? Infinity : (millis ?? 0));

type Fail = new (message: string) => Error;

/** @internal A value as an error may show it: its kind, and what is too short for a key, which may stand in a wrong place. */
export function shown(value: unknown): string {
  if (typeof value === "string") return value.length > 20 || value.startsWith("sk-") ? `a string of ${value.length} characters` : JSON.stringify(value);
  if (value === null || typeof value !== "object") return typeof value === "function" ? "a function" : String(value);
  if (Array.isArray(value)) return value.length === 0 ? "an empty array" : "an array";
  const name: unknown = value.constructor?.name;
  return typeof name === "string" && name !== "Object" ? `an object of class ${name}` : "an object";
}

/** @internal The one shape of sentence in which bad input is refused. */
export function expected(what: string, kind: string, value: unknown, Fail: Fail = InvalidRequestError): Error {
  return new Fail(`Expected ${what} to be ${kind}, got ${shown(value)}`);
}

/** What those who come from the `openai` package look for, and by which name it goes here. */
const ELSEWHERE = new Map([["maxRetries", "maxAttempts"], ["defaultHeaders", "headers"]]);

/** How many letters must be changed, added or left out to make one word of the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}

/** Looks at one value; throws what is wrong with it. */
type Check = (value: unknown, what: string, Fail: Fail) => void;
/** @internal The options there are, and what each may be. */
export type Schema = Record<string, Check>;

/** Refuses what is no object, a list or a map among them, and options that there are not. */
function object(value: unknown, what: string, schema: Schema, Fail: Fail): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Symbol.iterator in value) throw expected(what, "an object", value, Fail);
  for (const name of Object.keys(value)) {
    if (Object.hasOwn(schema, name)) continue;
    const known = Object.keys(schema);
    const meant = ELSEWHERE.get(name) ?? name;
    const near = known
      .map((other) => ({ other, far: distance(meant.toLowerCase(), other.toLowerCase()) }))
      .reduce((a, b) => (b.far < a.far ? b : a));
    const hint = near.far <= Math.max(2, name.length / 3) ? `, did you mean \`${near.other}\`?` : `; there are ${known.join(", ")}`;
    throw new Fail(`Expected ${what} to have no option \`${name}\`${hint}`);
  }
  return value as Record<string, unknown>;
}

/** Looks at the options that are given; `of` is how an error calls one. */
function fields(given: object, schema: Schema, Fail: Fail, of = (field: string) => `\`${field}\``): void {
  // Also those that it inherits, for they will be read.
  for (const [name, check] of Object.entries(schema)) {
    const value = (given as Record<string, unknown>)[name];
    if (value !== undefined) check(value, of(name), Fail);
  }
}

/** What is looked at elsewhere. */
const any: Check = () => {};
/** @internal */
export const text: Check = (value, what, Fail) => {
  if (typeof value !== "string" || value === "") throw expected(what, "a non-empty string", value, Fail);
};
const flag: Check = (value, what, Fail) => {
  if (typeof value !== "boolean") throw expected(what, "a boolean", value, Fail);
};
/** @internal */
export const between =
  (low: number, high: number, whole: boolean): Check =>
  (value, what, Fail) => {
    const ok = typeof value === "number" && value >= low && value <= high && (!whole || Number.isInteger(value));
    const kind = () => `a ${whole ? "whole " : ""}number between ${low.toLocaleString("en")} and ${high.toLocaleString("en")}`;
    if (!ok) throw expected(what, kind(), value, Fail);
  };
const count = between(1, 1_000_000, true);
const quota = between(1, Number.MAX_SAFE_INTEGER, true);
const weight = between(0.001, 1000, false);
const millis: Check = (value, what, Fail) => {
  if (typeof value !== "number" || !(value > 0) || value === Infinity) {
    throw expected(what, "a finite number of milliseconds above zero", value, Fail);
  }
};
const oneOf =
  (...names: string[]): Check =>
  (value, what, Fail) => {
    if (!names.includes(value as string)) throw expected(what, names.map((name) => `"${name}"`).join(" or "), value, Fail);
  };
const clock: Check = (value, what, Fail) => value === false || millis(value, what, Fail);

const CLOCKS = { headers: clock, firstContent: clock, idle: clock };
const clocks: Check = (value, what, Fail) =>
  fields(object(value, what, CLOCKS, Fail), CLOCKS, Fail, (field) => `\`clocks.${field}\``);

/** What is wrong with a key is said without quoting it. */
function key(value: unknown, route: string): string {
  const fail = (kind: string) => new ConfigError(`Expected \`apiKey\` to be ${kind} (route \`${route}\`)`);
  if (typeof value !== "string" || value === "") throw fail(`a non-empty string, got ${value === "" ? '""' : typeof value}`);
  if (/[\r\n]/.test(value)) throw fail("without line breaks; was it read from a file with a line break at its end?");
  if (!/^[\x21-\x7e]+$/.test(value)) throw fail("of visible ASCII characters without spaces");
  return value;
}

/** A base URL that can be sent to and shown. What is wrong with it is said without quoting it: it may hold a secret. */
function url(value: unknown, field: string, route: string): URL {
  const fail = (kind: string) => new ConfigError(`Expected \`${field}\` to ${kind} (route \`${route}\`)`);
  let found: URL;
  try {
    text(value, `\`${field}\``, ConfigError);
    found = new URL((value as string).trim());
  } catch (error) {
    throw error instanceof ConfigError ? error : fail(`be an absolute URL such as ${DEEPSEEK}`);
  }
  if (found.protocol !== "https:" && found.protocol !== "http:") throw fail("begin with http:// or https://");
  if (found.username !== "" || found.password !== "") throw fail("be without user name and password; use `apiKey` or `headers`");
  // An empty one is told by its mark alone.
  if (/[?#]/.test(found.href)) throw fail("be without a query and a fragment");
  const [endpoint] = /\/(chat\/)?completions\/*$/.exec(found.pathname) ?? [];
  if (endpoint !== undefined) throw fail(`be without ${endpoint}`);
  return found;
}

const strip = (base: URL): string => base.href.replace(/\/+$/, "");

/** @internal Headers from whatever says them, checked. */
export function headersOf(value: unknown, what: string, Fail: Fail): Headers {
  if (typeof value !== "object" || value === null) throw expected(what, "an object of strings", value, Fail);
  const headers = new Headers();
  const pairs = Symbol.iterator in value ? value : Object.entries(value);
  for (const pair of pairs as Iterable<unknown>) {
    const [name, content] = Array.isArray(pair) ? (pair as unknown[]) : [];
    if (typeof name !== "string") throw expected(what, "an object of strings", value, Fail);
    // As an option that is not given.
    if (content === undefined && !(Symbol.iterator in value)) continue;
    try {
      text(content, `header \`${name}\` of ${what}`, Fail);
      headers.set(name, content as string);
    } catch (error) {
      // The value may be a secret.
      throw error instanceof Fail ? error : new Fail(`Expected header \`${name}\` of ${what} to be sendable`);
    }
  }
  return headers;
}

/** @internal What looks like a secret among headers: to be struck out of what a server says. */
export function secretsOf(headers: Headers): string[] {
  const secrets: string[] = [];
  headers.forEach((value, name) => {
    if (!SECRET.test(name)) return;
    // Without the names of parameters.
    const words = value.split(/[\s;,]+/).map((word) => word.replace(/^[\w.-]+=(?=[^=])/, "").replaceAll('"', ""));
    // What is short may be a word that stands in any answer.
    secrets.push(...words.filter((word) => word.length >= 8));
  });
  return secrets;
}

const SECRET = /auth|key|secret|token|cookie|credential|password/;

const MODEL = { upstream: text, lane: text, hint: count };
const WORKLOAD = { class: oneOf("interactive", "normal", "background"), weight, maxConcurrency: count };
const ROUTE: Record<keyof RouteOptions, Check> = {
  name: text,
  baseURL: any,
  betaURL: any,
  apiKey: any,
  account: text,
  headers: headersOf,
  models: any,
  onlyNamedModels: flag,
  weight,
  maxConcurrency: count,
  limitsEachUser: flag,
  requestsPerMinute: quota,
  tokensPerMinute: quota,
  requestsPerDay: quota,
};

/** A route, checked, as the core and the driver take it. */
interface Built {
  numbers: number[];
  words: string[];
  deepseek: boolean;
  endpoint: Endpoint;
}

function route(options: RouteOptions, maxConcurrency: number | undefined): Built {
  const given = object(options, "a route", ROUTE, ConfigError) as RouteOptions;
  if (given.name !== undefined) text(given.name, "`name` of a route", ConfigError);
  const base = url(given.baseURL ?? DEEPSEEK, "baseURL", given.name ?? "default");
  const deepseek = base.hostname === "api.deepseek.com";
  const name = given.name ?? (deepseek ? "deepseek" : base.host);
  fields(given, ROUTE, ConfigError, (field) => `\`${field}\` of route \`${name}\``);
  if (deepseek && given.apiKey === undefined) {
    const where = "DEEPSEEK_API_KEY is read where neither `baseURL` nor `routes` is given";
    throw new ConfigError(`Expected an \`apiKey\` for DeepSeek, got none (route \`${name}\`); ${where}`);
  }
  const models = given.models ?? {};
  const named: [string, ModelOptions][] = Array.isArray(models)
    ? models.map((model) => [model, {}])
    : Object.entries(object(models, `\`models\` of route \`${name}\``, models as never, ConfigError) as typeof models);
  const numbers = [
    given.weight ?? 1,
    Number(given.onlyNamedModels !== true),
    Number(given.limitsEachUser === true),
    given.maxConcurrency ?? maxConcurrency ?? 0,
    given.requestsPerMinute ?? 0,
    given.tokensPerMinute ?? 0,
    given.requestsPerDay ?? 0,
    Number(deepseek),
    named.length,
  ];
  const words = [name, given.account ?? name];
  for (const [model, about] of named) {
    text(model, "a model's name", ConfigError);
    const known = object(about, `model \`${model}\``, MODEL, ConfigError) as ModelOptions;
    fields(known, MODEL, ConfigError, (field) => `\`${field}\` of model \`${model}\``);
    numbers.push(known.hint ?? 0);
    words.push(model, known.upstream ?? "", known.lane ?? "");
  }
  if (named.length === 0 && given.onlyNamedModels === true && !deepseek) {
    throw new ConfigError(`Expected \`models\` of route \`${name}\` to name a model, got none and \`onlyNamedModels\``);
  }
  const beta = given.betaURL === undefined ? (deepseek ? new URL("/beta", base) : base) : url(given.betaURL, "betaURL", name);
  const headers = headersOf(given.headers ?? {}, "`headers`", ConfigError);
  const apiKey = given.apiKey === undefined ? undefined : key(given.apiKey, name);
  if (apiKey !== undefined) headers.set("authorization", `Bearer ${apiKey}`);
  const secrets = [...(apiKey === undefined ? [] : [apiKey]), ...secretsOf(headers)];
  return { numbers, words, deepseek, endpoint: { name, base: strip(base), beta: strip(beta), key: apiKey, secrets, headers } };
}

/** What the environment says, where there is one that may be read. */
function environment(name: string): string | undefined {
  try {
    const scope = globalThis as { process?: { env?: Record<string, string | undefined> } };
    return scope.process?.env?.[name]?.trim() || undefined;
  } catch {
    // Deno without permission.
    return undefined;
  }
}

/** What Node's `fetch` sends by (undici), once that has been loaded: by itself, a proxy of somebody's, a mock in a test. */
interface Dispatcher {
  dispatch(options: object, handler: unknown): boolean;
  isMockActive?: boolean;
}

/** By the interface that Node's own `fetch` speaks. */
const dispatcher = (): Dispatcher | undefined => {
  const scope = globalThis as { process?: { versions?: { undici?: string } }; [place: symbol]: unknown };
  const version = parseInt(scope.process?.versions?.undici ?? "");
  return scope[Symbol.for(`undici.globalDispatcher.${version < 8 ? 1 : 2}`)] as Dispatcher | undefined;
};

/** The same without its limits of 300 s for a head and between two pieces of a body. */
const patient: Dispatcher = {
  dispatch: (options, handler) => (dispatcher() as Dispatcher).dispatch({ ...options, headersTimeout: 0, bodyTimeout: 0 }, handler),
  get isMockActive() {
    return dispatcher()?.isMockActive ?? false;
  },
};

function inBrowser(): boolean {
  const scope = globalThis as { window?: { document?: unknown }; navigator?: unknown };
  return scope.window?.document !== undefined && scope.navigator !== undefined;
}

const CLIENT: Record<keyof TidegateOptions, Check> = {
  apiKey: any,
  baseURL: any,
  betaURL: any,
  headers: any,
  routes: any,
  strategy: oneOf(...STRATEGIES),
  workloads: any,
  maxConcurrency: count,
  maxQueued: between(1, 2_000_000, true),
  timeout: millis,
  clocks,
  maxAttempts: count,
  fetch: any,
  dangerouslyAllowBrowser: flag,
};

/** @internal Checks a client's options. */
export function settings(options: TidegateOptions): Settings {
  const given = object(options, "the client's options", CLIENT, ConfigError) as TidegateOptions;
  fields(given, CLIENT, ConfigError);
  const fetch = given.fetch ?? undefined;
  if (typeof (fetch ?? globalThis.fetch) !== "function") throw expected("`fetch`", "a function", fetch, ConfigError);
  const more: unknown = given.routes ?? [];
  if (!Array.isArray(more)) throw expected("`routes`", "an array", more, ConfigError);
  const { apiKey, baseURL, betaURL, headers } = given;
  const routes = [...(more as RouteOptions[])];
  if (apiKey !== undefined || baseURL !== undefined || routes.length === 0) {
    const first: RouteOptions = {};
    const url = baseURL ?? environment("DEEPSEEK_BASE_URL");
    // The environment's key is for the environment's provider.
    const key = apiKey ?? (baseURL === undefined ? environment("DEEPSEEK_API_KEY") : undefined);
    if (url !== undefined) first.baseURL = url;
    if (key !== undefined) first.apiKey = key;
    if (betaURL !== undefined) first.betaURL = betaURL;
    if (headers !== undefined) first.headers = headers;
    routes.unshift(first);
  } else if (headers ?? betaURL) throw new ConfigError("Expected `headers` and `betaURL` to stand in `routes`, got them beside");
  const built = routes.map((options) => route(options, given.maxConcurrency));
  if (given.dangerouslyAllowBrowser !== true && inBrowser() && built.some(({ endpoint }) => endpoint.key !== undefined)) {
    throw new ConfigError(
      "Expected no `apiKey` in a browser, where every visitor can read it; put it into a proxy of your own and give its " +
        "address as `baseURL`, or set `dangerouslyAllowBrowser: true`",
    );
  }
  // Any name will do.
  const workloads = object(given.workloads ?? {}, "`workloads`", given.workloads as never, ConfigError);
  const times = given.clocks;
  if (built.length > 64) throw new ConfigError(`Expected \`routes\` to hold at most 64 routes, got ${built.length}`);
  built.forEach(({ endpoint: { name } }, at) => {
    if (built.findIndex(({ endpoint }) => endpoint.name === name) < at) {
      throw new ConfigError(`Expected route names to be unique, got \`${name}\` twice`);
    }
  });
  const { maxQueued = MAX_QUEUED, maxAttempts = MAX_ATTEMPTS } = given;
  // In the order in which src/wasm/config.rs reads them.
  const numbers: number[] = [
    STRATEGIES.indexOf(given.strategy ?? "ordered"),
    maxQueued,
    given.timeout ?? 0,
    maxAttempts,
    span(times?.headers),
    span(times?.firstContent),
    span(times?.idle),
    built.length,
    Object.keys(workloads).length,
    ...built.flatMap(({ numbers }) => numbers),
  ];
  const words = built.flatMap(({ words }) => words);
  for (const [name, about] of Object.entries(workloads)) {
    text(name, "a workload's name", ConfigError);
    const spec = object(about, `workload \`${name}\``, WORKLOAD, ConfigError) as WorkloadOptions;
    fields(spec, WORKLOAD, ConfigError, (field) => `\`${field}\` of workload \`${name}\``);
    numbers.push(CLASSES.indexOf(spec.class ?? "normal"), spec.weight ?? 1, spec.maxConcurrency ?? 0);
    words.push(name);
  }
  return {
    // NULs set them off.
    config: { numbers, words: words.map((word) => word.replaceAll("\0", " ")) },
    deepseek: built.every(({ deepseek }) => deepseek),
    maxAttempts,
    maxQueued,
    endpoints: built.map(({ endpoint }) => endpoint),
    // Called without a receiver it would fail in browsers. One of somebody's own may return no promise, or throw.
    fetch: async (input, init) => {
      if (fetch !== undefined) return fetch(input, init);
      // What it is now: a test may have put another in its place.
      const host = globalThis.fetch;
      return host(input, dispatcher() === undefined ? init : Object.assign({ dispatcher: patient }, init));
    },
    countsTokens: routes.some(({ tokensPerMinute }) => tokensPerMinute !== undefined),
  };
}

/** @internal What every call's options may say. */
export const CALL = {
  workload: text,
  timeout: millis,
  maxAttempts: count,
  onFull: oneOf("fail", "wait"),
  clocks,
  headers: headersOf,
  signal: (value, what, Fail) => {
    // Not by its class, for it may be of another realm, but by what is asked of it in the end.
    if (value === null) return;
    const { aborted, removeEventListener } = value as AbortSignal;
    if (typeof aborted !== "boolean" || !removeEventListener) throw expected(what, "an AbortSignal", value, Fail);
  },
} satisfies Schema;

/** @internal Checks a call's options. */
export function callOptions(options: object, schema: Schema = CALL): CallOptions {
  fields(object(options, "a call's options", schema, InvalidRequestError), schema, InvalidRequestError);
  return options;
}
