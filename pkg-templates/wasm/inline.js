// The compiled core, in the code itself: no file to find, so that bundlers, Deno without permissions and browsers need
// no settings. Synchronous, so that nobody has to wait for an init.
const base64 = "{{core_wasm_base64}}";

export function coreModule() {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return new WebAssembly.Module(bytes);
}
