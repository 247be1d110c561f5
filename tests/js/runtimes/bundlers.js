// Bundles that run in Node.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { build } from "esbuild";
import * as vite from "vite";
import webpack from "webpack";
import { runProgram, strictly } from "./programs.js";

/** The suite in a bundle, run away from node_modules, so that whatever was left out of it is missed. */
function bundled(name, file, bundle) {
  return {
    name,
    suite: {},
    async run(tools) {
      const out = join(tools.project, "out");
      await bundle(tools.project, out);
      await runProgram(tools, process.execPath, [...strictly, file], { cwd: out });
    },
  };
}

function withEsbuild(name, file, options) {
  return bundled(name, file, async (project, out) => {
    const common = { absWorkingDir: project, entryPoints: ["main.js"], bundle: true, logLevel: "error", outfile: join(out, file) };
    const { warnings } = await build({ ...common, ...options });
    if (warnings.length > 0) throw new Error(`esbuild warns: ${warnings.map(({ text }) => text).join("; ")}`);
  });
}

export default [
  withEsbuild("esbuild-esm", "bundle.mjs", { platform: "node", format: "esm" }),
  withEsbuild("esbuild-iife", "bundle.cjs", { platform: "browser", format: "iife", minify: true, keepNames: true }),
  bundled("vite-node", "bundle.mjs", (project, outDir) =>
    vite.build({
      root: project,
      configFile: false,
      logLevel: "warn",
      ssr: { noExternal: true },
      build: { ssr: "main.js", outDir, rollupOptions: { output: { entryFileNames: "bundle.mjs" } } },
    }),
  ),
  bundled("webpack", "bundle.cjs", async (project, path) => {
    const output = { path, filename: "bundle.cjs" };
    const stats = await promisify(webpack)({ context: project, mode: "production", target: "node", entry: "./main.js", output });
    if (stats.hasErrors() || stats.hasWarnings()) throw new Error(stats.toString({ colors: false }));
  }),
  {
    // As in an application whose pages are bundled one by one, with a client kept on `globalThis`.
    name: "copies",
    async run({ project }) {
      await mkdir(join(project, "copies"));
      const copy = async (name, contents) => {
        const outfile = join(project, "copies", `${name}.mjs`);
        await build({ stdin: { contents, resolveDir: project }, bundle: true, format: "esm", platform: "node", outfile });
        return import(outfile);
      };
      const { Tidegate } = await copy("client", 'export * from "tidegate";');
      const { TidegateError, RateLimitError, openaiOptions } = await copy("page", 'export * from "tidegate";\nexport * from "tidegate/openai";');
      const fetch = async () => Response.json({ choices: [{ index: 0, message: { content: "x" }, finish_reason: "stop" }] });
      const client = new Tidegate({ apiKey: "sk-1", baseURL: "http://127.0.0.1:9", fetch });
      const answer = await openaiOptions(client).fetch("http://127.0.0.1:9/chat/completions", { method: "POST", body: '{"model":"m"}' });
      if ((await answer.json()).choices[0].message.content !== "x") throw new Error("no answer through another copy's adapter");
      const error = await client.chat.completions.create({}).catch((error) => error);
      if (!(error instanceof TidegateError) || error instanceof RateLimitError) throw new Error("an error of another copy is not known");
    },
  },
  {
    // An application that imports the package and uses nothing of it must not carry it along.
    name: "tree-shaking",
    async run({ project }) {
      await mkdir(join(project, "shaken"));
      await writeFile(join(project, "shaken/main.js"), 'import { setCoreModule } from "tidegate";\nconsole.log(1);\n');
      const { outputFiles } = await build({
        absWorkingDir: project,
        entryPoints: ["shaken/main.js"],
        bundle: true,
        format: "esm",
        write: false,
      });
      const size = outputFiles[0].contents.length;
      if (size > 200) throw new Error(`${size} bytes are left of an import that is not used`);
    },
  },
];
