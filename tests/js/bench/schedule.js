// What it costs to have very many tasks wait: time and memory of each of 100,000 queued tasks, beside p-limit and p-queue.
// `make bench-npm` runs it.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const CALLS = 100_000;
const CONCURRENCY = 64;
const ROUNDS = 5;

/** What runs a task once there is room for it. */
const subjects = {
  async tidegate() {
    const { Tidegate } = await import("../../../pkg/dist/index.js");
    const client = new Tidegate({ baseURL: "http://127.0.0.1:9", maxConcurrency: CONCURRENCY, maxQueued: 2 * CALLS });
    return (task) => client.schedule(task);
  },
  async "p-limit"() {
    const { default: pLimit } = await import("p-limit");
    return pLimit(CONCURRENCY);
  },
  async "p-queue"() {
    const { default: PQueue } = await import("p-queue");
    const queue = new PQueue({ concurrency: CONCURRENCY });
    return (task) => queue.add(task);
  },
};

/** Bytes in use, those of WebAssembly among them. */
function used() {
  globalThis.gc();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Microseconds of CPU, which a busy machine stretches less than time; the collector's threads are in it. */
function spent(since) {
  const { user, system } = process.cpuUsage(since);
  return user + system;
}

/** Microseconds and bytes of a queued task. */
async function measure(name) {
  const run = await subjects[name]();
  const round = async () => {
    let release;
    const held = new Promise((resolve) => (release = resolve));
    const blockers = Array.from({ length: CONCURRENCY }, () => run(() => held));
    const before = used();
    const started = process.cpuUsage();
    const calls = Array.from({ length: CALLS }, () => run(async () => {}));
    const queued = spent(started);
    const bytes = (used() - before) / CALLS;
    const resumed = process.cpuUsage();
    release();
    await Promise.all([...blockers, ...calls]);
    return { micros: (queued + spent(resumed)) / CALLS, bytes };
  };
  await round();
  const rounds = [];
  for (let i = 0; i < ROUNDS; i++) rounds.push(await round());
  const least = (of) => Math.min(...rounds.map(of));
  return { micros: least(({ micros }) => micros), bytes: least(({ bytes }) => bytes) };
}

const [name] = process.argv.slice(2);
if (name !== undefined) {
  console.log(JSON.stringify(await measure(name)));
} else {
  // A process for each, so that none inherits another's heap.
  const program = fileURLToPath(import.meta.url);
  const found = Object.keys(subjects).map((name) => {
    const told = execFileSync(process.execPath, ["--expose-gc", program, name], { encoding: "utf8" });
    return { name, ...JSON.parse(told) };
  });
  const [ours, ...peers] = found;
  for (const { name, micros, bytes } of found) console.log(`${name}: ${micros.toFixed(2)} µs, ${bytes.toFixed(0)} B`);
  for (const { name, micros, bytes } of peers) {
    console.log(`ours over ${name}: time ${(ours.micros / micros).toFixed(2)}, memory ${(ours.bytes / bytes).toFixed(2)}`);
  }
}
