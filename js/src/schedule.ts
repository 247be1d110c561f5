import { SEND, type Call, type Gate } from "./driver.js";
import { failed } from "./errors.js";
import { classify, headerLines, words } from "./exchange.js";
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
const ONCE: CallOptions = { clocks: { headers: false, firstContent: false, idle: false }, maxAttempts: 1 };

type Task<T> = (signal: AbortSignal | undefined) => T | PromiseLike<T>;

/** @internal Runs a task once a permit is free; see `Tidegate.schedule`. */
export function schedule<T>(gate: Gate, task: Task<T>, given: ScheduleOptions | undefined): Promise<T> {
  // One promise and one closure a task: there may be a hundred thousand. What is thrown in here rejects.
  return new Promise((resolve, reject) => {
    const options = given === undefined ? ONCE : { ...(callOptions(given, SCHEDULE) as ScheduleOptions), ...ONCE };
    if (typeof task !== "function") throw expected("the task", "a function", task);
    const call = gate.submit(given?.model ?? "schedule", options);
    const look = () => {
      try {
        const order = call.take();
        if (order === 0) return call.watch(look);
        if (order !== SEND) throw failed(call.failure as Report, gate.endpoints);
        // From now on only the task's end gives the permit back: it may not listen to the signal.
        call.ignoreSignal();
        // Not at once: whoever ended just now is still at work.
        queueMicrotask(() => run(gate, call, task, options.signal, resolve, reject));
      } catch (error) {
        reject(error);
      }
    };
    look();
  });
}

async function run<T>(
  gate: Gate,
  call: Call,
  task: Task<T>,
  signal: AbortSignal | null | undefined,
  resolve: (result: T) => void,
  reject: (reason: unknown) => void,
): Promise<void> {
  const { attempt } = call;
  let result: T;
  try {
    result = await task(signal ?? undefined);
  } catch (error) {
    // What an SDK in the task says of an overload is learned from, as if the request had been ours. Everything else is the
    // task's own affair (400): a wrong key of another service must not close our route.
    const { status, headers } = (typeof error === "object" && error !== null ? error : {}) as Record<string, unknown>;
    const told = typeof status === "number" && (status === 429 || (status >= 500 && status < 600));
    if (told) classify(gate.core, status, headers instanceof Headers ? headerLines(headers) : "", words(error));
    else classify(gate.core, 400, "", "");
    call.settled(attempt);
    return reject(error);
  }
  call.succeeded(attempt);
  resolve(result);
}
