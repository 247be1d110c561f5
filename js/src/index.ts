import { core } from "./wasm/core.js";

export { CoreUnavailableError, setCoreModule } from "./wasm/core.js";

/** The version of the compiled core. */
export function version(): string {
  return core().version();
}
