import { Call, RUNS, SEND, type Gate } from "./driver.js";
import { failed } from "./errors.js";
import { classify, headerLines, words } from "./exchange.js";
import type { Report } from "./names.js";
import { CALL, callOptions, expected, text, type CallOptions } from "./options.js";
import { wasm } from "./wasm/glue.js";

/** How a task is to be treated. */
export interface ScheduleOptions extends Pick<CallOptions, "workload" | "signal" | "onFull"> {
  /** How long it may wait, in milliseconds: a task that runs takes as long as it likes. Default: the client's. */
  timeout?: number | undefined;
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
  const turn = new Promise<Call>((start) => {
    const options = given === undefined ? ONCE : { ...(callOptions(given, SCHEDULE) as ScheduleOptions), ...ONCE };
    if (typeof work !== "function") throw expected("the task", "a function", work);
    const task = new Task(gate, work);
    gate.submit(given?.model ?? "schedule", options, 0, undefined, task);
    task.watch(start);
  });
  // By a promise of the caller's, so that the task runs in its async context, not in that of whoever makes room for it.
  return turn.then(run<T>);
}

const run = <T>(task: Call): Promise<T> => (task as Task<T>).run();

/** All that is kept of a task that waits, and no closure: there may be a hundred thousand. */
class Task<T> extends Call {
  readonly #work: Work<T>;

  constructor(gate: Gate, work: Work<T>) {
    super(gate);
    this.#work = work;
  }

  /** Runs the task, if that is what the call is told to do. */
  async run(): Promise<T> {
    const { core, endpoints } = this.gate;
    if (this.take() !== SEND) throw failed(this.failure as Report, endpoints);
    // From now on only the end of the task gives the permit back.
    wasm.core_on(core, 0, this.place, this.serial, this.attempt, RUNS);
    this.ignoreSignal();
    // Not as a method.
    const work = this.#work;
    let result: T;
    try {
      result = await work(this.signal);
    } catch (error) {
      this.#fail(error);
      throw error;
    }
    this.succeeded(this.attempt);
    return result;
  }

  /** What an SDK in the task says of an overload is learned from, as if the request had been ours. */
  #fail(error: unknown): void {
    const { core } = this.gate;
    // Everything else is the task's own affair (400): a wrong key of another service must not close our route.
    classify(core, 400, "", "");
    try {
      const { status, headers } = error as Record<string, unknown>;
      if (typeof status === "number" && (status === 429 || (status >= 500 && status < 600))) {
        const said = Object(headers ?? {}) as object;
        const given = Symbol.iterator in said ? [...(said as Headers)] : Object.entries(said);
        // HTTP/2's own begin with a colon.
        const sendable = given.filter(([name]) => /^[\w-]+$/.test(name)) as [string, string][];
        classify(core, status, headerLines(new Headers(sendable)), words(error));
      }
    } catch {
      // Anything can be thrown, also what can't be looked into.
    }
    this.settled(this.attempt);
  }
}
