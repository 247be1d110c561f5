import type { Usage } from "./types.js";

/** What went wrong, in the words in which a program decides what to do about it. */
export type ErrorType =
  /** The configuration makes no sense. Nothing was sent. */
  | "config"
  /** The request makes no sense. Nothing was sent. */
  | "invalid_request"
  /** The signal had been aborted before the call was made. Nothing was sent. */
  | "aborted"
  /** As many calls wait as may. Nothing was sent. */
  | "queue_full"
  /** No route serves the model. Nothing was sent. */
  | "no_route"
  /** The client was closed. */
  | "closed"
  /** The provider refuses this request (400, 404, 413, 422 …) and would do so again. */
  | "refused"
  /** The key is wrong (401). */
  | "authentication"
  /** The key may not do this (403). */
  | "forbidden"
  /** The account is out of money (402). */
  | "insufficient_balance"
  /** The call's time was up. */
  | "deadline"
  /** Rejected for too many requests (429) for as long as retrying is allowed. */
  | "rate_limited"
  /** The service stayed overloaded (503, blank answers) for as long as retrying is allowed. */
  | "overloaded"
  /** The server failed (500), again and again. */
  | "server"
  /** The connection failed, again and again. */
  | "connection"
  /** No content came in time, again and again. */
  | "first_content_timeout"
  /** The answer broke off after part of it had been delivered; `partial` has that part. */
  | "interrupted"
  /** What came is not what the protocol says. */
  | "malformed"
  /** The WebAssembly core can't be started here. */
  | "core_unavailable";

/** One attempt of a call. */
export interface Attempt {
  /** The route it was sent by. */
  route: string;
  /** When it was sent, in seconds since the client's first call. */
  sent: number;
  /** How long it took to end, in seconds. */
  took: number;
  /** What it came to, such as `slot` (429), `pressure` (503), `transport`. */
  outcome: string;
  /** The HTTP status, if an answer's head came. */
  status?: number;
  /** The server's or the transport's words. */
  message?: string;
  /** The server's id of the request. */
  requestId?: string;
}

/** What had come of an answer that broke off. */
export interface Partial {
  /** The text so far. */
  text: string;
  /** The reasoning so far. */
  reasoning: string;
  /** The tokens used, if that was told already. */
  usage: Usage | undefined;
}

/** @internal Everything an error knows. */
export interface ErrorDetails {
  status?: number | undefined;
  code?: string | undefined;
  errorType?: string | undefined;
  route?: string | undefined;
  attempts?: Attempt[] | undefined;
  attemptsMade?: number | undefined;
  elapsed?: number | undefined;
  retryAfter?: number | undefined;
  requestId?: string | undefined;
  headers?: Headers | undefined;
  body?: string | undefined;
  partial?: Partial | undefined;
  cause?: unknown;
}

/**
 * Why a call failed. Every error of this package is one; `type` says which, and narrows it in TypeScript. It holds no
 * key: keys that a server echoes are struck out.
 */
export abstract class TidegateError extends Error {
  /** What went wrong. */
  abstract readonly type: ErrorType;
  /** The HTTP status of the decisive answer. An error inside an answer whose status was 200 has 200. */
  readonly status: number | undefined;
  /** The `code` of the server's error. DeepSeek says `invalid_request_error` whatever it was. */
  readonly code: string | undefined;
  /** The `type` of the server's error. */
  readonly errorType: string | undefined;
  /** The route of the last attempt. */
  readonly route: string | undefined;
  /** The attempts, oldest first. Of very many only the first few and the last are kept. */
  readonly attempts: readonly Attempt[];
  /** How many attempts were sent. */
  readonly attemptsMade: number;
  /** How long the call took, waiting included, in seconds. */
  readonly elapsed: number;
  /** How long the server asked to wait before the next try, in seconds. */
  readonly retryAfter: number | undefined;
  /** The server's id of the request, for its support. */
  readonly requestId: string | undefined;
  /** The headers of the answer that was an error. */
  readonly headers: Headers | undefined;
  /** The start of its body, at most 64 KiB. */
  readonly body: string | undefined;
  /** What had come of an answer that broke off. */
  readonly partial: Partial | undefined;

  /** @internal */
  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.status = details.status;
    this.code = details.code;
    this.errorType = details.errorType;
    this.route = details.route;
    this.attempts = details.attempts ?? [];
    this.attemptsMade = details.attemptsMade ?? 0;
    this.elapsed = details.elapsed ?? 0;
    this.retryAfter = details.retryAfter;
    this.requestId = details.requestId;
    this.headers = details.headers;
    this.body = details.body;
    this.partial = details.partial;
  }

  /** Whether the same call might succeed later. The client has retried already: this is for who can wait longer. */
  get isRetryable(): boolean {
    return RETRYABLE.has(this.type);
  }
}

const RETRYABLE: ReadonlySet<ErrorType> = new Set<ErrorType>([
  "queue_full",
  "deadline",
  "rate_limited",
  "overloaded",
  "server",
  "connection",
  "first_content_timeout",
  "interrupted",
  "malformed",
]);

/** The client's configuration makes no sense. Nothing was sent. */
export class ConfigError extends TidegateError {
  override readonly name = "ConfigError";
  override readonly type = "config";
}

/** The request makes no sense. Nothing was sent. */
export class InvalidRequestError extends TidegateError {
  override readonly name = "InvalidRequestError";
  override readonly type = "invalid_request";
}

/**
 * The signal had been aborted before the call was made; `cause` is its reason. One that is aborted later makes the call
 * reject with that reason itself, as `fetch` does.
 */
export class AbortedError extends TidegateError {
  override readonly name = "AbortError";
  override readonly type = "aborted";
}

/** As many calls wait as may. Nothing was sent. */
export class QueueFullError extends TidegateError {
  override readonly name = "QueueFullError";
  override readonly type = "queue_full";
}

/** No route serves the model. Nothing was sent. */
export class NoRouteError extends TidegateError {
  override readonly name = "NoRouteError";
  override readonly type = "no_route";
}

/** The client was closed. */
export class ClosedError extends TidegateError {
  override readonly name = "ClosedError";
  override readonly type = "closed";
}

/** The provider refuses this request (400, 404, 413, 422 …) and would do so again. */
export class RefusedError extends TidegateError {
  override readonly name = "RefusedError";
  override readonly type = "refused";
}

/** The key is wrong (401). */
export class AuthenticationError extends TidegateError {
  override readonly name = "AuthenticationError";
  override readonly type = "authentication";
}

/** The key may not do this (403). */
export class ForbiddenError extends TidegateError {
  override readonly name = "ForbiddenError";
  override readonly type = "forbidden";
}

/** The account is out of money (402). */
export class InsufficientBalanceError extends TidegateError {
  override readonly name = "InsufficientBalanceError";
  override readonly type = "insufficient_balance";
}

/** The call's time was up. */
export class DeadlineError extends TidegateError {
  override readonly name = "DeadlineError";
  override readonly type = "deadline";
}

/** Rejected for too many requests (429) for as long as retrying is allowed. */
export class RateLimitError extends TidegateError {
  override readonly name = "RateLimitError";
  override readonly type = "rate_limited";
}

/** The service stayed overloaded (503, blank answers) for as long as retrying is allowed. */
export class OverloadedError extends TidegateError {
  override readonly name = "OverloadedError";
  override readonly type = "overloaded";
}

/** The server failed (500), again and again. */
export class ServerError extends TidegateError {
  override readonly name = "ServerError";
  override readonly type = "server";
}

/** The connection failed, again and again. */
export class ConnectionError extends TidegateError {
  override readonly name = "ConnectionError";
  override readonly type = "connection";
}

/** No content came in time, again and again. */
export class FirstContentTimeoutError extends TidegateError {
  override readonly name = "FirstContentTimeoutError";
  override readonly type = "first_content_timeout";
}

/** The answer broke off after part of it had been delivered; `partial` has that part. */
export class StreamInterruptedError extends TidegateError {
  override readonly name = "StreamInterruptedError";
  override readonly type = "interrupted";
}

/** What came is not what the protocol says. */
export class MalformedError extends TidegateError {
  override readonly name = "MalformedError";
  override readonly type = "malformed";
}

/** @internal What the core tells of a failure, and of a call that was answered. */
export interface Report {
  failure?: string;
  route?: string;
  elapsed: number;
  sent: number;
  attempts: (Omit<Attempt, "requestId"> & { request_id?: string })[];
  outcome?: string;
  status?: number;
  message?: string;
  code?: string;
  error_type?: string;
  retry_after?: number;
  request_id?: string;
}

type Kind = {
  make: new (message: string, details: ErrorDetails) => TidegateError;
  what: string;
  advice: string;
};

const later = "try again later";
const laterOrElsewhere = "try again later, or add a fallback route";

/** By the failure's name, or where attempts or time were used up, by the last outcome's. */
const KINDS: Record<string, Kind> = {
  refused: {
    make: RefusedError,
    what: "the provider refused the request",
    advice: "mend the request, it would be refused again",
  },
  authentication: {
    make: AuthenticationError,
    what: "the provider refused the key",
    advice: "check the route's API key, then call resume()",
  },
  forbidden: {
    make: ForbiddenError,
    what: "the key may not do this",
    advice: "check what the route's API key may do, then call resume()",
  },
  insufficient_balance: {
    make: InsufficientBalanceError,
    what: "the account is out of money",
    advice: "top up the account, then call resume()",
  },
  deadline: {
    make: DeadlineError,
    what: "the deadline passed",
    advice: "allow it more time, or send fewer calls at once",
  },
  interrupted: {
    make: StreamInterruptedError,
    what: "the answer broke off",
    advice: "what came is in `partial`; ask again if you need the whole",
  },
  closed: { make: ClosedError, what: "the client was closed", advice: "make a new client" },
  slot: {
    make: RateLimitError,
    what: "the provider kept rejecting for too many requests",
    advice: laterOrElsewhere,
  },
  pressure: { make: OverloadedError, what: "the service stayed overloaded", advice: laterOrElsewhere },
  server: { make: ServerError, what: "the server failed", advice: later },
  transport: { make: ConnectionError, what: "the connection failed", advice: later },
  first_content_timeout: { make: FirstContentTimeoutError, what: "no content came in time", advice: later },
  malformed: { make: MalformedError, what: "the answer could not be understood", advice: later },
};

/** Outcomes that are errors under another name. */
const ALIASES: Record<string, string> = {
  rate: "slot",
  billing: "insufficient_balance",
  // Nothing had been delivered, so nothing was interrupted as far as the caller is concerned.
  interrupted: "transport",
  cancelled: "closed",
  success: "server",
};

/** @internal The answer that was an error. */
export interface ErrorResponse {
  status: number;
  headers: Headers;
  body: string;
}

/** @internal The error of a call that failed. Its message is one sentence: what, where, the server's words, what to do. */
export function failed(report: Report, response?: ErrorResponse, partial?: Partial): TidegateError {
  const { failure = "exhausted", outcome = "server", sent = 0 } = report;
  const name = failure === "exhausted" ? (ALIASES[outcome] ?? outcome) : failure;
  const { make, what, advice } = KINDS[name] ?? (KINDS.server as Kind);
  const attempts = (report.attempts ?? []).map(({ request_id, ...rest }) =>
    request_id === undefined ? rest : { ...rest, requestId: request_id },
  );
  const route = attempts.at(-1)?.route ?? report.route;
  const where = [sent > 0 ? `route \`${route}\`, attempt ${sent}` : "nothing was sent"];
  if (report.status !== undefined) where.push(`status ${report.status}`);
  if (report.request_id !== undefined) where.push(`request id ${report.request_id}`);
  const words = report.message === undefined ? "" : `: ${report.message.replace(/\.+$/, "")}`;
  // The response belongs to the last attempt; a failure for another reason must not show it as its cause.
  const shown = response?.status === report.status ? response : undefined;
  return new make(`${what} (${where.join(", ")})${words}; ${advice}`, {
    status: report.status,
    code: report.code,
    errorType: report.error_type,
    route,
    attempts,
    attemptsMade: sent,
    elapsed: report.elapsed,
    retryAfter: report.retry_after,
    requestId: report.request_id,
    headers: shown?.headers,
    body: shown?.body,
    partial,
  });
}
