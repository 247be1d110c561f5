// One sentence about each file, however many there are: `node summarise.js docs/*.md`
//
// Needs DEEPSEEK_API_KEY. All files are asked about at once; the client lets out as many requests as the provider takes.
import { readFile, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { Tidegate } from "tidegate";

/** What a former run learned of the limit, so that this one starts there. */
const LEARNED = ".tidegate.json";

const client = new Tidegate();
client.on("limit", ({ limit }) => process.stderr.write(`(${limit} at once)\n`));
client.on("stopped", ({ cause }) => process.stderr.write(`(stopped: ${cause})\n`));
await readFile(LEARNED, "utf8").then((saved) => client.restore(JSON.parse(saved)), () => {});

const stop = new AbortController();
process.once("SIGINT", () => stop.abort(new Error("interrupted")));

async function summarise(file) {
  const content = (await readFile(file, "utf8")).slice(0, 60_000);
  const messages = [
    { role: "system", content: "Say in one sentence what the document is about." },
    { role: "user", content },
  ];
  const { choices } = await client.chat.completions.create(
    { model: "deepseek-flash", messages, thinking: { type: "disabled" } },
    { workload: "background", onFull: "wait", signal: stop.signal },
  );
  console.log(`${basename(file)}: ${choices[0].message.content.trim().replaceAll(/\s+/g, " ")}`);
}

const results = await Promise.allSettled(process.argv.slice(2).map(summarise));
const failed = results.filter(({ status }) => status === "rejected");
for (const { reason } of failed) console.error(String(reason));

const { total } = client.metrics();
console.error(`${total.completed} of ${results.length} summarised; ${total.attempts} requests, ${total.slotRejections} answered 429`);
await writeFile(LEARNED, JSON.stringify(client.snapshot()));
process.exitCode = failed.length > 0 ? 1 : 0;
