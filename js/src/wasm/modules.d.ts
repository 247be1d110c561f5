/** How this runtime gets the compiled core; the package's private `imports` picks the file. */
declare module "#core-wasm" {
  /** The compiled core. Throws where the host forbids to compile bytes. */
  export function coreModule(): WebAssembly.Module;
}
