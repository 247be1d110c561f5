// The npm packages people limit and retry with, and Tidegate's package and command line, on real sockets against
// `tidegate sim`: who makes how much of a hidden cap. `make bench` runs it; `node sockets.js step tidegate` only the
// scenarios and clients that are named.
//
// Every run has a simulator and a process of its own. Goodput is the share of the jobs answered, times the oracle's time
// over theirs; the oracle knows every cap and is played on a virtual clock. A run is cut off at two and a
// half times the oracle's.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { clients } from "./clients.js";
import { scenarios } from "./scenarios.js";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(dirname(here)));
const program = process.env.TIDEGATE ?? join(root, "target/demo/tidegate");
/** From an answer to the next request's arrival, on one machine. */
const ROUND_TRIP = 0.002;
/** So many runs at a time: they mostly wait. The scenario with thousands of connections is run alone. */
const AT_ONCE = 3;

const work = await mkdtemp(join(tmpdir(), "tidegate-bench-"));
let simulators = 0;

/** A simulated provider on a port of its own. */
async function simulator(scenario) {
  let file = scenario;
  if (typeof scenario !== "string") {
    file = join(work, `${simulators++}.json`);
    await writeFile(file, JSON.stringify(scenario));
  }
  const args = ["sim", "--scenario", file, "--listen", "127.0.0.1:0"];
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let seen = "";
  const url = await new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        seen += `${line}\n`;
        const found = /http:\/\/127\.0\.0\.1:\d+/.exec(line);
        if (found) resolve(found[0]);
      });
    }
    child.on("error", reject);
    child.on("close", () => reject(new Error(`the simulator ended:\n${seen}`)));
  });
  const control = async (path, body) => {
    const response = await fetch(`${url}/__sim/${path}`, body && { method: "POST", body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`the simulator: ${await response.text()}`);
    return response.json();
  };
  return { url, control, stop: () => child.kill() };
}

/** Runs a program to its end; resolves to what it wrote to its standard output. */
async function output(command, args, { env, codes = [0] } = {}) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let [out, error] = ["", ""];
  child.stdout.on("data", (data) => (out += data));
  child.stderr.on("data", (data) => (error += data));
  const [code] = await once(child, "close");
  if (!codes.includes(code)) throw new Error(`${command} ended with ${code}\n${error}`);
  return out;
}

/** Tidegate's command line, which is its Rust client. */
async function batch({ url, jobs }) {
  const file = join(work, `${simulators++}.jsonl`);
  const lines = Array.from({ length: jobs }, (_, job) => JSON.stringify({ id: `${job}`, prompt: `About ${job}.` }));
  await writeFile(file, lines.join("\n"));
  await fetch(`${url}/__sim/reset`, { method: "POST" });
  const args = ["batch", file, "-o", `${file}.out`, "--base-url", url, "--model", "deepseek-flash", "--json", "--quiet"];
  // 1: some lines have errors, which is a result.
  const ended = await output(program, args, { env: { OPENAI_API_KEY: "sk-simulated-key" }, codes: [0, 1] });
  const summary = JSON.parse(ended);
  const answered = summary.answered ?? 0;
  return { answered, lost: jobs - answered, seconds: summary.elapsed_seconds, finished: true };
}

async function run(name, { scenario, jobs, average }) {
  const sim = await simulator(scenario);
  try {
    const ideal = await sim.control("oracle", { jobs, round_trip: ROUND_TRIP });
    const limit = 2500 * ideal.makespan;
    const result =
      name === CLI
        ? await batch({ url: sim.url, jobs })
        : JSON.parse(
            await output(process.execPath, [
              join(here, "child.js"),
              JSON.stringify({ name, url: sim.url, concurrency: average, jobs, limit }),
            ]),
          );
    const tally = await sim.control("tally");
    const rejected = (tally.rejected.slot ?? 0) / Math.max(tally.requests, 1);
    const time = Math.max(result.finished ? result.seconds : limit / 1000, ideal.makespan);
    const goodput = ((result.answered / jobs) * ideal.makespan) / time;
    return { ...result, goodput, rejected, lost: result.lost / jobs, ideal: ideal.makespan };
  } finally {
    sim.stop();
  }
}

const CLI = "tidegate (Rust)";
const everyone = [...Object.keys(clients), CLI];
const wanted = process.argv.slice(2);
for (const name of wanted.filter((name) => !(name in scenarios) && !everyone.includes(name))) {
  console.error(`no scenario or client \`${name}\`; there are ${[...Object.keys(scenarios), ...everyone].join(", ")}`);
  process.exit(2);
}
/** Those that are named; all if none is. */
const among = (all, name) => {
  const named = all.filter((one) => wanted.includes(name(one)));
  return named.length > 0 ? named : all;
};
const chosen = among(Object.entries(scenarios), ([name]) => name);
const names = among(everyone, (name) => name);
const tasks = chosen.flatMap(([scenario, work]) => names.map((name) => ({ scenario, work, name })));
const results = new Map();

async function worker(queue) {
  for (let task = queue.shift(); task; task = queue.shift()) {
    const result = await run(task.name, task.work);
    results.set(`${task.scenario} ${task.name}`, result);
    const { answered, seconds, finished, why } = result;
    const end = finished ? `in ${seconds.toFixed(1)} s` : "when it was cut off";
    const text = `${task.scenario}: ${task.name} answered ${answered} of ${task.work.jobs} ${end}`;
    console.error(why ? `${text}; first loss: ${why.slice(0, 90).replaceAll("\n", " ")}` : text);
  }
}

try {
  const large = tasks.filter(({ work }) => work.jobs > 2000);
  const small = tasks.filter(({ work }) => work.jobs <= 2000);
  await Promise.all(Array.from({ length: AT_ONCE }, () => worker(small)));
  await worker(large);
} finally {
  await rm(work, { recursive: true, force: true });
}

const width = Math.max(...names.map((name) => name.length)) + 2;
const row = (head, cells) => console.log(head.padEnd(width) + cells.map((cell) => cell.padStart(9)).join(""));
const table = (title, cell) => {
  console.log(`\n${title}`);
  row("", chosen.map(([scenario]) => scenario));
  for (const name of names) row(name, chosen.map(([scenario]) => cell(results.get(`${scenario} ${name}`))));
};
const percent = (share) => (share === 0 ? "0" : (100 * share).toFixed(1));
console.log("Over real sockets, one run each; queues have the average cap as their concurrency.");
for (const [name, { about, jobs }] of chosen) {
  const { ideal } = results.get(`${name} ${names[0]}`);
  console.log(`  ${name.padEnd(8)} ${about}; ${jobs} jobs, ${ideal.toFixed(1)} s at best`);
}
table("Goodput over the oracle's", ({ goodput }) => goodput.toFixed(3));
table("Attempts rejected for the cap, %", ({ rejected }) => percent(rejected));
table("Jobs lost, %", ({ lost, finished }) => (finished ? percent(lost) : `${percent(lost)}, cut`));
