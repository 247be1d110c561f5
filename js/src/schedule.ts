import type { Gate } from "./driver.js";
import { failed, type Report } from "./errors.js";
import { unix, words } from "./exchange.js";
import { expected, type CallOptions } from "./options.js";

/** How a task is to be treated. */
export interface ScheduleOptions extends Pick<CallOptions, "workload" | "signal" | "timeout" | "onFull"> {
  /** The model whose limit it counts against. Default: a limit of its own, named `schedule`. */
  model?: string | undefined;
}

/** @internal */
export const SCHEDULE = ["workload", "signal", "timeout", "onFull", "model"] as const;

const OFF = { headers: false, firstContent: false, idle: false } as const;

/** @internal Runs a task once a permit is free; see `Tidegate.schedule`. */
export async function schedule<T>(
  gate: Gate,
  task: (signal: AbortSignal | undefined) => T | PromiseLike<T>,
  options: ScheduleOptions,
): Promise<T> {
  if (typeof task !== "function") throw expected("the task", "a function", task);
  const { model = "schedule", signal } = options;
  const call = gate.submit({ model }, { ...options, clocks: OFF, maxAttempts: 1 });
  const order = await call.order();
  if (order.kind === "end") throw failed(JSON.parse(order.detail) as Report);
  const attempt = order.kind === "send" ? order.attempt : 0;
  try {
    const result = await task(signal ?? undefined);
    gate.core.finished(200, "", undefined, unix());
    call.ended(attempt);
    return result;
  } catch (error) {
    // What the task's own client says of a status is learned from, as if it had been our request.
    const { status, headers } = (typeof error === "object" && error !== null ? error : {}) as Record<string, unknown>;
    if (typeof status === "number" && status >= 400 && status < 600) {
      let lines = "";
      if (headers instanceof Headers) headers.forEach((value, name) => (lines += `${name}\n${value}\n`));
      gate.core.classify(status, lines, new TextEncoder().encode(words(error)), unix());
    } else {
      // A fault of the task says nothing of the provider.
      gate.core.finished(200, "", undefined, unix());
    }
    call.settled(attempt);
    throw error;
  }
}
