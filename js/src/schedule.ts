import type { Gate } from "./driver.js";
import { failed, type Report } from "./errors.js";
import { unix, words } from "./exchange.js";
import { callOptions, expected, type CallOptions } from "./options.js";

/** How a task is to be treated. */
export interface ScheduleOptions extends Pick<CallOptions, "workload" | "signal" | "timeout" | "onFull"> {
  /** The model whose limit it counts against. Default: a limit of its own, named `schedule`. */
  model?: string | undefined;
}

const SCHEDULE = ["workload", "signal", "timeout", "onFull", "model"] as const;

const OFF = { headers: false, firstContent: false, idle: false } as const;

/** @internal Runs a task once a permit is free; see `Tidegate.schedule`. */
export async function schedule<T>(
  gate: Gate,
  task: (signal: AbortSignal | undefined) => T | PromiseLike<T>,
  given: ScheduleOptions,
): Promise<T> {
  const options = callOptions(given, SCHEDULE) as ScheduleOptions;
  if (typeof task !== "function") throw expected("the task", "a function", task);
  const { model = "schedule", signal } = options;
  const call = gate.submit({ model }, { ...options, clocks: OFF, maxAttempts: 1 });
  const order = await call.order();
  if (order.kind === "end") throw failed(JSON.parse(order.failure ?? "{}") as Report);
  const attempt = order.kind === "send" ? order.attempt : 0;
  // From now on the task has the permit, and only its end gives it back: a task may not listen to the signal.
  call.ignoreSignal();
  try {
    const result = await task(signal ?? undefined);
    gate.core.finished(200, "", undefined, unix());
    call.ended(attempt);
    return result;
  } catch (error) {
    // What an SDK in the task says of an overload is learned from, as if the request had been ours. Everything else is the
    // task's own affair (400): a wrong key of another service must not close our route.
    const { status, headers } = (typeof error === "object" && error !== null ? error : {}) as Record<string, unknown>;
    let lines = "";
    if (headers instanceof Headers) headers.forEach((value, name) => (lines += `${name}\n${value}\n`));
    const told = typeof status === "number" && (status === 429 || (status >= 500 && status < 600));
    if (told) gate.core.classify(status, lines, new TextEncoder().encode(words(error)), unix());
    else gate.core.classify(400, "", new Uint8Array(), unix());
    call.settled(attempt);
    throw error;
  }
}
