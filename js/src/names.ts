import { tell, type Core } from "./wasm/glue.js";

/** @internal What the core tells: numbers, NaN for one that is not known, and words, empty for one that is not known. */
export interface Report {
  numbers: Float64Array;
  words: string[];
}

/** @internal What the core can be asked to tell. */
export const ACTION = 0, COUNTED = 1, LEARNED = 2, OUTCOME = 3, RENAME = 4;
const NAMES = 5;

/** @internal Has the core tell. */
export function told(core: Core, what: number, now = 0): Report {
  const { numbers, words } = tell(core, what, now);
  return { numbers, words: words.split("\0") };
}

/** @internal The names of what the core tells as numbers. */
export interface Names {
  /** What attempts come to. */
  outcomes: string[];
  /** Of each kind of error its name, what happened, what to do, and whether to try again. */
  errors: string[][];
  /** Name and help of everything in Prometheus' format. */
  counters: string[][];
  gauges: string[][];
  distributions: string[][];
}

/** @internal Once there is a client. */
export let names: Names;

/** @internal Learns them from the first client's core. */
export function learnNames(core: Core): void {
  if (names !== undefined) return;
  const lists = tell(core, NAMES).words.split("\n").map((line) => line.split("\0"));
  const rows = (at: number, width: number) => {
    const list = lists[at] as string[];
    return Array.from({ length: Math.floor(list.length / width) }, (_, row) => list.slice(row * width, (row + 1) * width));
  };
  names = { outcomes: lists[0] as string[], errors: rows(1, 4), counters: rows(2, 2), gauges: rows(3, 2), distributions: rows(4, 2) };
}
