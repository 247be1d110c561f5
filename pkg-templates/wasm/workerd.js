// Cloudflare Workers refuse to compile bytes; a `.wasm` import is compiled when the Worker is uploaded. `?module` is for
// bundlers (Nitro's) that would also make an instance of it.
import module from "./core.wasm?module";

export function coreModule() {
  return module;
}
