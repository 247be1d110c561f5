import type { Tidegate } from "../client.js";
import { UNDER } from "../copies.js";
import { expected } from "../options.js";
import type { AdapterOptions, Failed, Fetch } from "../sdk.js";

export type { AdapterOptions } from "../sdk.js";

/** @internal The key is the client's affair; SDKs insist on having one. */
export const NO_KEY = "the-key-is-with-tidegate";

/** @internal A `fetch` that makes the calls of an SDK, treated like the client's own, whichever copy of the package that is of. */
export function fetchUnder(client: Tidegate, options: AdapterOptions, failed: Failed): Fetch {
  const under = (client as Partial<Tidegate> | undefined | null)?.[UNDER];
  if (under === undefined) throw expected("the client", "a Tidegate", client);
  return under.call(client, options, failed);
}
