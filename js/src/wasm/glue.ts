/**
 * The compiled core's exports and what crosses with them, by hand: wasm-bindgen's own code would be three times as large, and
 * hands over each text and list by itself. What each call does is said in `src/wasm/mod.rs`; times are milliseconds.
 */

/** @internal The core of one client: where it lies in memory. */
export type Core = number;

interface Exports {
  memory: WebAssembly.Memory;
  __wbindgen_malloc(bytes: number, align: number): number;
  __wbg_core_free(core: Core, count: number): void;
  make(numbers: number, count: number, words: number, bytes: number, seed: number): Core;
  core_say(core: Core, words: number, bytes: number): void;
  core_model(core: Core): number;
  core_workload(core: Core): number;
  core_user(core: Core): void;
  core_submit(
    core: Core,
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
  core_on(core: Core, now: number, place: number, serial: number, attempt: number, event: number): void;
  core_ended(
    core: Core,
    now: number,
    place: number,
    serial: number,
    attempt: number,
    prompt: number,
    cached: number,
    completion: number,
    reasoning: number,
  ): void;
  core_succeeded(core: Core, now: number, place: number, serial: number, attempt: number): void;
  core_cancel(core: Core, now: number, place: number, serial: number): void;
  core_poll(core: Core, now: number): number;
  core_out(core: Core): number;
  core_tell(core: Core, what: number, now: number): void;
  core_set_notices(core: Core, wanted: boolean): void;
  core_in_flight(core: Core): number;
  core_close(core: Core, now: number, abort: boolean): void;
  core_resume(core: Core, now: number): void;
  core_restore(core: Core, now: number, numbers: number, count: number): number;
  core_classify(core: Core, status: number, unix: number): number;
  core_finished(core: Core, status: number, unix: number): number;
  core_blank(core: Core, status: number, unix: number): number;
  core_error_event(core: Core, status: number, unix: number): number;
  core_broken(core: Core, failure: number, phase: number, status: number): void;
  core_malformed(core: Core, server: boolean): void;
  core_final_(core: Core): void;
}

/** @internal What the core exports, once it has started. */
export let wasm: Exports;

let encoder: TextEncoder | undefined;

/** Made when it is needed: simulated browsers, as of Jest, have none, and may import all of this without calling any. */
const encode = (text: string): Uint8Array => (encoder ??= new TextEncoder()).encode(text);

const bytesAt = (at: number, length: number): Uint8Array => new Uint8Array(wasm.memory.buffer, at, length);

const textAt = (at: number, length: number): string => new TextDecoder().decode(bytesAt(at, length));

/** Copies what is made of units of so many bytes into the core's memory, for it to take over. Returns the place. */
function handOver(bytes: Uint8Array, unit: number): number {
  const at = wasm.__wbindgen_malloc(bytes.length, unit) >>> 0;
  bytesAt(at, bytes.length).set(bytes);
  return at;
}

/** @internal Starts the core. */
export function instantiate(module: WebAssembly.Module): void {
  const raise = (at: number, length: number): never => {
    throw new Error(textAt(at >>> 0, length));
  };
  // Not one of them is called but to complain. wasm-bindgen's names for them change with what it is made of.
  const imports = WebAssembly.Module.imports(module).map(({ name }) => [name, raise]);
  wasm = new WebAssembly.Instance(module, { "./core_bg.js": Object.fromEntries(imports) }).exports as unknown as Exports;
}

const cores =
  typeof FinalizationRegistry === "undefined"
    ? undefined
    : new FinalizationRegistry<Core>((core) => wasm.__wbg_core_free(core, 1));

/** @internal Frees a core once nobody holds `owner` any more, where the host can tell. */
export function freeWith(owner: object, core: Core): void {
  cores?.register(owner, core);
}

/** @internal The core of one client. What makes no sense in its configuration was refused before; see `options.ts`. */
export function make(numbers: number[], words: string[]): Core {
  const [list, text] = [new Uint8Array(Float64Array.from(numbers).buffer), encode(words.join("\0"))];
  return wasm.make(handOver(list, 8), numbers.length, handOver(text, 1), text.length, Math.random()) >>> 0;
}

/** @internal Hands over the words that the next call is about. Only the last may hold a NUL. */
export function say(core: Core, ...words: string[]): void {
  const text = encode(words.join("\0"));
  wasm.core_say(core, handOver(text, 1), text.length);
}

/** @internal Takes over what was told of one limit. Returns whether the core could read it. */
export function restore(core: Core, now: number, account: string, model: string, numbers: Float64Array): boolean {
  say(core, account, model);
  return wasm.core_restore(core, now, handOver(new Uint8Array(numbers.buffer), 8), numbers.length) !== 0;
}

/** @internal Where the core puts numbers to be read in place, until its memory grows: the view is empty then. */
export function outOf(core: Core): Float64Array {
  return new Float64Array(wasm.memory.buffer, wasm.core_out(core) >>> 0, 6);
}

/** @internal Has the core tell: 0 the last action, 1 everything counted, 2 what was learned, 3 the last outcome … */
export function tell(core: Core, what: number, now = 0): { numbers: Float64Array; words: string } {
  wasm.core_tell(core, what, now);
  const [numbers = 0, count, words = 0, length = 0] = outOf(core);
  return { numbers: new Float64Array(wasm.memory.buffer, numbers, count).slice(), words: textAt(words, length) };
}
