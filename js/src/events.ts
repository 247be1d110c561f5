import { names, type Report } from "./names.js";
import type { Endpoint } from "./options.js";

/** What a client tells its listeners, by the event's name. Lanes are what a provider limits as one: account and model. */
export interface TidegateEvents {
  /** The learned limit of a lane changed. */
  limit: LaneEvent & { limit: number };
  /** The service said that it is overloaded; the lane pauses for a moment. */
  pressure: LaneEvent;
  /** The overload is over. */
  recovered: LaneEvent;
  /** The circuit breaker of a lane opened, or closed again. */
  breaker: LaneEvent & { open: boolean };
  /** A call will be tried again. */
  retry: {
    /** How many attempts it has had. */
    attempts: number;
    /** What the last one came to, such as `slot` (429) or `pressure` (503). */
    cause: string;
    /** How long it waits before it queues again, in seconds. */
    delay: number;
  };
  /** A call goes to another route than its last attempt did. */
  failover: { from: string; to: string };
  /** The provider scales the account's limit by its balance: soon it will be out of money. */
  "low-balance": LaneEvent & { limit: number };
  /**
   * An account without money (402), or a route whose key was refused (401, or 403 three times in a row), is left alone until
   * `resume()`, or until a call that finds out succeeds: one is let through every five minutes.
   */
  stopped: { route: string; cause: string };
}

/** Whose limit an event is about. */
export interface LaneEvent {
  account: string;
  model: string;
  /** The end user, on accounts that limit each; empty for the calls that name none, which together count as one. */
  userId?: string;
}

/** @internal Whose limit it is, as the core tells it: `@` and the user's id, or nothing where it is the whole account's. */
export const userOf = (told: string | undefined): { userId?: string } => (told ? { userId: told.slice(1) } : {});

/** @internal By the core's numbers. */
export const EVENTS = ["limit", "pressure", "recovered", "breaker", "retry", "failover", "low-balance", "stopped"] as const;

/** @internal An event by what the core told of it (`notice` in src/wasm/report.rs). */
export function eventOf({ numbers, words }: Report, endpoints: Endpoint[]): { type: string; event: object } {
  const [type = 0, a = 0, b = 0, c = 0] = numbers;
  const [account, model, userId] = words;
  const lane = { account, model, ...userOf(userId) };
  const route = (at: number) => (endpoints[at] as Endpoint).name;
  const cause = names.outcomes[b];
  const event = [
    { ...lane, limit: a },
    lane,
    lane,
    { ...lane, open: a === 1 },
    { attempts: a, cause, delay: c },
    // Only these two are about routes.
    type === 5 && { from: route(a), to: route(b) },
    { ...lane, limit: a },
    type === 7 && { route: route(a), cause },
  ][type] as object;
  return { type: EVENTS[type] as string, event };
}
