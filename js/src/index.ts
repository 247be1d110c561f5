/**
 * Calls to the DeepSeek API, and to any OpenAI-compatible API, that stay safe in production while the provider's limits
 * move.
 *
 * @packageDocumentation
 */
// First, so that in a bundle the core stands before all other code, not in the midst of it: code compresses by what is near.
export { CoreUnavailableError, setCoreModule } from "./wasm/core.js";
export { Tidegate, Tidegate as default } from "./client.js";
export {
  AbortedError,
  AuthenticationError,
  ClosedError,
  ConfigError,
  ConnectionError,
  DeadlineError,
  FirstContentTimeoutError,
  ForbiddenError,
  InsufficientBalanceError,
  InvalidRequestError,
  MalformedError,
  NoRouteError,
  OverloadedError,
  QueueFullError,
  RateLimitError,
  RefusedError,
  ServerError,
  StreamInterruptedError,
  TidegateError,
} from "./errors.js";
export type { Attempt, ErrorType, Partial } from "./errors.js";
export type { LaneEvent, TidegateEvents } from "./events.js";
export type { GateInit } from "./fetch.js";
export type { Counts, LaneMetrics, LearnedLimits, Metrics, Summary } from "./metrics.js";
export type {
  CallOptions,
  Clocks,
  ModelOptions,
  PriorityClass,
  RouteOptions,
  TidegateOptions,
  WorkloadOptions,
} from "./options.js";
export type { ScheduleOptions } from "./schedule.js";
export { Stream } from "./stream.js";
export type * from "./types.js";
