// Every code block of the package's README, run as it stands.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer, request as ask } from "node:http";
import { join } from "node:path";
import { simulate } from "./processes.js";

/** What blocks use without saying where it is from. */
const GIVEN = {
  Tidegate: "(await import('tidegate')).Tidegate",
  apiKey: "process.env.DEEPSEEK_API_KEY",
  baseURL: "process.env.DEEPSEEK_BASE_URL",
  openrouterKey: '"sk-or-simulated"',
  messages: '[{ role: "user", content: "Why is the sea salty?" }]',
  prompts: '["Why do tides come twice a day?", "Why not at noon?", "And at full moon?"]',
  write: "(text) => process.stdout.write(text)",
  work: "async (prompt) => prompt.length",
  location: "{ origin: process.env.SITE }",
  client: "new (await import('tidegate')).Tidegate()",
};

/** Has Node import `.wasm` as hosts do that compile it themselves. */
const HOOKS = `
import { register } from "node:module";
register("data:text/javascript," + encodeURIComponent(\`
  import { readFile } from "node:fs/promises";
  export async function load(url, context, next) {
    if (!url.endsWith(".wasm")) return next(url, context);
    const bytes = (await readFile(new URL(url))).toString("base64");
    return { format: "module", shortCircuit: true, source: "export default new WebAssembly.Module(Buffer.from('" + bytes + "', 'base64'));" };
  }\`));
`;

/** What stands before and after a block to make it a program. */
function programOf(block) {
  const declared = (name) => new RegExp(`(?:const|let|import)\\s+(?:\\{[^}]*)?\\b${name}\\b`).test(block);
  const given = Object.entries(GIVEN).filter(([name]) => new RegExp(`(?<![.\\w"])${name}\\b(?!:)`).test(block) && !declared(name));
  return [...given.map(([name, value]) => `const ${name} = ${value};`), block].join("\n");
}

const WORKER = `
import worker from "./block.mjs";
const body = JSON.stringify({ messages: [{ role: "user", content: "Why is the sea salty?" }] });
const ask = () => worker.fetch(new Request("https://site.test/", { method: "POST", body }), process.env).then((response) => response.json());
console.log((await Promise.all([ask(), ask()])).map(({ content }) => content).join());
`;

function run(file, options) {
  return new Promise((resolve) => {
    execFile(process.execPath, ["--unhandled-rejections=strict", "--import", "./hooks.mjs", file], { ...options, timeout: 60_000 }, (error, out, err) => resolve({ error, out, err }));
  });
}

/** A site whose `/api/deepseek` goes on to the provider, with the key. */
async function siteOf(provider, key) {
  const server = createServer((request, response) => {
    const path = request.url.replace("/api/deepseek", "");
    const onward = ask(provider + path, { method: request.method, headers: { ...request.headers, authorization: `Bearer ${key}` } }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    request.pipe(onward);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, stop: () => (server.closeAllConnections(), server.close()) };
}

export async function readme({ project, program }) {
  const text = await readFile(join(project, "node_modules/tidegate/README.md"), "utf8");
  const blocks = [...text.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language, code]) => ({ language, code }));
  const indented = [...text.matchAll(/^ {4,}\S.*$/gm)].filter(({ 0: line }) => !blocks.some(({ code }) => code.includes(line)));
  assert.deepEqual(indented, [], "code stands between fences, where it is found and run");
  const service = { first_token: 0.02, tokens_per_second: 2000, output_tokens: 40, chunk_tokens: 4 };
  const sim = await simulate(program, { service });
  const key = "sk-simulated-0123456789";
  const site = await siteOf(sim.url, key);
  let ran = 0;
  try {
    for (const { language, code } of blocks) {
      // That one was run to get here, with the packed package.
      if (language === "sh") {
        assert.equal(code, "npm install tidegate\n");
        continue;
      }
      assert.equal(language, "js", `what language is this?\n${code}`);
      const cwd = join(project, `block-${++ran}`);
      await mkdir(cwd);
      await writeFile(join(cwd, "hooks.mjs"), HOOKS);
      const isWorker = code.includes("export default");
      await writeFile(join(cwd, "block.mjs"), isWorker ? code : programOf(code));
      await writeFile(join(cwd, "worker.mjs"), WORKER);
      await sim.play({ service });
      const env = { ...process.env, DEEPSEEK_API_KEY: key, DEEPSEEK_BASE_URL: sim.url, SITE: site.url, NODE_NO_WARNINGS: "1" };
      const { error, out, err } = await run(isWorker ? "worker.mjs" : "block.mjs", { cwd, env });
      assert.ok(error === null, `block ${ran} fails:\n${code}\n${out}${err}`);
      if (/console\.log|write\(/.test(code)) assert.ok(out.trim() !== "" && !out.includes("undefined"), `block ${ran} prints: ${out}\n${code}`);
      // The block about errors asks for what there is not.
      if (code.includes("no-such-model")) assert.match(err, /^refused 400 the provider refused the request/m);
      else {
        assert.equal(err, "", `block ${ran} complains\n${code}`);
        const calls = /\.create\(|generateText|\.invoke\(/.test(code);
        assert.equal((await sim.tally()).completed > 0, calls, `block ${ran} ${calls ? "asks nothing" : "asks something"}\n${code}`);
      }
    }
    return `${ran} blocks`;
  } finally {
    site.stop();
    await sim.stop();
  }
}
