// Vercel's edge runtime refuses to compile bytes; its bundlers compile what is imported with `?module`.
import module from "./core.wasm?module";

export function coreModule() {
  return module;
}
