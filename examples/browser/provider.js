// Where the page finds its provider, and what only a simulated one can do.

/** Below it, the dev server (or a proxy of yours) hands on to the provider, with the key. */
export const path = "/provider";

/**
 * A browser opens six connections to a host at most, unless it speaks HTTP/2 with it. A proxy in production does; the dev
 * server does not, so it is asked under several names, which are all this machine: `a.localhost`, `b.localhost` …
 */
export async function widened() {
  const hosts = [..."abcdefghij"].map((letter) => `${location.protocol}//${letter}.localhost:${location.port}`);
  const usable = ["localhost", "127.0.0.1"].includes(location.hostname) && (await answers(hosts[0]));
  if (!usable) return undefined;
  let next = 0;
  return (url, init) => fetch(url.replace(location.origin, hosts[next++ % hosts.length]), init);
}

const answers = (host) => fetch(`${host}${path}/models`, { signal: AbortSignal.timeout(2000) }).then(({ ok }) => ok, () => false);

/** What a simulated provider says of its limit, which it tells no client; `undefined` of a real one. */
export async function realLimit() {
  try {
    const response = await fetch(`${path}/__sim/tally`);
    if (!response.ok) return undefined;
    const { lanes = [] } = await response.json();
    return lanes.find(({ model }) => model === "deepseek-flash")?.cap ?? null;
  } catch {
    return undefined;
  }
}

const service = { first_token: { uniform: [0.3, 0.9] }, time: { lognormal: { median: 2.4, sigma: 0.4, max: 9 } }, output_tokens: { lognormal: { median: 50, sigma: 0.5, max: 200 } }, chunk_tokens: 3 };

export const weathers = {
  calm: { says: "24 at once, always.", scenario: { cap: 24, service } },
  tide: { says: "From 8 to 40 and back, every half minute.", scenario: { cap: { sawtooth: { low: 8, high: 40, period: 30 } }, service } },
  squall: {
    says: "32 at once, then suddenly 12, then 40, then 16.",
    scenario: { cap: { steps: { points: [[0, 32], [10, 12], [20, 40], [34, 16]], repeat: 44 } }, service },
  },
  storm: {
    says: "The same, with an outage (503), broken streams and blank answers on top.",
    scenario: {
      cap: { steps: { points: [[0, 28], [9, 12], [20, 36], [34, 8]], repeat: 44 } },
      windows: [{ status: 503, from: 13, to: 17 }],
      faults: { cut: 0.02, blank_body: 0.02, reset: 0.02 },
      service,
    },
  },
};

/** Changes the weather of a simulated provider. */
export async function play(weather) {
  const response = await fetch(`${path}/__sim/scenario`, { method: "POST", body: JSON.stringify(weathers[weather].scenario) });
  if (!response.ok) throw new Error(await response.text());
}
