// The package itself: its size, its metadata, its types.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const kB = (bytes) => `${(bytes / 1000).toFixed(1)} kB`;

/** All of the package, bundled and minified, with the `.wasm` file beside it if there is one. */
async function size(project, conditions) {
  const { outputFiles } = await build({
    absWorkingDir: project,
    stdin: { contents: 'export * from "tidegate";', resolveDir: project },
    bundle: true,
    minify: true,
    format: "esm",
    conditions,
    loader: { ".wasm": "copy" },
    outdir: "sized",
    write: false,
    logLevel: "error",
  });
  return outputFiles.reduce((sum, { contents }) => sum + gzipSync(contents, { level: 9 }).length, 0);
}

export default [
  {
    name: "size",
    async run({ project }) {
      const budgets = [
        ["inline", [], 60_000],
        ["Workers", ["workerd"], 45_000],
      ];
      const lines = [];
      for (const [name, conditions, budget] of budgets) {
        const bytes = await size(project, conditions);
        if (bytes > budget) throw new Error(`${name}: ${kB(bytes)} minified and gzipped, over ${kB(budget)}`);
        lines.push(`${name} ${kB(bytes)} of ${kB(budget)}`);
      }
      const wasm = await readFile(join(project, "node_modules/tidegate/dist/wasm/core.wasm"));
      return `${lines.join(", ")}; the core alone ${kB(wasm.length)}, gzipped ${kB(gzipSync(wasm, { level: 9 }).length)}`;
    },
  },
  {
    name: "publint",
    async run({ execute, bin, tarball }) {
      await execute(join(bin, "publint"), ["run", tarball, "--strict"]);
    },
  },
  {
    name: "attw",
    async run({ execute, bin, tarball }) {
      await execute(join(bin, "attw"), [tarball, "--profile", "esm-only", "--no-color"]);
    },
  },
];
