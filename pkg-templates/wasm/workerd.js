// Cloudflare Workers refuse to compile bytes; a `.wasm` import is compiled when the Worker is uploaded. Not with `?module`,
// which not every tool knows that bundles for them.
import module from "./core.wasm";

export function coreModule() {
  return module;
}
