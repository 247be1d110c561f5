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
  /** An account without money (402), or a route whose key was refused (401, 403), is left alone until `resume()`. */
  stopped: { route: string; cause: string };
}

/** Whose limit an event is about. */
export interface LaneEvent {
  account: string;
  model: string;
  /** The end user, on accounts that limit each. */
  userId?: string;
}

/** @internal */
export const EVENTS = ["limit", "pressure", "recovered", "breaker", "retry", "failover", "low-balance", "stopped"] as const;

/** @internal `in_flight` to `inFlight`, in every key of a value that came as JSON. */
export function camelCased(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camelCased);
  if (typeof value !== "object" || value === null) return value;
  const camel = (key: string) => key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [camel(key), camelCased(inner)]));
}
