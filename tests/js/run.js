// Packs pkg/, installs the tarball into a fresh project for each runtime, and runs that runtime's script there.
import { spawn } from "node:child_process";
import { cp, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { performance } from "node:perf_hooks";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(here));
// Bundlers that run in this process set NODE_ENV, which npm heeds.
const environment = { ...process.env };
const names = (text) => text.split(/[\s,]+/).filter(Boolean);

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

const program = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "debug/tidegate");

/** A simulated provider on a port of its own. */
async function simulator() {
  const args = ["sim", "--scenario", "steady", "--listen", "127.0.0.1:0"];
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let seen = "";
  const url = await new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface(stream).on("line", (line) => {
        seen += `${line}\n`;
        const found = /https?:\/\/127\.0\.0\.1:\d+/.exec(line);
        if (found) resolve(found[0]);
      });
    }
    child.on("close", () => reject(new Error(`the simulator ended:\n${seen}`)));
  });
  // Answers of a few tokens, at once.
  const service = { first_token: 0.02, tokens_per_second: 2000, output_tokens: 40, chunk_tokens: 4 };
  const told = await fetch(`${url}/__sim/scenario`, { method: "POST", body: JSON.stringify({ service }) });
  if (!told.ok) throw new Error(`the simulator: ${await told.text()}`);
  return { url, stop: () => child.kill() };
}

const work = await mkdtemp(join(tmpdir(), "tidegate-js-"));
const skip = new Set(names(process.env.SKIP_RUNTIMES ?? ""));
const wanted = new Set(process.argv.slice(2));
const counts = { passed: 0, failed: 0, skipped: 0 };
const sim = await simulator();
try {
  await execute("npm", ["pack", "--silent", "--pack-destination", work], { cwd: join(root, "pkg") });
  const tarball = join(work, (await readdir(work)).find((file) => file.endsWith(".tgz")));

  const runtimes = [];
  for (const file of (await readdir(join(here, "runtimes"))).sort()) {
    if (file.endsWith(".js")) runtimes.push(...(await import(`./runtimes/${file}`)).default);
  }
  for (const name of [...skip, ...wanted]) {
    if (!runtimes.some((runtime) => runtime.name === name)) throw new Error(`there is no runtime called ${name}`);
  }

  for (const { name, run } of runtimes) {
    if (wanted.size > 0 && !wanted.has(name)) continue;
    if (skip.has(name)) {
      counts.skipped += 1;
      console.log(`skipped  ${name} (SKIP_RUNTIMES)`);
      continue;
    }
    const started = performance.now();
    try {
      const project = join(work, name);
      await cp(join(here, "project"), project, { recursive: true });
      await writeFile(join(project, "provider.js"), `export default ${JSON.stringify({ url: sim.url })};\n`);
      await execute("npm", ["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", tarball], { cwd: project });
      const said = await run({
        project,
        program,
        provider: sim.url,
        root,
        tarball,
        bin: join(here, "node_modules/.bin"),
        modules: join(here, "node_modules"),
        execute: (command, args, options) => execute(command, args, { cwd: project, ...options }),
      });
      counts.passed += 1;
      console.log(`passed   ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)${said ? `: ${said}` : ""}`);
    } catch (error) {
      counts.failed += 1;
      console.log(`FAILED   ${name}\n${String(error?.stack ?? error).replaceAll(/^/gm, "         ")}`);
    }
  }
} finally {
  sim.stop();
  await rm(work, { recursive: true, force: true });
}
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
