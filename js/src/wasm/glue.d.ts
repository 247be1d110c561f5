/**
 * What the compiled core exports, by hand: wasm-bindgen would type every JavaScript value as `any`. The code is made by
 * wasm-bindgen (`make npm`), with `instantiate` put after it from `pkg-templates/wasm/instantiate.js`.
 */

/** Makes the core ready; does nothing if it is. Must be called before anything else here. */
export function instantiate(module: WebAssembly.Module): void;

/** The version of the compiled core. */
export function version(): string;
