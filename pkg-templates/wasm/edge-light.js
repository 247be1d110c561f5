// Vercel's edge runtime refuses to compile bytes; its bundlers compile what is imported with `?module`. So does Nitro, for
// every edge there is: it has the conditions of all of them, so that this one comes first.
import module from "./core.wasm?module";

export function coreModule() {
  return module;
}
