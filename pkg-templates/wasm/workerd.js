// Cloudflare Workers refuse to compile bytes; a `.wasm` import is compiled when the Worker is uploaded.
import module from "./core.wasm";

export function coreModule() {
  return module;
}
