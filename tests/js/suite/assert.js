// Assertions that need nothing of the runtime they are made in.

class AssertionError extends Error {
  name = "AssertionError";
}

export function fail(message) {
  throw new AssertionError(message);
}

function shown(value) {
  if (typeof value === "bigint" || typeof value === "function" || typeof value === "symbol") return String(value);
  if (value instanceof Error) return String(value.stack ?? value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}

/** By structure, whatever realm the values come from; errors and the like are the same only if they are identical. */
function same(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (a instanceof Error || b instanceof Error || Array.isArray(a) !== Array.isArray(b)) return false;
  const [ours, theirs] = [Object.keys(a), Object.keys(b)];
  return ours.length === theirs.length && ours.every((key) => Object.hasOwn(b, key) && same(a[key], b[key]));
}

export function ok(value, message = "expected something true") {
  if (!value) fail(`${message}, got ${shown(value)}`);
}

export function equal(actual, expected, message = "") {
  if (!Object.is(actual, expected)) fail(`${message}: expected ${shown(expected)}, got ${shown(actual)}`);
}

export function deepEqual(actual, expected, message = "") {
  if (!same(actual, expected)) fail(`${message}: expected ${shown(expected)}, got ${shown(actual)}`);
}

export function match(text, pattern) {
  if (typeof text !== "string" || !pattern.test(text)) fail(`expected ${pattern} to match ${shown(text)}`);
}

/** Runs `work`, which must throw; what it threw, whose words must match. */
export function throws(work, pattern) {
  let value;
  try {
    value = work();
  } catch (error) {
    match(String(error), pattern);
    return error;
  }
  return fail(`expected ${pattern} to be thrown, got ${shown(value)}`);
}

/** What `promise` rejects with. */
export async function rejection(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  return fail(`expected a rejection, got ${shown(value)}`);
}
