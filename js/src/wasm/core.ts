import { coreModule } from "#core-wasm";
import { ConfigError, TidegateError } from "../errors.js";
import { instantiate } from "./glue.js";

let given: WebAssembly.Module | undefined;
let ready = false;

/** The core could not be compiled or started here. */
export class CoreUnavailableError extends TidegateError {
  override readonly name = "CoreUnavailableError";
  override readonly type = "core_unavailable";

  constructor(cause: unknown) {
    super(
      `The WebAssembly core could not be started: ${cause instanceof Error ? cause.message : String(cause)}. ` +
        "Under a Content-Security-Policy, `script-src` needs 'wasm-unsafe-eval'; where the host refuses to compile " +
        'bytes, import "tidegate/core.wasm" as a module and hand it to `setCoreModule` before the first client is made.',
      { cause },
    );
  }
}

/**
 * Hands over the compiled core, for hosts that can compile it only in a way of their own. Needed neither on Node, Deno,
 * Bun and in browsers nor on Cloudflare Workers and Vercel's edge.
 *
 * @param module "tidegate/core.wasm", compiled: a `WebAssembly.Module`, whose type is only known where that of the DOM is.
 * @throws {ConfigError} If the core has started already: call it before the first client is made.
 */
export function setCoreModule(module: object): void {
  if (ready) throw new ConfigError("Expected `setCoreModule` to be called before the first client is made");
  given = module;
}

/**
 * @internal Compiles and starts the core (a few milliseconds, synchronously), if it has not started. Whatever `glue.js`
 * exports is to be used after that only. It is imported by name, for bundlers to leave out the loaders we don't need.
 *
 * @throws {CoreUnavailableError} If that is not possible here. A later call tries again.
 */
export function start(): void {
  if (ready) return;
  try {
    instantiate(given ?? coreModule());
  } catch (cause) {
    throw new CoreUnavailableError(cause);
  }
  ready = true;
}
