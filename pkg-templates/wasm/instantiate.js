
// wasm-bindgen's own `initSync` tests `instanceof WebAssembly.Module`, which is false for a module that was compiled in
// another realm, as those of Vercel's edge runtime are.
export function instantiate(module) {
  if (wasm === undefined) __wbg_finalize_init(new WebAssembly.Instance(module, __wbg_get_imports()), module);
}

// Where the core's numbers are read in place.
export function memory() {
  return wasm.memory;
}
