// The examples that are programs, each against a simulated provider.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort, simulate } from "./processes.js";

const service = { first_token: 0.05, tokens_per_second: 1000, output_tokens: 30, chunk_tokens: 4 };

/** Copies an example into the project, where the package is installed. */
async function copied({ root, project }, name) {
  const folder = join(project, name);
  await cp(join(root, "examples", name), folder, { recursive: true, filter: (file) => !file.endsWith("node_modules") });
  return folder;
}

/** Runs a program to its end, with this input. */
function run(command, args, { input = "", ...options }) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, env: { ...process.env, ...options.env }, timeout: 60_000 });
    let [out, err] = ["", ""];
    child.stdout.on("data", (data) => (out += data));
    child.stderr.on("data", (data) => (err += data));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, out, err }));
    child.stdin.end(input);
  });
}

export async function nodeExample(tools) {
  const cwd = await copied(tools, "node");
  const sim = await simulate(tools.program, { cap: 3, service: { ...service, time: 0.2 } });
  try {
    const files = [];
    for (let i = 0; i < 24; i++) await writeFile(files[files.push(join(cwd, `${i}.md`)) - 1], `Document ${i}.\n`);
    const env = { DEEPSEEK_API_KEY: "sk-simulated-0123456789", DEEPSEEK_BASE_URL: sim.url };
    const first = await run(process.execPath, ["--unhandled-rejections=strict", "summarise.js", ...files], { cwd, env });
    assert.equal(first.code, 0, first.err);
    const lines = first.out.trim().split("\n");
    assert.equal(lines.length, 24);
    for (let i = 0; i < 24; i++) assert.ok(lines.some((line) => line.startsWith(`${i}.md: `) && line.includes(`Document ${i}.`)), `a summary of ${i}.md`);
    assert.match(first.err, /^24 of 24 summarised; \d+ requests, \d+ answered 429$/m);
    const learned = JSON.parse(await readFile(join(cwd, ".tidegate.json"), "utf8"));
    assert.equal(learned[0].model, "deepseek-flash");

    await sim.play({ windows: [{ status: 402 }] });
    const broke = await run(process.execPath, ["summarise.js", files[0]], { cwd, env });
    assert.equal(broke.code, 1);
    assert.match(broke.err, /stopped: billing/);
    assert.match(broke.err, /the account is out of money/);
    return `24 files, then none without money`;
  } finally {
    await sim.stop();
  }
}

export async function denoExample(tools) {
  const cwd = await copied(tools, "deno");
  const sim = await simulate(tools.program, { service });
  try {
    const deno = join(tools.modules, "@deno/linux-x64-glibc/deno");
    const { links, ...config } = JSON.parse(await readFile(join(cwd, "deno.json"), "utf8"));
    assert.deepEqual(links, ["../../pkg"]);
    await writeFile(join(cwd, "deno.json"), JSON.stringify(config));
    const [, ...args] = config.tasks.chat.split(" ");
    // The package that is installed here, not one of a registry or of another folder.
    args.splice(1, 0, "--node-modules-dir=manual", "--no-remote", "--no-prompt");
    const env = { DEEPSEEK_API_KEY: "sk-simulated-0123456789", DEEPSEEK_BASE_URL: sim.url, NO_COLOR: "1" };
    const input = "Why do tides come twice a day?\n\nAnd why not at noon?\n";
    const { code, out, err } = await run(deno, args, { cwd, env, input });
    assert.equal(code, 0, err);
    assert.ok(out.includes("Why do tides come twice a day?") && out.includes("And why not at noon?"), `${out}\n${err}`);
    assert.match(out, /\x1b\[2m/, "the reasoning is dim");
    assert.equal((await sim.tally()).completed, 2);
    return "two questions answered";
  } finally {
    await sim.stop();
  }
}

export async function workerExample(tools) {
  const cwd = await copied(tools, "worker");
  const sim = await simulate(tools.program, { cap: 2, service });
  const key = "sk-simulated-0123456789";
  await writeFile(join(cwd, ".dev.vars"), `DEEPSEEK_API_KEY=${key}\nDEEPSEEK_BASE_URL=${sim.url}\n`);
  const args = ["dev", "--local", "--ip", "127.0.0.1", "--port", String(await freePort()), "--inspector-port", "0", "--show-interactive-dev-session=false"];
  // Nothing is asked of Cloudflare.
  const env = { CLOUDFLARE_CF_FETCH_ENABLED: "false", WRANGLER_SEND_METRICS: "false", CI: "true", HOME: cwd };
  const dev = await tools.start(join(tools.bin, "wrangler"), args, /Ready on (http:\/\/[\w.:]+)/, { cwd, env });
  const post = (body, init) => fetch(`${dev.found[1]}/chat`, { method: "POST", body: JSON.stringify(body), ...init });
  const chat = (content) => ({ messages: [{ role: "user", content }] });
  try {
    const texts = await Promise.all(Array.from({ length: 12 }, async (_, i) => {
      const response = await post(chat(`Question ${i}?`));
      assert.deepEqual([response.status, response.headers.get("content-type")], [200, "text/event-stream"]);
      assert.ok(![...response.headers].join().includes(key));
      return response.text();
    }));
    texts.forEach((text, i) => {
      assert.ok(text.endsWith("data: [DONE]\n\n"), "it came whole");
      const chunks = text.trim().split("\n\n").slice(0, -1).map((event) => JSON.parse(event.slice("data: ".length)));
      const said = chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
      assert.ok(said.includes(`Question ${i}?`), said);
    });
    assert.equal((await post({})).status, 400);
    assert.equal((await fetch(dev.found[1])).status, 404);
    const developer = await post({ messages: [{ content: "x" }] });
    assert.deepEqual([developer.status, (await developer.json()).error.message], [400, "Expected `messages[0].role` to be a string, got undefined"]);

    await sim.play({ cap: 2, service: { ...service, output_tokens: 4000, tokens_per_second: 100 } });
    const leaving = new AbortController();
    const response = await post(chat("A long story."), { signal: leaving.signal });
    await response.body.getReader().read();
    leaving.abort();
    for (let i = 0; (await sim.tally()).disconnected === 0; i++) {
      assert.ok(i < 100, "who leaves makes room");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    // Two hold the places for long; a third leaves while it waits for one, and the Worker has nothing to say of it.
    const held = await Promise.all([1, 2].map(() => post(chat("A long story."))));
    const waits = new AbortController();
    const third = post(chat("Will it be long?"), { signal: waits.signal }).catch(({ name }) => name);
    await new Promise((resolve) => setTimeout(resolve, 300));
    waits.abort();
    assert.equal(await third, "AbortError");
    for (const { body } of held) await body.cancel();

    await sim.play({ windows: [{ status: 402 }] });
    const broke = await post(chat("x"));
    assert.deepEqual([broke.status, await broke.json()], [503, { error: { message: "no answer now; try again later" } }]);
    const bad = dev.said().split("\n").filter((line) => /hung|cross-request|different request|uncaught/i.test(line));
    assert.deepEqual(bad, [], dev.said());
    return "12 visitors on a limit of 2";
  } finally {
    await dev.stop();
    await sim.stop();
  }
}
