import { userOf } from "./events.js";
import { COUNTED, LEARNED, names, told } from "./names.js";
import { restore as takeOver, type Core } from "./wasm/glue.js";

/** Durations, in seconds. */
export interface Summary {
  count: number;
  sum: number;
  p50: number;
  p90: number;
  p99: number;
  max: number;
}

/** What was counted of the whole, or of one route, model or workload, since the client was made. */
export interface Counts {
  /** The route's, model's or workload's name; `total` for the whole. */
  name: string;
  /** Calls submitted. */
  submitted: number;
  /** Calls that ended with an answer. */
  completed: number;
  /** Calls that ended with an error. */
  failed: number;
  /** Calls the caller gave up. */
  cancelled: number;
  /** Requests sent. */
  attempts: number;
  /** Attempts rejected because too many were in flight (429). */
  slotRejections: number;
  /** Attempts rejected because they came too fast (429). */
  rateRejections: number;
  /** Attempts that met an overloaded service (503 and its kin). */
  pressure: number;
  /** Attempts that met a failing server (500, 408). */
  serverErrors: number;
  /** Attempts whose connection failed before an answer began. */
  transportErrors: number;
  /** Attempts whose first content did not come in time. */
  firstContentTimeouts: number;
  /** Attempts that broke off after content had come, or whose answer could not be understood. */
  interrupted: number;
  /** Attempts the server refused for good. */
  refused: number;
  /** Attempts after one that failed; those after a rejection for slot or rate are not counted. */
  retries: number;
  /** Attempts on another route than the call's last one. */
  failovers: number;
  promptTokens: number;
  /** Of the prompt tokens, those read from the context cache. */
  cachedTokens: number;
  completionTokens: number;
  /** Of the completion tokens, those of reasoning. */
  reasoningTokens: number;
  /** From submission to the first attempt's sending. */
  queueWait: Summary;
  /** From an attempt's sending to its first content. */
  firstContent: Summary;
  /** From submission to a successful end. */
  duration: Summary;
}

/** What a provider limits as one: an account and a model. */
export interface LaneMetrics {
  account: string;
  model: string;
  /** The end user, on accounts that limit each; empty for the calls that name none, which together count as one. */
  userId?: string;
  /** The learned limit: how many requests may be in flight. */
  limit: number;
  /** The cap as last measured, if ever. */
  measured: number | null;
  /** Requests in flight. */
  inFlight: number;
  /** What the limit is doing: climbing, holding, retreating, penalised, half-open or paused. */
  state: string;
  /** Whether the breaker is closed, open or half-open. */
  breaker: string;
  /**
   * What keeps one more request from being sent, if anything does: `breaker` (the service keeps failing), `pause` (it is
   * overloaded, or a rejection is waited out), `rate` (a limit on requests or tokens by time, or the wait a server asks
   * for), or `limit` (as many are in flight as may be).
   */
  heldBy: string | null;
  /** Seconds until the lane sends again at the latest, if it is held by a breaker, a pause or a rate; 0 otherwise. */
  paused: number;
  /** The requests a minute that can be kept up, as far as the server told it or it was found out; not what was configured. */
  requestsPerMinute: number | null;
  /** The same for tokens. */
  tokensPerMinute: number | null;
  /** Seconds for which the server was found to count a request after its answer. */
  releaseLag: number;
}

/** Everything at one moment. */
export interface Metrics {
  /** Seconds since the client's first call. */
  uptime: number;
  /** Calls waiting for a permit. */
  queued: number;
  /** Calls waiting for their backoff to end. */
  backingOff: number;
  /** Requests in flight. */
  inFlight: number;
  total: Counts;
  routes: Counts[];
  models: Counts[];
  workloads: Counts[];
  lanes: LaneMetrics[];
}

/**
 * What was learned of the limits on requests in flight, by account and model. JSON to be saved; its inside may change with
 * the version.
 */
export type LearnedLimits = { account: string; model: string; learned: unknown }[];

/** @internal How many numbers stand for what was learned of one limit. */
const WIDTH = 15;

/** @internal Everything at one moment, by what the core tells (`snapshot` in src/wasm/report.rs). */
export function metrics(core: Core, now: number): Metrics {
  const { numbers, words } = told(core, COUNTED, now);
  const { counters, distributions } = names;
  let at = 0;
  let word = 0;
  const number = () => numbers[at++] as number;
  const known = () => {
    const value = number();
    return Number.isNaN(value) ? null : value;
  };
  const summary = (): Summary => {
    const [count, sum, p50, p90, p99, max] = [number(), number(), number(), number(), number(), number()];
    return { count, sum, p50, p90, p99, max };
  };
  const counts = (): Counts => {
    const scope: Record<string, unknown> = { name: words[word++] };
    for (const [, , key = ""] of counters) scope[key] = number();
    for (const [, , key = ""] of distributions) scope[key] = summary();
    return scope as unknown as Counts;
  };
  const [uptime, queued, backingOff, inFlight] = [number(), number(), number(), number()];
  const sizes = [number(), number(), number()];
  const total = counts();
  const [routes = [], models = [], workloads = []] = sizes.map((length) => Array.from({ length }, counts));
  const lanes: LaneMetrics[] = [];
  while (at < numbers.length) {
    const [limit, measured, inFlight, paused] = [number(), known(), number(), number()];
    const [requestsPerMinute, tokensPerMinute, releaseLag] = [known(), known(), number()];
    const [account = "", model = "", userId, state = "", breaker = "", held] = words.slice(word, (word += 6));
    const user = userOf(userId);
    const rates = { requestsPerMinute, tokensPerMinute, releaseLag };
    lanes.push({ account, model, ...user, limit, measured, inFlight, state, breaker, heldBy: held || null, paused, ...rates });
  }
  return { uptime, queued, backingOff, inFlight, total, routes, models, workloads, lanes };
}

/** The label of calls without a user, where each user has a limit: an empty one is none. No user's id has parentheses. */
const NOBODY = "(empty)";

/** @internal The same in Prometheus' text format, version 0.0.4. */
export function prometheus(snapshot: Metrics): string {
  const { counters, gauges, distributions } = names;
  const { queued, backingOff, lanes } = snapshot;
  let out = "";
  const labelled = (labels: Record<string, string | undefined>) => {
    const said = Object.entries(labels).filter(([, value]) => value !== undefined) as [string, string][];
    const escaped = (value: string) => value.replace(/[\\"]/g, "\\$&").replaceAll("\n", "\\n");
    return `{${said.map(([name, value]) => `${name}="${escaped(value)}"`).join()}}`;
  };
  const head = ([name, help]: string[], type: string, suffix = "") =>
    (out += `# HELP tidegate_${name}${suffix} ${help}\n# TYPE tidegate_${name}${suffix} ${type}\n`);
  const row = (name: string | undefined, labels: string, value: unknown) => (out += `tidegate_${name}${labels} ${String(value)}\n`);
  const of: ((lane: LaneMetrics) => number | null)[] = [
    ({ limit }) => limit,
    ({ inFlight }) => inFlight,
    ({ breaker }) => (breaker === "closed" ? 1 : 0),
    ({ paused }) => paused,
    ({ requestsPerMinute }) => requestsPerMinute,
    ({ tokensPerMinute }) => tokensPerMinute,
    ({ releaseLag }) => releaseLag,
    ({ heldBy }) => (heldBy === null ? null : 1),
  ];
  gauges.forEach((gauge, at) => {
    head(gauge, "gauge");
    if (at < 2) return row(gauge[0], "", [queued, backingOff][at]);
    for (const lane of lanes) {
      const value = of[at - 2]?.(lane);
      const by = (gauge[0] === "held" && lane.heldBy) || undefined;
      // Of what isn't known there is no row.
      if (value !== null) row(gauge[0], labelled({ account: lane.account, model: lane.model, user_id: lane.userId === "" ? NOBODY : lane.userId, by }), value);
    }
    return undefined;
  });
  const lists = { route: snapshot.routes, model: snapshot.models, workload: snapshot.workloads };
  const scopes = Object.entries(lists).flatMap(([label, list]) => list.map((scope) => [label, scope] as const));
  for (const counter of counters) {
    head(counter, "counter", "_total");
    const [name, , key] = counter;
    for (const [label, scope] of scopes) row(`${name}_total`, labelled({ [label]: scope.name }), scope[key as keyof Counts]);
  }
  for (const distribution of distributions) {
    head(distribution, "summary");
    const [name, , key] = distribution;
    for (const [label, scope] of scopes) {
      const { p50, p90, p99, sum, count } = scope[key as keyof Counts] as Summary;
      for (const [quantile, value] of Object.entries({ 0.5: p50, 0.9: p90, 0.99: p99 })) {
        row(name, labelled({ [label]: scope.name, quantile }), value);
      }
      row(`${name}_sum`, labelled({ [label]: scope.name }), sum);
      row(`${name}_count`, labelled({ [label]: scope.name }), count);
    }
  }
  return out;
}

/** @internal What was learned, as JSON can hold it. */
export function learned(core: Core): LearnedLimits {
  const { numbers, words } = told(core, LEARNED);
  return Array.from({ length: numbers.length / WIDTH }, (_, at) => ({
    account: words[2 * at] as string,
    model: words[2 * at + 1] as string,
    learned: Array.from(numbers.slice(at * WIDTH, (at + 1) * WIDTH), (value) => (Number.isNaN(value) ? null : value)),
  }));
}

/** @internal Takes it over. @throws {Error} If it is something else. */
export function restore(core: Core, now: number, limits: LearnedLimits): void {
  for (const { account, model, learned } of limits) {
    if (typeof account !== "string" || typeof model !== "string" || !Array.isArray(learned)) throw new Error("no limits");
    const numbers = Float64Array.from(learned, (value: unknown) => (typeof value === "number" ? value : NaN));
    if (!takeOver(core, now, account, model, numbers)) throw new Error("limits of another version");
  }
}
