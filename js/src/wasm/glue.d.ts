/**
 * What the compiled core exports, by hand: wasm-bindgen would type every JavaScript value as `any`. The code is made by
 * wasm-bindgen (`make npm`), with `instantiate` put after it from `pkg-templates/wasm/instantiate.js`. What each call
 * does is said in `src/wasm/mod.rs`; times are milliseconds.
 */

/** Makes the core ready; does nothing if it is. Must be called before anything else here. */
export function instantiate(module: WebAssembly.Module): void;

/** The version of the compiled core. */
export function version(): string;

/** The core of one client. */
export class Core {
  /** @throws {string} What is wrong with the configuration. */
  constructor(config: string, seed: number);
  submit(
    now: number,
    model: string,
    workload: string,
    userId: string | undefined,
    tokens: number,
    deadline: number,
    headers: number,
    firstContent: number,
    idle: number,
    maxAttempts: number,
    waitForRoom: boolean,
  ): number;
  refusal(): string;
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
  cancel(now: number, call: number): boolean;
  poll(now: number): number;
  call(): number;
  attempt(): number;
  route(): number;
  rename(): string | undefined;
  detail(): string;
  set_notices(wanted: boolean): void;
  next_wake(): number;
  in_flight(): number;
  close(now: number, abort: boolean): void;
  resume(now: number): void;
  snapshot(now: number): string;
  prometheus(now: number): string;
  learned(): string;
  /** @throws {string} What is wrong with it. */
  restore(now: number, learned: string): void;
  classify(status: number, headers: string, body: Uint8Array, unix: number): number;
  finished(status: number, headers: string, reason: string | undefined, unix: number): number;
  blank(status: number, headers: string, unix: number): number;
  error_event(status: number, headers: string, event: string, unix: number): number;
  broken(failure: number, phase: number, status: number, headers: string, words: string): number;
  malformed(words: string, server: boolean): void;
  final_(): void;
  outcome(): string;
}

/** Parses one event stream. */
export class SseParser {
  constructor(maxEventBytes: number);
  feed(chunk: Uint8Array): string;
  readonly overgrown: boolean;
  finish(): string | undefined;
  free(): void;
}
