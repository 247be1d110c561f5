import type { Core } from "./wasm/glue.js";

/** @internal What the core tells: numbers, NaN for one that is not known, and words, empty for one that is not known. */
export interface Report {
  numbers: Float64Array;
  words: string[];
}

/** @internal What the core can be asked to tell. */
export const ACTION = 0, COUNTED = 1, LEARNED = 2, OUTCOME = 3;

/** @internal Has the core tell. */
export function told(core: Core, what: number, now = 0): Report {
  core.tell(what, now);
  return { numbers: core.numbers(), words: core.words().split("\0") };
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

/** @internal Once the core has started. */
export let names: Names;

/** @internal Reads the names that the core tells. */
export function learnNames(told: string): void {
  const lists = told.split("\n").map((line) => line.split("\0"));
  const rows = (at: number, width: number) => {
    const list = lists[at] as string[];
    return Array.from({ length: Math.floor(list.length / width) }, (_, row) => list.slice(row * width, (row + 1) * width));
  };
  names = { outcomes: lists[0] as string[], errors: rows(1, 4), counters: rows(2, 2), gauges: rows(3, 2), distributions: rows(4, 2) };
}
