/**
 * What the compiled core exports, by hand: wasm-bindgen would type every JavaScript value as `any`. The code is made by
 * wasm-bindgen (`make npm`), with `instantiate` put after it from `pkg-templates/wasm/instantiate.js`. What each call
 * does is said in `src/wasm/mod.rs`; times are milliseconds.
 */

/** Makes the core ready; does nothing if it is. Must be called before anything else here. */
export function instantiate(module: WebAssembly.Module): void;

/** The core's memory. Its `buffer` is another one whenever it has grown. */
export function memory(): WebAssembly.Memory;

/** The names of what is told as numbers; see `js/src/names.ts`. */
export function names(): string;

/** The core of one client. All that makes no sense in its configuration has been refused by then; see `js/src/options.ts`. */
export function make(numbers: Float64Array, words: string, seed: number): Core;

/** The core of one client. */
export class Core {
  model(name: string): number;
  workload(name: string): number;
  user(id: string): void;
  submit(
    now: number,
    model: number,
    workload: number,
    tokens: number,
    deadline: number,
    headers: number,
    firstContent: number,
    idle: number,
    maxAttempts: number,
    waitForRoom: boolean,
  ): number;
  on(now: number, call: number, attempt: number, event: number): void;
  ended(
    now: number,
    call: number,
    attempt: number,
    prompt: number,
    cached: number,
    completion: number,
    reasoning: number,
  ): void;
  succeeded(now: number, call: number, attempt: number): void;
  cancel(now: number, call: number): boolean;
  poll(now: number): number;
  out(): number;
  rename(): string | undefined;
  /** Then `numbers` and `words` have it. 0 the last action, 1 everything counted, 2 what was learned, 3 the last outcome. */
  tell(what: number, now: number): void;
  numbers(): Float64Array;
  words(): string;
  set_notices(wanted: boolean): void;
  in_flight(): number;
  close(now: number, abort: boolean): void;
  resume(now: number): void;
  restore(now: number, account: string, model: string, numbers: Float64Array): boolean;
  classify(status: number, headers: string, lines: string, text: string, why: string, unix: number): number;
  finished(status: number, headers: string, reason: string | undefined, unix: number): number;
  blank(status: number, headers: string, unix: number): number;
  error_event(status: number, headers: string, lines: string, unix: number): number;
  broken(failure: number, phase: number, status: number, headers: string, words: string): number;
  malformed(words: string, server: boolean): void;
  final_(): void;
}
