/**
 * @internal What one copy of the package knows another by: bundles for each page, as of Next.js or a content delivery network,
 * have one each, and what is kept on `globalThis` goes from one to another. Under the first a client has what the adapters
 * stand on, so that they need nothing of its own copy; under the second each error says that it is one of ours.
 */
export const UNDER = Symbol.for("tidegate.under"), OURS = Symbol.for("tidegate.error");
