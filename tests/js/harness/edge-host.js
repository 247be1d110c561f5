// Serves a bundle in Vercel's edge-runtime: `node edge-host.js BUNDLE MODULE`. A process of its own, which a rejection that
// nobody handles ends.
import { readFileSync } from "node:fs";
import { EdgeRuntime, runServer } from "edge-runtime";

const [bundle, wasm] = process.argv.slice(2);
// As Next does: the module is compiled outside, in another realm, and lent as a global.
const lentModule = new WebAssembly.Module(readFileSync(wasm));
const runtime = new EdgeRuntime({
  initialCode: readFileSync(bundle, "utf8"),
  codeGeneration: { strings: false, wasm: false },
  // The openai package asks for the version of its process on Vercel's edge, where Next lends it one.
  extend: (context) => Object.assign(context, { lentModule, process: { env: {}, version: process.version } }),
});
const { url } = await runServer({ runtime, host: "127.0.0.1", port: 0 });
console.log(`listens on ${url}`);
