import type { Call, Gate } from "./driver.js";
import { failed } from "./errors.js";
import { classify, headerLines, unix, words } from "./exchange.js";
import type { Report } from "./names.js";
import { CALL, callOptions, expected, text, type CallOptions } from "./options.js";

/** How a task is to be treated. */
export interface ScheduleOptions extends Pick<CallOptions, "workload" | "signal" | "timeout" | "onFull"> {
  /** The model whose limit it counts against. Default: a limit of its own, named `schedule`. */
  model?: string | undefined;
}

const { workload, signal, timeout, onFull } = CALL;
const SCHEDULE = { workload, signal, timeout, onFull, model: text };

/** A task may take as long as it likes, and is never run again. */
const ONCE = { clocks: { headers: false, firstContent: false, idle: false }, maxAttempts: 1 } as const;

type Task<T> = (signal: AbortSignal | undefined) => T | PromiseLike<T>;

/** @internal Runs a task once a permit is free; see `Tidegate.schedule`. */
export function schedule<T>(gate: Gate, task: Task<T>, given: ScheduleOptions): Promise<T> {
  // One promise and one closure a task: there may be a hundred thousand. What is thrown in here rejects.
  return new Promise((resolve, reject) => {
    const options = callOptions(given, SCHEDULE) as ScheduleOptions;
    if (typeof task !== "function") throw expected("the task", "a function", task);
    const call = gate.submit({ model: options.model ?? "schedule" }, { ...options, ...ONCE });
    const look = () => {
      try {
        const order = call.take();
        if (order === undefined) return call.watch(look);
        if (order.kind === "end") throw failed(order.failure as Report, gate.endpoints);
        // From now on only the task's end gives the permit back: it may not listen to the signal.
        call.ignoreSignal();
        const { attempt } = order as { attempt: number };
        // Not at once: whoever ended just now is still at work.
        queueMicrotask(() => run(gate, call, attempt, task, options.signal).then(resolve, reject));
      } catch (error) {
        reject(error);
      }
    };
    look();
  });
}

async function run<T>(gate: Gate, call: Call, attempt: number, task: Task<T>, signal: AbortSignal | null | undefined): Promise<T> {
  try {
    const result = await task(signal ?? undefined);
    gate.core.finished(200, "", undefined, unix());
    call.ended(attempt);
    return result;
  } catch (error) {
    // What an SDK in the task says of an overload is learned from, as if the request had been ours. Everything else is the
    // task's own affair (400): a wrong key of another service must not close our route.
    const { status, headers } = (typeof error === "object" && error !== null ? error : {}) as Record<string, unknown>;
    const told = typeof status === "number" && (status === 429 || (status >= 500 && status < 600));
    if (told) classify(gate.core, status, headers instanceof Headers ? headerLines(headers) : "", words(error));
    else classify(gate.core, 400, "", "");
    call.settled(attempt);
    throw error;
  }
}
