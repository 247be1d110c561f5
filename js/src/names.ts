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
  /** Name and help of everything in Prometheus' format, and how the metrics call it. */
  counters: string[][];
  gauges: string[][];
  distributions: string[][];
}

/** How the metrics call what is `calls_` or `_seconds` in Prometheus' format. */
const camelCased = (name: string): string =>
  name.replace(/^calls_|_seconds$/g, "").replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

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
  const counted = (at: number) => rows(at, 2).map(([name = "", help = ""]) => [name, help, camelCased(name)]);
  names = { outcomes: lists[0] as string[], errors: rows(1, 4), counters: counted(2), gauges: rows(3, 2), distributions: counted(4) };
}
