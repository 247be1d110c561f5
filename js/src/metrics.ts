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
  /** Attempts that broke off after content had come. */
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
  /** The end user, on accounts that limit each. */
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
  /** Seconds until the lane sends again, if it is paused; 0 otherwise. */
  paused: number;
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

/** What was learned of the limits, by account and model. JSON to be saved; its inside may change with the version. */
export type LearnedLimits = { account: string; model: string; learned: unknown }[];
