// Imported before the package, so that it knows what was there before it.

/**
 * A global on Vercel's edge, elsewhere a part of Node's library, which no bundler for browsers must find here. It is
 * looked for before the rest, for Deno brings more of Node's globals along.
 */
export const AsyncLocalStorage =
  globalThis.AsyncLocalStorage ?? globalThis.process?.getBuiltinModule?.("node:async_hooks").AsyncLocalStorage;

const builtIns = [Object, Function, Array, Promise, Error, String, Map, Set, WeakMap, Uint8Array, ReadableStream, Response];

function look() {
  const seen = new Map();
  for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(globalThis))) seen.set(name, value);
  for (const { name, prototype } of builtIns) {
    for (const key of Reflect.ownKeys(prototype)) {
      seen.set(`${name}.prototype.${String(key)}`, Object.getOwnPropertyDescriptor(prototype, key).value);
    }
  }
  return seen;
}

const before = look();

/** The names of what was added, taken away or replaced since. A getter's value is its runtime's own affair. */
export function touched() {
  const now = look();
  const names = new Set([...before.keys(), ...now.keys()]);
  return [...names].filter((name) => {
    if (before.has(name) !== now.has(name)) return true;
    return before.get(name) !== undefined && !Object.is(before.get(name), now.get(name));
  });
}

/** Rejections that nobody handled. Some runtimes end the program instead, which is noticed as well. */
export const unhandled = new Map();
globalThis.addEventListener?.("unhandledrejection", ({ promise, reason }) => unhandled.set(promise, String(reason?.stack ?? reason)));
// Some tell of it before the one who waits had his turn.
globalThis.addEventListener?.("rejectionhandled", ({ promise }) => unhandled.delete(promise));
