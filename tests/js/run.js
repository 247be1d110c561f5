// Packs pkg/, installs the tarball into a fresh project for each runtime, and runs the behaviour suite there.
import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { cp, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { startControl } from "./harness/control.js";
import { SHARED } from "./harness/served.js";
import { cases as all, lastCases } from "./suite/index.js";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(here));
// Bundlers that run in this process set NODE_ENV, which npm heeds.
const environment = { ...process.env };
const names = (text) => text.split(/[\s,]+/).filter(Boolean);
/** The cases to run: those that match what CASES says, or all. */
const cases = all.filter((name) => new RegExp(process.env.CASES ?? "").test(name));
/** Packages that are used together with this one; every project has them. */
const companions = ["openai"];

/** Runs a program; resolves to what it wrote to its standard output, throws with all it wrote if it fails or hangs. */
function execute(command, args, { cwd, env, timeout = 120_000 } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: { ...environment, ...env }, stdio: ["ignore", "pipe", "pipe"], timeout });
    let out = "";
    let all = "";
    child.stdout.on("data", (data) => ((out += data), (all += data)));
    child.stderr.on("data", (data) => (all += data));
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (code === 0) resolve(out);
      else reject(new Error(`${basename(command)} ${args.join(" ")} ended with ${signal ?? code}\n${all}`));
    });
  });
}

/**
 * Starts a program that serves; resolves once it writes what `ready` matches, to that match, all it said so far, and what
 * stops it.
 */
function start(command, args, ready, { cwd, env = {} }) {
  // A group of its own: such programs start others, and don't always end them.
  const child = spawn(command, args, { cwd, env: { ...environment, ...env }, stdio: ["ignore", "pipe", "pipe"], detached: true });
  let all = "";
  const kill = () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid, "SIGTERM");
  };
  endings.add(kill);
  const closed = new Promise((resolve) => child.on("close", resolve)).finally(() => endings.delete(kill));
  const stop = async () => {
    kill();
    await closed;
  };
  return new Promise((resolve, reject) => {
    const fail = (why) => {
      clearTimeout(timer);
      reject(new Error(`${basename(command)} ${args.join(" ")} ${why}\n${all}`));
    };
    const timer = setTimeout(() => {
      fail("was not ready in a minute");
      kill();
    }, 60_000);
    const hear = (data) => {
      all += data;
      const found = ready.exec(all);
      if (found === null) return;
      clearTimeout(timer);
      resolve({ found, said: () => all, stop });
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.on("error", fail);
    child.on("close", () => fail("ended"));
  });
}

/** What the suite came to in a runtime, in words; throws unless every case has passed, or lacks what it may lack. */
function verdict(results, { serves = false, lacks = [] }) {
  const expected = [...cases, ...lastCases, ...(serves ? [SHARED] : [])];
  const faults = [];
  const missing = new Set();
  for (const name of expected) {
    const result = results.get(name);
    if (result === undefined) faults.push(`${name}: nothing was heard of it`);
    else if (result.error !== undefined) faults.push(`${name}: ${result.error}`);
    else if (result.lacks !== undefined && !lacks.includes(result.lacks)) faults.push(`${name}: not run, for want of ${result.lacks}`);
    else if (result.lacks !== undefined) missing.add(result.lacks);
  }
  if (faults.length > 0) throw new Error(`${faults.length} of ${expected.length} cases failed\n${faults.join("\n")}`);
  const ran = expected.filter((name) => results.get(name).lacks === undefined).length;
  return `${ran} cases${missing.size > 0 ? `, without ${[...missing].join(" and ")}` : ""}`;
}

/** What must be done however this ends. */
const endings = new Set();
process.on("exit", () => endings.forEach((end) => end()));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

const work = await mkdtemp(join(tmpdir(), "tidegate-js-"));
endings.add(() => rmSync(work, { recursive: true, force: true }));
const skip = new Set(names(process.env.SKIP_RUNTIMES ?? ""));
const wanted = new Set(process.argv.slice(2));
const counts = { passed: 0, failed: 0, skipped: 0 };
const reports = new Map();
const program = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "debug/tidegate");
const control = await startControl(program, (runtime, result) => reports.get(runtime)?.(result));
endings.add(control.stop);

const indented = (error) => String(error?.stack ?? error).replaceAll(/^/gm, "         ");

/** A project of its own for a runtime, with the package installed. */
async function projectOf(name, where) {
  const project = join(work, name);
  await rm(project, { recursive: true, force: true });
  await cp(join(work, "installed"), project, { recursive: true, verbatimSymlinks: true });
  await writeFile(join(project, "where.js"), `export default ${JSON.stringify(where)};\n`);
  return project;
}

/** Runs one; what there is to say of it. */
async function attempt({ name, suite, run }, tarball) {
  const results = new Map();
  let over;
  /** Resolves once the runtime has told that it is through. */
  const untilOver = () => new Promise((resolve) => (over = resolve));
  const isOver = untilOver();
  const told = (result) => (result.over ? over() : void results.set(result.name, result));
  reports.set(name, told);
  const { lacks = [], changes = [], browser = false } = suite ?? {};
  const atOnce = 8;
  const project = await projectOf(name, { runtime: name, control: control.url, cases, lacks, changes, browser, atOnce });
  const tools = {
    project,
    root,
    tarball,
    results,
    cases,
    told,
    isOver,
    untilOver,
    control: control.url,
    atOnce,
    program,
    simulators: control.simulators,
    bin: join(here, "node_modules/.bin"),
    modules: join(here, "node_modules"),
    execute: (command, args, options) => execute(command, args, { cwd: project, ...options }),
    start: (command, args, ready, options) => start(command, args, ready, { cwd: project, ...options }),
  };
  let said;
  let fault;
  try {
    said = await run(tools);
  } catch (error) {
    if (suite === undefined) throw error;
    fault = error;
  }
  if (process.env.VERBOSE) {
    for (const { name, ms, error, lacks } of results.values()) console.log(`         ${error ? "FAILED " : lacks ? "lacks  " : "       "} ${name} (${ms ?? 0} ms)`);
  }
  let found;
  try {
    if (suite !== undefined) found = verdict(results, suite);
  } catch (error) {
    throw fault === undefined ? error : new Error(`${error.message}\n${fault.message}`);
  }
  if (fault !== undefined) throw fault;
  return [said, found].filter(Boolean).join(", ");
}

try {
  await execute("npm", ["pack", "--silent", "--pack-destination", work], { cwd: join(root, "pkg") });
  const tarball = join(work, (await readdir(work)).find((file) => file.endsWith(".tgz")));
  const installed = join(work, "installed");
  await cp(join(here, "project"), installed, { recursive: true });
  await cp(join(here, "suite"), join(installed, "suite"), { recursive: true });
  await execute("npm", ["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", tarball], { cwd: installed });
  for (const companion of companions) await symlink(join(here, "node_modules", companion), join(installed, "node_modules", companion));

  const runtimes = [];
  for (const file of (await readdir(join(here, "runtimes"))).sort()) {
    if (file.endsWith(".js")) runtimes.push(...(await import(`./runtimes/${file}`)).default);
  }
  for (const name of [...skip, ...wanted]) {
    // Those are `tests/wasm/run`'s.
    if (name.startsWith("wasm-")) continue;
    if (!runtimes.some((runtime) => runtime.name === name)) throw new Error(`there is no runtime called ${name}`);
  }

  // Most of a suite is waiting, so two at once; not more, for they also measure.
  const queue = runtimes.filter(({ name }) => wanted.size === 0 || wanted.has(name));
  const lane = async () => {
    for (let runtime; (runtime = queue.shift()) !== undefined; ) {
      const { name } = runtime;
      if (skip.has(name)) {
        counts.skipped += 1;
        console.log(`skipped  ${name} (SKIP_RUNTIMES)`);
        continue;
      }
      const started = performance.now();
      const seconds = () => ((performance.now() - started) / 1000).toFixed(1);
      try {
        // Browsers, bundlers and their like fail to start at times, for reasons of their own. What fails twice is ours.
        const said = await attempt(runtime, tarball).catch((error) => {
          console.log(`again    ${name} (${seconds()} s), for at first it failed\n${indented(error)}`);
          return attempt(runtime, tarball);
        });
        counts.passed += 1;
        console.log(`passed   ${name} (${seconds()} s)${said ? `: ${said}` : ""}`);
      } catch (error) {
        counts.failed += 1;
        console.log(`FAILED   ${name} (${seconds()} s)\n${indented(error)}`);
      }
    }
  };
  await Promise.all([lane(), lane()]);
} finally {
  control.stop();
}
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
