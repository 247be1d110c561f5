import { Call, SEND, type Gate } from "./driver.js";
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

type Work<T> = (signal: AbortSignal | undefined) => T | PromiseLike<T>;

/** @internal Runs a task once a permit is free; see `Tidegate.schedule`. */
export function schedule<T>(gate: Gate, work: Work<T>, given: ScheduleOptions | undefined): Promise<T> {
  // What is thrown in here rejects.
  return new Promise((resolve, reject) => {
    const options = given === undefined ? ONCE : { ...(callOptions(given, SCHEDULE) as ScheduleOptions), ...ONCE };
    if (typeof work !== "function") throw expected("the task", "a function", work);
    const task = new Task(gate, work, options.signal ?? undefined, resolve, reject);
    gate.submit(given?.model ?? "schedule", options, 0, undefined, task);
    task.watch(nothing);
  });
}

const nothing = (): void => {};

/** All that is kept of a task that waits, and no closure: there may be a hundred thousand. */
class Task<T> extends Call {
  readonly #work: Work<T>;
  readonly #signal: AbortSignal | undefined;
  readonly #resolve: (result: T) => void;
  readonly #reject: (reason: unknown) => void;
  #waits = true;

  constructor(
    gate: Gate,
    work: Work<T>,
    signal: AbortSignal | undefined,
    resolve: (result: T) => void,
    reject: (reason: unknown) => void,
  ) {
    super(gate);
    this.#work = work;
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  protected override ring(): void {
    super.ring();
    // What comes later is about a task that runs: only its end gives the permit back.
    if (!this.#waits) return;
    this.#waits = false;
    this.ignoreSignal();
    try {
      if (this.take() !== SEND) throw failed(this.failure as Report, this.gate.endpoints);
    } catch (error) {
      return this.#reject(error);
    }
    // Not at once: whoever ended just now is still at work. A promise, for `queueMicrotask` costs several in Node.
    void Promise.resolve().then(() => this.#run());
  }

  #run(): void {
    const work = this.#work;
    const fail = (error: unknown) => this.#fail(error);
    try {
      const result = Promise.resolve(work(this.#signal));
      void result.then((result) => {
        this.succeeded(this.attempt);
        this.#resolve(result);
      }, fail);
    } catch (error) {
      fail(error);
    }
  }

  /** What an SDK in the task says of an overload is learned from, as if the request had been ours. */
  #fail(error: unknown): void {
    const { core } = this.gate;
    const { status, headers } = (typeof error === "object" && error !== null ? error : {}) as Record<string, unknown>;
    const told = typeof status === "number" && (status === 429 || (status >= 500 && status < 600));
    // Everything else is the task's own affair (400): a wrong key of another service must not close our route.
    if (told) classify(core, status, headers instanceof Headers ? headerLines(headers) : "", words(error));
    else classify(core, 400, "", "");
    this.settled(this.attempt);
    this.#reject(error);
  }
}
