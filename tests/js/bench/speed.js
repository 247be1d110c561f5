// What the package costs beside bare `fetch` and the `openai` package: its first client, a call, and a streamed chunk.
// `make bench-npm` runs it.
//
// A process for each, against a server in another that answers at once. Calls and chunks are measured in CPU time, which a
// busy machine stretches less than time, and the least of some rounds counts.
import { execFileSync, spawn } from "node:child_process";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

const CALLS = 2000;
/** Calls under way at a time. */
const AT_ONCE = 32;
const CHUNKS = 10_000;
const ROUNDS = 5;

const program = fileURLToPath(import.meta.url);
const params = { model: "deepseek-flash", messages: [{ role: "user", content: "Say something." }] };
const answer = JSON.stringify({
  id: "1",
  object: "chat.completion",
  created: 1,
  model: "m",
  choices: [{ index: 0, message: { role: "assistant", content: "x".repeat(400) }, finish_reason: "stop" }],
  usage: { prompt_tokens: 9, completion_tokens: 100, total_tokens: 109 },
});

/** Answers every request, or streams to those that ask for it. */
async function serve() {
  const event = (delta, finish_reason) => {
    const choices = [{ index: 0, delta, finish_reason }];
    return `data: ${JSON.stringify({ id: "1", object: "chat.completion.chunk", created: 1, model: "m", choices })}\n\n`;
  };
  const events = `${event({ content: "word " }, null).repeat(CHUNKS - 1)}${event({}, "stop")}data: [DONE]\n\n`;
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request.setEncoding("utf8")) body += chunk;
    const streams = JSON.parse(body).stream === true;
    response.setHeader("content-type", streams ? "text/event-stream" : "application/json");
    response.end(streams ? events : answer);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  console.log(`http://127.0.0.1:${server.address().port}`);
}

/** How each makes a call; with `stream: true` there is something to iterate over. */
const subjects = {
  async fetch(url) {
    return async (params) => {
      const init = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(params) };
      const response = await fetch(`${url}/chat/completions`, init);
      return params.stream ? response.body : response.json();
    };
  },
  async openai(url) {
    const { OpenAI } = await import("openai");
    const client = new OpenAI({ apiKey: "sk-simulated-key", baseURL: url });
    return (params) => client.chat.completions.create(params);
  },
  async tidegate(url) {
    const { Tidegate } = await import("../../../pkg/dist/index.js");
    const client = new Tidegate({ apiKey: "sk-simulated-key", baseURL: url });
    return (params) => client.chat.completions.create(params);
  },
};

/** Milliseconds to import it and make a client, microseconds a call, and microseconds a chunk. */
async function measure(name, url) {
  const began = performance.now();
  const call = await subjects[name](url);
  const first = performance.now() - began;
  const least = async (times, round) => {
    const rounds = [];
    for (let i = 0; i <= ROUNDS; i++) {
      const before = process.cpuUsage();
      await round();
      const { user, system } = process.cpuUsage(before);
      // In the first everything is compiled.
      if (i > 0) rounds.push((user + system) / times);
    }
    return Math.min(...rounds);
  };
  const calls = await least(CALLS, () =>
    Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (let i = 0; i < CALLS / AT_ONCE; i++) await call(params);
      }),
    ),
  );
  const chunks = await least(CHUNKS, async () => {
    let seen = 0;
    for await (const _ of await call({ ...params, stream: true })) seen++;
    // Bare bytes come in pieces of any size.
    if (name !== "fetch" && seen !== CHUNKS) throw new Error(`${name} saw ${seen} chunks`);
  });
  return { first, calls, chunks };
}

const [name, url] = process.argv.slice(2);
if (name === "serve") {
  await serve();
} else if (name !== undefined) {
  console.log(JSON.stringify(await measure(name, url)));
  process.exit();
} else {
  const server = spawn(process.execPath, [program, "serve"], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const url = await new Promise((resolve) => server.stdout.once("data", (data) => resolve(`${data}`.trim())));
    const found = {};
    for (const name of Object.keys(subjects)) {
      found[name] = JSON.parse(execFileSync(process.execPath, [program, name, url], { encoding: "utf8" }));
      const { first, calls, chunks } = found[name];
      const said = [`first client ${first.toFixed(1)} ms`, `a call ${calls.toFixed(0)} µs`, `a streamed chunk ${chunks.toFixed(2)} µs`];
      console.log(`${name}: ${said.join(", ")}`);
    }
    const over = (key) => (found.tidegate[key] / found.openai[key]).toFixed(2);
    console.log(`ours over openai: first client ${over("first")}, a call ${over("calls")}, a streamed chunk ${over("chunks")}`);
  } finally {
    server.kill();
  }
}
