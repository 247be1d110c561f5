import { OURS } from "./copies.js";
import { names, type Report } from "./names.js";
import type { Endpoint } from "./options.js";
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
  isRetryable?: boolean;
  cause?: unknown;
}

/**
 * Why a call failed. Every error of this package is one; `type` says which. It holds no key: keys that a server echoes are
 * struck out.
 */
export abstract class TidegateError extends Error {
  /** What went wrong. */
  abstract readonly type: ErrorType;
  /** The HTTP status of the decisive answer. An error inside an answer whose status was 200 has 200. */
  declare readonly status: number | undefined;
  /** The `code` of the server's error. DeepSeek says `invalid_request_error` whatever it was. */
  declare readonly code: string | undefined;
  /** The `type` of the server's error. */
  declare readonly errorType: string | undefined;
  /** The route whose answer this tells of; where there was none, that of the last attempt. */
  declare readonly route: string | undefined;
  /** The attempts, oldest first. Of very many only the first few and the last are kept. */
  declare readonly attempts: readonly Attempt[];
  /** How many attempts were sent. */
  declare readonly attemptsMade: number;
  /** How long the call took, waiting included, in seconds. */
  declare readonly elapsed: number;
  /** How long the server asked to wait before the next try, in seconds. */
  declare readonly retryAfter: number | undefined;
  /** The server's id of the request, for its support. */
  declare readonly requestId: string | undefined;
  /** The headers of the answer that was an error; none of an error inside an answer whose status was 200. */
  declare readonly headers: Headers | undefined;
  /** The start of its body, at most 64 KiB. */
  declare readonly body: string | undefined;
  /** What had come of an answer that broke off. */
  declare readonly partial: Partial | undefined;
  /** Whether the same call might succeed later. The client has retried already: this is for who can wait longer. */
  declare readonly isRetryable: boolean;

  /** @internal Also one of another copy of the package. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return this === TidegateError ? OURS in Object(value) : Function.prototype[Symbol.hasInstance].call(this, value);
  }

  /** @internal */
  get [OURS](): true {
    return true;
  }

  /** @internal */
  constructor(message: string, details: ErrorDetails = {}) {
    const { cause, ...known } = details;
    super(message, cause === undefined ? undefined : { cause });
    Object.assign(this, { attempts: [], attemptsMade: 0, elapsed: 0, isRetryable: false }, known);
  }
}

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

/** By the core's name for what went wrong. */
const CLASSES: Record<string, new (message: string, details: ErrorDetails) => TidegateError> = {
  closed: ClosedError,
  refused: RefusedError,
  authentication: AuthenticationError,
  forbidden: ForbiddenError,
  insufficient_balance: InsufficientBalanceError,
  deadline: DeadlineError,
  rate_limited: RateLimitError,
  overloaded: OverloadedError,
  connection: ConnectionError,
  first_content_timeout: FirstContentTimeoutError,
  interrupted: StreamInterruptedError,
  malformed: MalformedError,
};

/** @internal The answer that was an error. */
export interface ErrorResponse {
  status: number;
  headers: Headers;
  body: string;
  url: string;
}

/** How much of an answer's body an error keeps, in characters. */
const BODY_KEPT = 64 * 1024;

/** @internal Strikes the keys of routes and calls out of what a server or the transport said. */
export function scrub(words: string, secrets: string[]): string {
  for (const secret of secrets) {
    // A short one (`EMPTY`, `ollama`: servers of one's own take any) may be a part of words, so it has to stand alone.
    if (secret.length >= 8) words = words.split(secret).join("[redacted]");
    else words = words.replace(new RegExp(`(^|\\W)${secret.replace(/\W/g, "\\$&")}(?!\\w)`, "g"), "$1[redacted]");
    // Words are cut to a length, and a key may be what was cut. A part as short as this may be a word.
    let part = secret.length - 1;
    while (part >= 8 && !words.endsWith(secret.slice(0, part))) part--;
    if (part >= 8) words = `${words.slice(0, -part)}[redacted]`;
  }
  return words;
}

/** @internal Those of the routes. */
export const secretsOfAll = (endpoints: Endpoint[]): string[] => endpoints.flatMap(({ secrets }) => secrets);

/**
 * @internal The error of a call that failed, by what the core told of it (`failure` and `error` in src/wasm/report.rs). Its
 * message is one sentence: what, where, the server's words, what to do.
 */
export function failed(
  { numbers, words: said }: Report,
  endpoints: Endpoint[],
  secrets = secretsOfAll(endpoints),
  response?: ErrorResponse,
  partial?: Partial,
): TidegateError {
  const { errors, outcomes } = names;
  const words = said.map((word) => scrub(word, secrets));
  const number = (at: number) => (Number.isNaN(numbers[at]) ? undefined : numbers[at]);
  const routeAt = (at: number) => endpoints[numbers[at] as number]?.name;
  const [name = "", what, advice, retryable] = errors[numbers[0] as number] as string[];
  const [status, retryAfter, elapsed, sent = 0] = [number(1), number(2), number(3), number(4)];
  const [message, code, errorType, requestId] = words.map((word) => word || undefined);
  const attempts: Attempt[] = [];
  for (let at = 6, word = 4; at < numbers.length; at += 5, word += 2) {
    attempts.push({
      route: routeAt(at) as string,
      sent: number(at + 1) as number,
      took: number(at + 2) as number,
      outcome: outcomes[numbers[at + 3] as number] as string,
      ...(number(at + 4) !== undefined && { status: number(at + 4) as number }),
      ...(words[word] && { message: words[word] }),
      ...(words[word + 1] && { requestId: words[word + 1] as string }),
    });
  }
  const last = attempts.at(-1);
  // Whose answer decided; where there was none, the last that was asked.
  const route = routeAt(5) ?? last?.route;
  const isLast = last === undefined || (route === last.route && (status ?? last.status) === last.status);
  const when = sent === 0 ? "nothing was sent" : isLast ? `attempt ${sent}` : `after ${sent} attempt${sent > 1 ? "s" : ""}`;
  const where = [route === undefined ? when : `route \`${route}\`, ${when}`];
  if (status !== undefined) where.push(`status ${status}`);
  if (requestId !== undefined) where.push(`request id ${requestId}`);
  const why = message === undefined ? "" : `: ${message.replace(/\.+$/, "")}`;
  const wait = retryAfter ? `; the server asks to wait ${Math.ceil(retryAfter)} s` : "";
  // The response belongs to the last attempt; a failure for another reason must not show it as its cause.
  const shown = response?.status === status ? response : undefined;
  return new (CLASSES[name] ?? ServerError)(`${what} (${where.join(", ")})${why}${wait}; ${advice}`, {
    status,
    code,
    errorType,
    route,
    attempts,
    attemptsMade: sent,
    elapsed,
    retryAfter,
    requestId,
    headers: shown?.headers,
    body: shown?.body.slice(0, BODY_KEPT),
    partial,
    isRetryable: retryable === "1",
  });
}
