// The reader of event streams against a plain reading of the standard, and against cases gathered from the suites of other
// parsers, which are found by TIDEGATE_TEST_DATA and are not part of the repository.
import { deepStrictEqual, ok } from "node:assert";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

const MANY = 128 * 2 ** 20;
const bytes = (text) => new TextEncoder().encode(text);
const base64 = (text) => Uint8Array.from(Buffer.from(text, "base64"));

/** The standard's steps to the letter, over the whole stream at once: `[type, data]` of each event, and the comments. */
function reference(stream) {
  const lines = new TextDecoder().decode(stream).replaceAll("\r\n", "\n").replaceAll("\r", "\n").split("\n");
  // What follows the last line end is an unfinished line.
  lines.pop();
  const events = [];
  let comments = 0;
  let data = "";
  let type = "";
  for (const line of lines) {
    const [, field, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (line === "") {
      if (data !== "") events.push([type || "message", data.slice(0, -1)]);
      data = type = "";
    } else if (line.startsWith(":")) comments++;
    else if (field === "data") data += `${value}\n`;
    else if (field === "event") type = value;
  }
  return { events, comments };
}

export default [
  {
    name: "event-stream",
    async run({ project }) {
      const { EventStream } = await import(join(project, "node_modules/tidegate/dist/sse.js"));
      const read = (chunks) => {
        const stream = new EventStream(MANY);
        const events = chunks.flatMap((chunk) => stream.feed(chunk));
        return { events, comments: stream.comments };
      };
      const cut = (stream, size) => {
        const chunks = [];
        for (let at = 0; at < stream.length; at += size) chunks.push(stream.subarray(at, at + size));
        return chunks;
      };

      // Streams out of the pieces that matter to the grammar, and bytes that are none.
      const pieces = ["data", "data: ", ":", ": ", " ", "\n", "\n", "\r", "\r\n", "\n\n", "event:", "id: ", "retry: ", "42", "\0"]
        .concat(["\u{feff}", "🌊", 'data: {"x":1}\n\n'])
        .map(bytes)
        .concat([[0xef], [0xf0, 0x9f], [0xff]].map((piece) => Uint8Array.from(piece)));
      let seed = 1;
      const random = (below) => (seed = (seed * 48271) % 0x7fffffff) % below;
      for (let i = 0; i < 20_000; i++) {
        const stream = Buffer.concat(Array.from({ length: random(60) }, () => pieces[random(pieces.length)]));
        deepStrictEqual(read(cut(stream, 1 + random(40))), reference(stream), `stream ${i}: ${JSON.stringify(stream.toString("latin1"))}`);
      }

      // What looked at a pending event again at each byte would not come to an end here.
      for (const [stream, length] of [[`data: ${"x".repeat(2 ** 20)}\n\n`, 2 ** 20], [`${"data: y\n".repeat(2 ** 17)}\n`, 2 ** 18 - 1]]) {
        deepStrictEqual(read(cut(bytes(stream), 1)).events[0][1].length, length);
      }

      for (const stream of ["data: 12345\ndata: 12345\n\n", "data: 1234567890123456", ": 123456789012345678\n"]) {
        const small = new EventStream(10);
        deepStrictEqual(small.feed(bytes(`data: 1\n\n${stream}`)), [["message", "1"]]);
        ok(small.overgrown, stream);
        deepStrictEqual(small.feed(bytes("data: 2\n\n")), [], stream);
      }
      const unfinished = new EventStream(MANY);
      unfinished.feed(bytes("data: [DO"));
      unfinished.feed(bytes("NE]"));
      deepStrictEqual(unfinished.finish(), "[DONE]");

      const folder = process.env.TIDEGATE_TEST_DATA;
      if (!folder) return "without the cases of TIDEGATE_TEST_DATA";
      const load = async (file) => JSON.parse(await readFile(join(folder, file), "utf8"));
      const divergent = new Set((await load("sse-cases-divergent.json")).map(({ name }) => name));
      const cases = (await load("sse-cases-open.json")).filter(({ name }) => !divergent.has(name));
      ok(cases.length > 100, `only ${cases.length} cases`);
      for (const { name, chunks, events: wanted, exact_count: exact } of cases) {
        const given = chunks.flatMap((chunk) =>
          typeof chunk === "string" ? [base64(chunk)] : Array(chunk.repeat.count).fill(base64(chunk.repeat.b64)),
        );
        const { events } = read(given);
        ok(exact ? events.length === wanted.length : events.length >= wanted.length, `${name}: ${events.length} events`);
        wanted.forEach(({ event, data, data_len_utf16: length }, i) => {
          if (event !== undefined) deepStrictEqual(events[i][0], event, name);
          if (data !== undefined) deepStrictEqual(events[i][1], data, name);
          if (length !== undefined) deepStrictEqual(events[i][1].length, length, name);
        });
        const whole = Buffer.concat(given);
        if (whole.length <= 5_000) for (let at = 1; at < whole.length; at++) deepStrictEqual(read([whole.subarray(0, at), whole.subarray(at)]).events, events, name);
      }
      return `${cases.length} cases`;
    },
  },
];
