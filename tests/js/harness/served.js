// Runs the suite in a runtime that answers requests: a request a case.
import { lastCases } from "../suite/index.js";

/** `request(path)` asks the runtime, and resolves to a `Response`. */
export async function runServed({ cases, told, atOnce, simulators }, request) {
  const asked = async (query) => {
    const response = await request(`/${query}`);
    const text = await response.text();
    if (!response.ok) throw new Error(`${query}: ${response.status} ${text}`);
    return JSON.parse(text);
  };
  const one = async (name) => {
    try {
      told(await asked(`?case=${encodeURIComponent(name)}`));
    } catch (error) {
      told({ name, error: String(error.stack ?? error) });
    }
  };
  const queue = [...cases];
  const worker = async () => {
    while (queue.length > 0) await one(queue.shift());
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  await sharedClient(told, asked, simulators);
  for (const name of lastCases) await one(name);
}

export const SHARED = "30 requests at once share a client with one permit, and all end";

/** A waiter must not be ended by the request that it waits for. */
async function sharedClient(told, asked, simulators) {
  const service = { first_token: 0.01, tokens_per_second: 2000, output_tokens: 20, chunk_tokens: 4 };
  const provider = await simulators.lend({ cap: 1, service });
  const started = Date.now();
  try {
    const query = `?provider=${encodeURIComponent(provider)}&stream=`;
    const answers = await Promise.all(Array.from({ length: 30 }, (_, n) => asked(query + (n % 2 === 0))));
    const unfinished = answers.filter(({ finished }) => finished !== "stop");
    if (unfinished.length > 0) throw new Error(`${unfinished.length} of 30 were not answered whole`);
    // Whoever was last saw them all, if it was one client.
    const last = Math.max(...answers.map(({ completed }) => completed));
    if (last !== 30) throw new Error(`expected one client to have been answered 30 times, got ${last}`);
    told({ name: SHARED, ms: Date.now() - started });
  } catch (error) {
    told({ name: SHARED, ms: Date.now() - started, error: String(error.stack ?? error) });
  } finally {
    simulators.takeBack(provider);
  }
}
